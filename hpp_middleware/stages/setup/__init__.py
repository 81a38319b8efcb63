"""Setup: a gateway's settings, checked, and what is made of them before any event loop runs."""
