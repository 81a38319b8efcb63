"""The client, as one exchange of several has it."""

from collections.abc import Callable

import anyio

from hpp_middleware.ports import Client
from hpp_middleware.types.http import Headers

__all__ = ["Line"]


class Line:
    """
    The client, as one exchange has it; departures come by way of the cascade.

    Args:
        client: Where answers go.
        holds: Keep the answer back.
    """

    def __init__(self, client: Client, *, holds: bool = False) -> None:
        self.patient = client.patient
        self.started = False
        self.status = 0
        self.headers: Headers = []
        self._client = client
        self._holds = holds
        self._pieces: list[bytes] = []
        self._left: Callable[[], None] | None = None

    @property
    def body(self) -> bytes:
        """What was kept back."""
        return b"".join(self._pieces)

    async def start(self, status: int, headers: Headers) -> None:
        """The head: kept, or passed on."""
        self.started = True
        if self._holds:
            self.status, self.headers = status, headers
        else:
            await self._client.start(status, headers)

    async def send(self, data: bytes, *, more: bool) -> None:
        """A piece: kept, or passed on."""
        if self._holds:
            self._pieces.append(data)
        else:
            await self._client.send(data, more=more)

    def hear(self, left: Callable[[], None]) -> Callable[[], None]:
        """Remember whom to tell."""
        self._left = left
        return lambda: None

    def leave(self) -> None:
        """The client has left."""
        if self._left is not None:
            self._left()

    async def gone(self) -> None:
        """Nobody listens here."""
        await anyio.sleep_forever()
