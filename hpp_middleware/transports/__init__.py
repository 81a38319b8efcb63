"""HTTP clients, each behind the one port."""
