"""HTTP as values: what is sent to an upstream, and what the client is told."""

from typing import Literal

from msgspec import Struct

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
        timeouts: See :class:`hpp_middleware.types.provider.Timeouts`; here only what the transport itself enforces.
    """

    url: str
    headers: Headers
    body: bytes
    connect_s: float
    method: str = "POST"
    shared: tuple[tuple[str, str], ...] = ()


class Reply(Struct, frozen=True, kw_only=True):
    """
    What a completion came to, where no HTTP response carries it.

    Attributes:
        status: 200; errors are raised.
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
