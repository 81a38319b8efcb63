"""
What a limit store promises that several processes share, and what is left when one of them is killed.

As for :mod:`hpp_middleware.testing.stores.processes`: the processes are real ones, and are told where the store is.
"""

import anyio

from hpp_middleware.testing.stores.limiting import ask, draw, slot
from hpp_middleware.testing.stores.processes import NAMES, opened, started, together

__all__ = ["EACH", "TTL_S", "check_shared_limits"]

MODULE = "hpp_middleware.testing.stores.limit_worker"
CORRECTIONS = 25

EACH = 10**13
"""Units that one costs: so many that none comes back while the processes run."""

TTL_S = 3.0


async def check_shared_limits(factory: str, place: str) -> None:
    """
    Hold a limit store to what it promises to four processes at once, and to one that is killed.

    Args:
        factory: ``module:function``, which makes a store for a place.
        place: Where an empty store is.
    """
    said = await together(factory, place, "race", 20, module=MODULE)
    counts = [tuple(map(int, line.split())) for lines in said for line in lines]
    assert sum(drawn for drawn, _ in counts) == 10, "processes that race draw no more than there is"
    assert sum(placed for _, placed in counts) == 7, "nor have they more places than there are"
    await together(factory, place, "correct", CORRECTIONS, module=MODULE)
    async with opened(factory, place) as store:
        used = (await store.take(ask(draw(0, 10**3, key="sum", each=10**10)))).used[0]
        assert -(-used // 10**10) == 3 * CORRECTIONS * len(NAMES), "no correction of theirs is lost"
        async with started(factory, place, "killed", "hold", 0, module=MODULE) as worker:
            assert await worker.line() == "ready", "every process opens the store"
            await worker.begin()
            assert await worker.line() == "True", "a free place is taken"
            worker.process.kill()
            await worker.process.wait()
        assert not (await store.take(ask(slot("next", 1, key="held")))).admitted, "who is killed gives nothing back"
        await anyio.sleep(TTL_S + 0.5)
        assert (await store.take(ask(slot("next", 1, key="held")))).admitted, "but its place comes back by itself"
