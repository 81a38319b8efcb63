"""A worker: what a gateway has in one event loop, how it lives, and who may come in."""
