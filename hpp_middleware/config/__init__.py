"""
A TOML file into a gateway: ``load("router.toml").gateway()``.

Everything in the file is checked before anything is opened, and every problem is named by its key's full path. Needs
the ``cli`` extra.
"""

from hpp_middleware.config.loading import load
from hpp_middleware.config.settings import Settings

__all__ = ["Settings", "load"]
