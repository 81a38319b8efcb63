"""Relay: an answer on its way from a provider to a client, and what happens when one of them stops."""
