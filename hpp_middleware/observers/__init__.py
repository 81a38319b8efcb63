"""Who is told what happened: logging here; others come as extras."""

from hpp_middleware.observers.logging import LoggingObserver

__all__ = ["LoggingObserver"]
