"""Tasks: work that can be stopped from beside it, and work that nobody's cancellation tears."""
