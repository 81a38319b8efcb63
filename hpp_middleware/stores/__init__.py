"""Backends: memory and SQLite. Each knows its one library."""
