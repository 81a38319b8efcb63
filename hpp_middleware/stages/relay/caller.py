"""The peer of a completion where there is no HTTP: a host's own code."""

from collections.abc import Awaitable, Callable

import anyio

from hpp_middleware.core.settlement import Settlement
from hpp_middleware.types.http import Headers, Reply

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

    def reply(self, request_id: str, settlement: Settlement) -> Reply:
        """All of it; one that is given again has its first one's id."""
        request_id = dict(self.headers).get("X-Request-Id", request_id)
        headers = [*(each for each in self.headers if each[0] != "X-Request-Id"), ("X-Request-Id", request_id)]
        return Reply(
            status=self.status,
            headers=headers,
            body=b"".join(self.pieces),
            cost=settlement.amount,
            id=request_id,
            outcome=settlement.outcome,
        )

    async def gone(self) -> None:
        """Never: who calls cancels instead."""
        await anyio.sleep_forever()
