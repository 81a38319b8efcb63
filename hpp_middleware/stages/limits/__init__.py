"""Limits: what a consumer may ask for in a window of time, and at once."""
