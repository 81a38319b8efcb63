"""A gateway that reads streams on for clients that leave, and clients that leave."""

from typing import Any

import anyio
from rig import ask, check_books, gateway

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.types.quota import Entry

DRAIN = {"on_disconnect": "drain"}


def draining(upstream: FakeUpstream, *, provider: dict[str, Any] | None = None, **settings: Any) -> Gateway:
    return gateway(upstream, provider={**DRAIN, **(provider or {})}, **settings)


async def only_line(found: Gateway) -> Entry:
    (line,) = await check_books(found)
    return line


async def left(upstream: FakeUpstream, number: int = 0) -> bool:
    """Whether the upstream was closed before it had finished."""
    with anyio.fail_after(5):
        await upstream.idle()
    return upstream.log[number].closed_early


def estimate(upstream: FakeUpstream, text: str = "") -> int:
    return -(-len(upstream.log[0].body) // 4) * 1_000 + -(-len(text.encode()) // 4) * 2_000


def result(line: Entry) -> tuple[int, str, bool]:
    return line.amount, line.report.outcome, line.report.estimated


async def leave_after(found: Gateway, events: int, **fields: Any) -> None:
    """Take so many events of a stream, leave, and wait until the app has returned."""
    async with ask(found, stream=True, **fields) as call:
        for _ in range(events):
            assert await call.event()
        call.disconnect()
        with anyio.fail_after(5):
            await call.returned()


async def leave_before_the_head(found: Gateway, upstream: FakeUpstream) -> None:
    async with ask(found, stream=True) as call:
        await upstream.arrived()
        await anyio.wait_all_tasks_blocked()
        call.disconnect()
        with anyio.fail_after(5):
            await call.returned()
