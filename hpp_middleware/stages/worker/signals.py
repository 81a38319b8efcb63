"""
A signal heard besides whatever a server does at it, so that streams end before the server gives them up.

A server that is told to stop waits for its open streams, for ever or for so long, and ends the lifespan after that: no
part of ASGI says beforehand that this has begun. Only a host may put a handler to a signal, and so it has to ask.
"""

import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import FrameType

import anyio

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stages.tasks.beside import beside
from hpp_middleware.stages.tasks.guard import asyncios

__all__ = ["heeding"]


@asynccontextmanager
async def heeding(drain: Callable[[], Awaitable[None]], *numbers: int) -> AsyncIterator[None]:
    """
    Drain when one of these signals comes, until the block ends; the handler that was there before is called as well.

    Args:
        drain: What to do.
        numbers: The signals.
    Raises:
        ConfigurationError: This is not the main thread, which alone hears of signals.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigurationError("signals are heard in the main thread only")
    heard = anyio.Event()
    wake = _waker()
    before = {number: signal.getsignal(number) for number in numbers}

    def told(number: int, frame: FrameType | None) -> None:
        wake(heard.set)
        handler = before[number]
        if callable(handler):
            handler(number, frame)

    async def wait() -> None:
        await heard.wait()
        await drain()

    async with beside(wait):
        for number in numbers:
            signal.signal(number, told)
        try:
            yield
        finally:
            for number, handler in before.items():
                if signal.getsignal(number) is told:
                    signal.signal(number, handler)


def _waker() -> Callable[[Callable[[], None]], object]:
    """What may be called in the middle of anything, and has the event loop call something soon."""
    loop = asyncios()
    if loop is not None:
        return loop.call_soon_threadsafe
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon
