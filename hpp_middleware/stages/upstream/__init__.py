"""Upstream: one call to a provider, how it is reached, and whether it is well."""
