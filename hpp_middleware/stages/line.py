"""The client, as one exchange of several has it."""

from collections.abc import Callable

import anyio

from hpp_middleware.core import sse
from hpp_middleware.ports import Client
from hpp_middleware.types.http import Headers

__all__ = ["Line"]


class Line:
    """
    The client, as one exchange has it; departures come by way of who has several.

    Args:
        client: Where answers go.
        holds: Keep the answer back.
        late: Keep the head of the answer back until there is something of the answer itself: of a stream, an event. So
            that a stream which breaks before that may be begun anew.
        began: Called when the head is passed on.

    Attributes:
        started: Whether the client, or what is kept, has the head of an answer.
    """

    def __init__(
        self,
        client: Client,
        *,
        holds: bool = False,
        late: bool = False,
        began: Callable[[], None] | None = None,
    ) -> None:
        self.patient = client.patient
        self.started = False
        self.status = 0
        self.headers: Headers = []
        self._client = client
        self._holds = holds
        self._late = late
        self._began = began
        self._pieces: list[bytes] = []
        self._left: Callable[[], None] | None = None

    @property
    def body(self) -> bytes:
        """What was kept back."""
        return b"".join(self._pieces)

    async def start(self, status: int, headers: Headers) -> None:
        """The head: kept, or passed on."""
        self.status, self.headers = status, headers
        if self._late:
            return
        self.started = True
        if not self._holds:
            await self._pass_on()

    async def send(self, data: bytes, *, more: bool) -> None:
        """A piece: kept, or passed on; comments that come before any event are neither."""
        if self._holds:
            self._pieces.append(data)
            return
        if self._late:
            if more and not sse.has_event(data):
                return
            self._late, self.started = False, True
            await self._pass_on()
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

    async def _pass_on(self) -> None:
        if self._began is not None:
            self._began()
        await self._client.start(self.status, self.headers)
