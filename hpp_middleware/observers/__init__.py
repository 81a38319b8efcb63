"""Who is told what happened: logging here; Prometheus, in a module of its own, with its extra."""

from hpp_middleware.observers.logging import LoggingObserver

__all__ = ["LoggingObserver"]
