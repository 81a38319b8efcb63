"""The peer of a completion where there is no HTTP: a host's own code."""

from collections.abc import Awaitable, Callable

import anyio

from hpp_middleware.types.http import Headers

__all__ = ["Caller"]


class Caller:
    """
    See :class:`hpp_middleware.ports.Client`: pieces are kept, and passed on as they come.

    Args:
        send: Called with each piece.
    """

    patient = False

    def __init__(self, send: Callable[[bytes], Awaitable[None]] | None) -> None:
        self.started = False
        self.status = 0
        self.headers: Headers = []
        self.pieces: list[bytes] = []
        self._send = send

    async def start(self, status: int, headers: Headers) -> None:
        """Keep the head."""
        self.started, self.status, self.headers = True, status, headers

    async def send(self, data: bytes, *, more: bool) -> None:  # noqa: ARG002  # the end shows by the return
        """Keep a piece, and pass it on."""
        self.pieces.append(data)
        if self._send is not None and data:
            await self._send(data)

    def hear(self, left: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002  # who calls us cannot leave
        """Nobody will."""
        return lambda: None

    async def gone(self) -> None:
        """Never: who calls cancels instead."""
        await anyio.sleep_forever()
