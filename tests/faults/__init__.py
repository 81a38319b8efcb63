"""Requests cancelled at each of their steps, and processes killed at each of theirs."""
