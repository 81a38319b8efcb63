"""``[streams]``: how streams are kept up."""

from hpp_middleware.config.section import Section
from hpp_middleware.config.values import Seconds
from hpp_middleware.types.streams import KeepAliveKind

__all__ = ["KeepAliveSection", "StreamsSection"]


class KeepAliveSection(Section):
    """``keep_alive``: see :class:`hpp_middleware.types.streams.KeepAlive`."""

    after: Seconds | None = None
    kind: KeepAliveKind | None = None


class StreamsSection(Section):
    """``[streams]``."""

    keep_alive: KeepAliveSection = KeepAliveSection()
