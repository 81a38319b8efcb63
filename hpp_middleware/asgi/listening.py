"""
A client's departure heard without a task that waits for it, where the server itself is asked.

``receive`` of the servers named here waits for futures of asyncio's and for nothing else: what it waits for can call
back instead, and it can be ended while it waits. A host's middleware in between may do anything there; then a task
listens.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import lru_cache
from typing import Any

from starlette.types import Receive

__all__ = ["Listening", "is_plain"]

_PLAIN = ("uvicorn.protocols.http.", "asyncio.queues")  # uvicorn's, and hypercorn's queue


def is_plain(receive: Receive) -> bool:
    """Whether it is the server's own."""
    kind: Any = type(getattr(receive, "__self__", None))
    return _is_servers(kind)


@lru_cache(maxsize=16)
def _is_servers(kind: type) -> bool:
    return kind.__module__.startswith(_PLAIN)


class Listening:
    """
    Asks ``receive`` until it tells of a departure.

    Args:
        receive: The server's own.
        left: Called when the client has left, in no task; at once, if it has already.
    """

    _waiting: Coroutine[Any, Any, Any] | None = None
    _waits_for: "asyncio.Future[Any] | None" = None

    def __init__(self, receive: Receive, left: Callable[[], None]) -> None:
        self._receive = receive
        self._left: Callable[[], None] | None = left
        self._go_on()

    def stop(self) -> None:
        """Hear no more."""
        self._left = None
        if self._waiting is not None and self._waits_for is not None:
            self._waits_for.remove_done_callback(self._go_on)
            self._waiting.close()
            self._waiting = self._waits_for = None

    def _go_on(self, _: object = None) -> None:
        """What it waited for is there, or was cancelled: see what comes of that."""
        while self._left is not None:
            if self._waiting is None:
                asking: Any = self._receive()
                self._waiting = asking
            try:
                self._waits_for = self._waiting.send(None)
            except StopIteration as ended:
                self._waiting = self._waits_for = None
                if ended.value["type"] != "http.disconnect":
                    continue
                self._tell()
            except (Exception, asyncio.CancelledError):  # noqa: BLE001  # a server that cannot be asked has no client
                self._tell()
            else:
                self._waits_for.add_done_callback(self._go_on)
            return

    def _tell(self) -> None:
        left, self._left = self._left, None
        if left is not None:
            left()
