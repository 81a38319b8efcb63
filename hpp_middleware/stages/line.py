"""The client, as one exchange of several has it."""

import time
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
        late: Keep the head of the answer back until there is something of the answer itself: of a stream, an event, or
            the first sign of life that is due. So that a stream which breaks before that may be begun anew.
        began: Called when the head is passed on.

    Attributes:
        started: Whether the client, or what is kept, has the head of an answer.
        quiet_s: How long a client is left without a head, where it is kept back for an event: in seconds; None for as
            long as it takes.
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
        self.quiet_s: float | None = None
        self.started = False
        self.status = 0
        self.headers: Headers = []
        self._client = client
        self._holds = holds
        self._late = late
        self._began = began
        self._pieces: list[bytes] = []
        self._left: Callable[[], None] | None = None
        self._since = 0.0

    @property
    def body(self) -> bytes:
        """What was kept back."""
        return b"".join(self._pieces)

    async def start(self, status: int, headers: Headers) -> None:
        """The head: kept, or passed on."""
        self.status, self.headers = status, headers
        if self._late:
            self._since = time.monotonic()
            return
        self.started = True
        if not self._holds:
            await self._pass_on()

    async def send(self, data: bytes, *, more: bool) -> None:
        """A piece: kept, or passed on; comments that come before any event are neither, for as long as that may be."""
        if self._holds:
            self._pieces.append(data)
            return
        if self._late:
            if more and not sse.has_event(data) and not self._is_long:
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

    @property
    def _is_long(self) -> bool:
        """Whether the head was kept back for longer than a client is to hear nothing."""
        return self.quiet_s is not None and time.monotonic() >= self._since + self.quiet_s

    async def _pass_on(self) -> None:
        if self._began is not None:
            self._began()
        await self._client.start(self.status, self.headers)
