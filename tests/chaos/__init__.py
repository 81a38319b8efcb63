"""Faults, one by one, at each position: what the client sees, what is charged, what is retried."""
