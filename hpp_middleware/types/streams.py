"""How streams are kept up."""

from dataclasses import dataclass
from typing import Literal

from hpp_middleware.errors import ConfigurationError

__all__ = ["KeepAlive", "KeepAliveKind"]

KeepAliveKind = Literal["off", "comment", "chunk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """
    What a stream says while its provider is silent, so that nobody on the way takes its connection for dead.

    Attributes:
        after: The silence before it, in seconds.
        kind: ``comment`` is a comment of SSE's, which clients skip; ``chunk`` an event without content, for clients of
            chat completions that cannot read comments; ``off`` says nothing. Anthropic's Messages have a ``ping`` for
            either, and Responses a comment.
    """

    after: float = 15.0
    kind: KeepAliveKind = "comment"

    def __post_init__(self) -> None:
        if not self.after > 0:
            raise ConfigurationError("keep_alive.after must be above 0 seconds", param="keep_alive.after")
        if self.kind not in {"off", "comment", "chunk"}:
            raise ConfigurationError("keep_alive.kind must be off, comment or chunk", param="keep_alive.kind")
