"""The Starlette sub-app: the only place that knows a web framework."""
