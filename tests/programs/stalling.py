"""An event loop that stands still now and then, as on a machine with too little time for it."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import anyio

__all__ = ["stalling"]

_BETWEEN_S = (0, 0, 0.001, 0.005, 0.02)
_STANDS_S = (0.005, 0.03, 0.06, 0.12, 0.2)
"""From under the shortest deadline of a program to above those that providers have: what is due together varies."""


@asynccontextmanager
async def stalling(seed: int) -> AsyncGenerator[None]:
    """
    Let the loop stand still at random, from between two turns of it to a fifth of a second.

    What a machine does that is short of time: a deadline passes while the answer lies there unread, a client has left
    before anybody looked, and tasks that were to run one after the other find everything ready at once.
    """
    rng = Random(seed)

    async def stall() -> None:
        while True:
            await anyio.sleep(rng.choice(_BETWEEN_S))
            if rng.random() < 0.3:
                time.sleep(rng.choice(_STANDS_S))  # noqa: ASYNC251  # the loop itself is to stand still

    async with anyio.create_task_group() as beside:
        beside.start_soon(stall)
        try:
            yield
        finally:
            beside.cancel_scope.cancel()
