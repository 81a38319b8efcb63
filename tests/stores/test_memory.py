"""The memory store keeps every promise of a store."""

import time
from collections.abc import Callable

import pytest

from hpp_middleware import MemoryStore
from hpp_middleware.testing import AUDIT_PROMISES, STORE_PROMISES
from hpp_middleware.testing.stores import Promise

pytestmark = pytest.mark.anyio


async def make(clock: Callable[[], float] = time.time) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.mark.parametrize("promise", [*STORE_PROMISES, *AUDIT_PROMISES], ids=lambda promise: promise.__name__)
async def test_the_memory_store_keeps_its_promise_that(promise: Promise) -> None:
    await promise(make)
