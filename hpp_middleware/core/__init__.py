"""Decisions. Nothing here awaits, reads a clock, draws an id, or knows a framework."""
