"""Route: which model, which of its upstreams, in what order, and in whose words each is asked."""
