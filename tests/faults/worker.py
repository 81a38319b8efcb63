"""
A gateway in a process of its own, whose clock may be wrong, and which may fall asleep at the worst moment.

``python -m faults.worker SETTINGS``, where the settings are the JSON of :class:`faults.workers.Settings`.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio

HOUR_S = 3600.0
STOP_HERE = "stop-here"
"""A request with this id is the one at which the process stops itself."""


def wrong_clocks(now: float) -> dict[str, Callable[[float], float]]:
    """What a wall clock that goes wrong at a moment shows later, by the right time."""
    return {
        "right": lambda real: real,
        "an hour ahead": lambda real: real + HOUR_S,
        "an hour behind": lambda real: real - HOUR_S,
        "frozen": lambda _: now,
        "backwards": lambda real: now - (real - now),
    }


class WallClock:
    """In the place of ``time.time`` and ``time.time_ns``, before anything else is imported that reads them."""

    def __init__(self) -> None:
        self._real = time.time
        self._shown: Callable[[float], float] = lambda real: real
        time.time = self.read
        time.time_ns = lambda: int(self.read() * 1e9)

    def read(self) -> float:
        """The time, as it is shown."""
        return self._shown(self._real())

    def jump(self, how: str) -> None:
        """Go wrong from now on."""
        self._shown = wrong_clocks(self._real())[how]


class Calm:
    """
    Stops this process while its store has nothing to do.

    One that stands still in the middle of a transaction has SQLite's turn, and keeps everybody from the file.
    """

    def __init__(self, store: Any) -> None:
        self._apply = store.apply
        self._running = 0
        store.apply = self.apply

    async def apply(self, operations: Sequence[Any]) -> Any:
        """As the store's own."""
        self._running += 1
        try:
            return await self._apply(operations)
        finally:
            self._running -= 1

    async def stop(self) -> None:
        """Stand still."""
        while self._running:  # noqa: ASYNC110  # what renews the lease, or sweeps; nobody tells
            await anyio.sleep(0.001)
        os.kill(os.getpid(), signal.SIGSTOP)


def stop_before_it_is_sent(transport: Any, calm: Calm) -> None:
    """Stop this process when the provider is about to be called."""
    send = transport.send

    async def stopping(call: Any, **settings: Any) -> Any:
        if STOP_HERE.encode() in call.body:
            await calm.stop()
        return await send(call, **settings)

    transport.send = stopping


def stop_once_it_is_held(store: Any, calm: Calm) -> None:
    """Stop this process when the store has placed the hold, and before anybody is told."""
    from hpp_middleware.types.operations import Reserve

    async def stopping(operations: Sequence[Any]) -> Any:
        results = await calm.apply(operations)
        if any(isinstance(each, Reserve) and each.draft.client_request_id == STOP_HERE for each in operations):
            await calm.stop()
        return results

    store.apply = stopping


def made(settings: dict[str, Any]) -> Any:
    """The gateway's app."""
    from rig import gateway

    from faults import places
    from hpp_middleware.core import limits
    from hpp_middleware.stages.reserve import lease
    from hpp_middleware.transports.httpx import HttpxTransport
    from hpp_middleware.types.limits import RateLimit

    limits.SLOT_S = settings["slot_s"]
    lease.LEASE_S, lease.RENEW_AFTER_S, lease.MARGIN_S = settings["lease_s"]
    lease.SWEEP_AFTER_S = lease.RENEW_AFTER_S
    store, transport = places.made(settings["kind"], settings["place"]), HttpxTransport()
    calm = Calm(store)
    if settings["stops"] == "once held":
        stop_once_it_is_held(store, calm)
    if settings["stops"] == "before sending":
        stop_before_it_is_sent(transport, calm)
    found = gateway(
        settings["upstream"],
        store=store,
        transports={"fake": transport},
        nano=settings["nano"],
        pepper=b"a pepper for the tests",
        journal=settings["journal"],
        rate_limits=[RateLimit(**limit) for limit in settings["limits"]],
    )
    return found.app


def main() -> None:
    """Serve until told to end."""
    settings = json.loads(sys.argv[1])
    clock = WallClock()
    if settings["jumps"] == "before it starts":
        clock.jump(settings["clock"])
    signal.signal(signal.SIGUSR1, lambda *_: clock.jump(settings["clock"]))
    import uvicorn

    uvicorn.run(made(settings), host="127.0.0.1", port=settings["port"], log_level="warning", ws="none")


if __name__ == "__main__":
    main()
