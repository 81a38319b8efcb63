"""Who is asking: a hundred thousand unknown keys, and one that is shown all the time."""

import random
from collections import Counter

import pytest
from rounds import SOAK

from hpp_middleware.core import auth
from hpp_middleware.errors import RequestError
from hpp_middleware.stages import auth as stage
from stages.authenticating import (
    ALICE,
    Clock,
    Keys,
    authenticator,
    credential,
    headers,
    refused,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"] if SOAK else ["asyncio"])
async def test_a_hundred_thousand_random_keys_leave_the_caches_small_and_ask_the_store_once_each(
    anyio_backend: str,
) -> None:
    store, clock = Keys(credential()), Clock()
    found = authenticator(store, clock)
    draw = random.Random(11)
    for number in range(100_000):
        key, _ = auth.make_key(draw.randbytes(8), draw.randbytes(20))
        if number % 2:
            key = key[:-1] + ("0" if key[-1] != "0" else "1")
        for _ in range(2 if number % 1000 < 2 else 1):
            with pytest.raises(RequestError):
                await found.consumer(headers(key))
        clock.now += 1e-6
    assert len(store.asked) == 50_000, "a bad checksum asks nothing"
    assert max(Counter(store.asked).values()) == 1, "and nobody is asked for twice within two seconds"
    assert len(found._cache.unknown) == stage.MOST_CACHED
    assert len(found._cache.known) == 0
    assert not found._cache.flights
    assert await found.consumer(headers()) == ALICE


async def test_an_unknown_key_that_is_shown_all_the_time_asks_the_store_every_two_seconds() -> None:
    store, clock = Keys(), Clock()
    found = authenticator(store, clock)
    for _ in range(1000):
        await refused(found)
        clock.now += 0.01
    assert len(store.asked) == 5
