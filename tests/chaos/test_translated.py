"""
A client that leaves a translated stream, at each point of it: it is charged what the same stream costs that breaks off.

Each dialect, as its vendor streams, before each API of ours. A stream that is cut after its k-th piece shows what the
client is told of k pieces, and what they cost; then one that stands still there is left by a client that has read all
that.
"""

import re
from typing import Any

import anyio
import pytest
from matrix.features import COUNTS, Said
from matrix.vendors import _SPOKEN, VENDORS
from rig import KEY, check_books, gateway

from hpp_middleware import Gateway, Provider
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.provider import Limits, Timeouts
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

SAID = Said(text="Grüße an alle", tool="weather", arguments='{"city":"Bonn"}')
WORDS: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 500}
APIS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/llm/v1/chat/completions", WORDS),
    "messages": ("/v1/messages", WORDS),
    "responses": ("/llm/v1/responses", {"input": "Hi", "max_output_tokens": 500, "store": False}),
}
PATHS = {
    "openai": "/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": ":streamGenerateContent",
    "bedrock": "/converse-stream",
    "ollama": "/api/chat",
}
PATIENT = Timeouts(connect=10, first_byte=20, idle=20, total=30)
USED = (COUNTS.prompt - COUNTS.cached) * 1_000 + COUNTS.cached * 250 + COUNTS.completion * 2_000
"""What all of them report in the end; a thought costs as much as a word."""
FAULTS = (b"event: error", b"event: response.failed", b'data: {"error"')


def pieces(vendor: str) -> tuple[str, list[bytes]]:
    """A vendor's stream, event by event, and its media type."""
    spoken = next(each for ending, each in _SPOKEN if re.search(ending, PATHS[vendor]))
    data = spoken.stream(SAID, VENDORS[vendor].counts)
    if vendor == "bedrock":
        found = []
        while data:
            length = int.from_bytes(data[:4], "big")
            found.append(data[:length])
            data = data[length:]
        return spoken.stream_type, found
    blank = b"\n" if vendor == "ollama" else b"\r\n\r\n" if vendor == "gemini" else b"\n\n"
    return spoken.stream_type, [part + blank for part in data.split(blank) if part]


def before_the_fault(told: bytes) -> list[bytes]:
    """What a client was told of a stream before it was told that it broke off."""
    events = [event for event in told.split(b"\n\n") if event]
    while events and (events[-1].startswith(FAULTS) or b'"finish_reason":"error"' in events[-1]):
        events.pop()
    if [event.partition(b"\n")[0] for event in events] == [b"event: response.created", b"event: response.in_progress"]:
        return []  # they may have been told for the fault's sake
    return events


async def all_of_it(upstream: FakeUpstream, requests: int, size: int) -> None:
    """Wait until so many bytes of the last of so many requests have come, and were dealt with."""
    await upstream.arrived(requests)
    while upstream.log[-1].bytes_sent < size:
        await anyio.wait_all_tasks_blocked()
    await anyio.wait_all_tasks_blocked()


async def settled(found: Gateway, after: int) -> Entry:
    """The ledger's next line, the books being in order."""
    lines = await check_books(found)
    assert len(lines) == after + 1
    return lines[-1]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("vendor", PATHS)
async def test_it_can_be_left_after_each_piece(vendor: str, api: str, fake_upstream: FakeUpstream) -> None:
    stream_type, parts = pieces(vendor)
    known, (path, fields) = VENDORS[vendor], APIS[api]
    model = f"{vendor}/{known.model}"
    base = fake_upstream.url.removesuffix("/v1") + known.base
    price = {"input": "1", "cache_read": "0.25", "output": "2"}
    provider = Provider(base_url=base, api_key="key", timeouts=PATIENT, breaker=None, retries=0, **known.settings)

    def ask(found: Gateway) -> Any:
        body = {"model": model, "stream": True, **fields}
        return post(found.app, path, body, headers={"apikey": KEY}, ahead=0)

    settings: dict[str, Any] = {
        "providers": {vendor: provider},
        "models": {model: price},
        "limits": Limits(usage_wait_s=0.05),
    }
    async with gateway(base, **settings) as found:
        for number in range(1, len(parts) + 1):
            script = Script(raw_events=parts, content_type=stream_type, truncate_after_events=number)
            fake_upstream.next(script)
            async with ask(found) as call:
                told = await call.read()
                await call.returned()
            events = before_the_fault(told)
            broken = await settled(found, 2 * number - 2)
            whole = broken.report.outcome == "completed"
            fake_upstream.next(Script(raw_events=parts, content_type=stream_type, stall_after_events=number))
            async with ask(found) as call:
                await call.started()
                for _ in events:
                    assert await call.event()
                await all_of_it(fake_upstream, 2 * number, sum(map(len, parts[:number])))
                call.disconnect()
                with anyio.fail_after(10):
                    await call.returned()
            left = await settled(found, 2 * number - 1)
            with anyio.fail_after(10):
                await fake_upstream.idle()
            assert fake_upstream.log[-1].closed_early
            assert left.report.outcome == ("completed" if whole else "abandoned")
            assert (left.amount, left.report.usage) == (broken.amount, broken.report.usage), number
            assert left.report.estimated == broken.report.estimated
            assert 0 < left.amount <= left.held
        assert not left.report.estimated
        assert left.amount == USED
