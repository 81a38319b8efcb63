"""HTTP as values: what is sent to an upstream, and what the client is told."""

from typing import Literal

from msgspec import Struct

from hpp_middleware.types.quota import Outcome

__all__ = ["CostIn", "HTTPCall", "Headers", "Reply"]

Headers = list[tuple[str, str]]

CostIn = Literal["header", "usage"]
"""Where a client is told what it is charged: in the response's head, or in the answer's ``usage`` as well."""


class HTTPCall(Struct, frozen=True, kw_only=True):
    """
    A request to an upstream, built from nothing.

    Attributes:
        url: The whole URL; its host comes from the operator's configuration only.
        headers: Exactly what is sent, besides ``Host`` and ``Content-Length``.
        shared: The first of ``headers``, where they are the same object in every call of a kind: a transport may keep
            what it makes of them.
        body: The JSON body.
        connect_s: How long a connection may take to open: the one deadline that the transport itself enforces.
        more_tokens: Tokens that the provider puts into the prompt by itself, at most: they stand in no byte of the
            body, and are held for.
        unsized: Whether some of these are of a document, a video or sound, of whose size only the usage tells, so that
            no estimate of the prompt is worth anything.
        least_cap: Output tokens, a choice, that no lower grant can do with: an image is drawn whole.
        long_cache: Whether the prompt, or a part, may be written to a cache that lasts an hour, at that rate.
        dropped: Fields of the client's that this provider has no word for, and that change nothing of the answer's
            worth; the client is told in ``X-HPP-Router-Dropped-Fields``.
        stream_type: The media type that a streamed answer has; what has another is none.
    """

    url: str
    headers: Headers
    body: bytes
    connect_s: float
    method: str = "POST"
    shared: tuple[tuple[str, str], ...] = ()
    more_tokens: int = 0
    unsized: bool = False
    least_cap: int = 0
    long_cache: bool = False
    dropped: tuple[str, ...] = ()
    stream_type: str = "text/event-stream"


class Reply(Struct, frozen=True, kw_only=True):
    """
    What a completion came to, where no HTTP response carries it.

    Attributes:
        status: 200; errors are raised, but for one that breaks off a stream: it is the stream's last event.
        outcome: What the ledger says: ``failed`` for such a stream; None for an answer that was given again.
        headers: The contract's response headers, ``X-HPP-Router-*`` among them.
        body: The JSON body, or the whole SSE stream.
        cost: Nano-dollars charged.
        id: The ledger entry's id.
    """

    status: int
    headers: Headers
    body: bytes
    cost: int
    id: str
    outcome: Outcome | None = None
