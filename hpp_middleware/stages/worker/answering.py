"""The answers in flight, each from before its hold until it is settled: counted, awaited, and ended when time is up."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import anyio

from hpp_middleware.errors import GatewayError

__all__ = ["Answering", "Expiring"]


class Expiring(Protocol):
    """An exchange, as far as its end is concerned."""

    def expire(self, error: GatewayError) -> None:
        """End it now; the client is told why there is no more."""
        ...


class Answering:
    """All of a worker's."""

    __slots__ = ("_error", "_live", "_none")

    def __init__(self) -> None:
        self._live: set[Expiring] = set()
        self._none: anyio.Event | None = None
        self._error: Callable[[], GatewayError] | None = None  # what each is ended with from now on

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._live)

    @property
    def held(self) -> int:
        """What is held for them, in nano-dollars; any thread may ask."""
        jobs = [getattr(each, "job", None) for each in list(self._live)]
        return sum(job.hold for job in jobs if job is not None)  # else its hold is only being placed

    def began(self, exchange: Expiring) -> None:
        """There is one more."""
        self._live.add(exchange)
        if self._error is not None:
            exchange.expire(self._error())

    def ended(self, exchange: Expiring) -> None:
        """There is one less."""
        self._live.remove(exchange)
        if not self._live and self._none is not None:
            self._none.set()
            self._none = None

    async def give_way(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """
        Let others pass on what they have by now, before an answer that is out is put away and settled.

        Of streams that begin together the first ones end before the last ones have their first token, which would wait
        for all that is done about those ends.

        Args:
            loop: The event loop that runs, where it is asyncio's or takes its place; elsewhere who is next is chance.
        """
        if len(self._live) > 1 and loop is not None:
            await asyncio.sleep(0)

    def expire(self, error: Callable[[], GatewayError]) -> None:
        """End all, those that are to come as well, each with an error of its own."""
        self._error = error
        for exchange in list(self._live):
            exchange.expire(error())

    async def none_is_left(self, within_s: float = float("inf")) -> None:
        """Return when there are none, or after so many seconds."""
        with anyio.move_on_after(within_s):
            while self._live:
                self._none = self._none or anyio.Event()
                await self._none.wait()
