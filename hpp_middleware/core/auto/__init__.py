"""
``hpprouter/auto``: which model answers a request that leaves it to the router. Pure: a request's facts in, a model out.

Filters first, preferences after: see :mod:`.filters`, :mod:`.rules`, and ``docs/auto.md``.
"""

from hpp_middleware.core.auto.rules import AutoPolicy, Learned, Tier

__all__ = ["AutoPolicy", "Learned", "Tier"]
