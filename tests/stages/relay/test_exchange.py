"""One exchange over a transport of a host's own, which may raise anything at any time, and is always closed."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import pytest
from rig import ALICE, CANARY, USAGE_NANO, Witness, ask, check_books, chunks, gateway, question, read_chat

from hpp_middleware import Gateway, UpstreamError
from hpp_middleware.ports import UpstreamResponse
from hpp_middleware.testing.script import Script, answer
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Timeouts

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("stream", [False, True])
NOWHERE = "http://127.0.0.1:9/v1"


@dataclass
class Scripted:
    """A transport and its one response: pieces and faults, in order."""

    stream: bool = False
    fault: Exception | None = None
    fault_before_sent: Exception | None = None
    fault_after: int | None = None
    fault_in_aclose: bool = False
    at_once: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    calls: list[HTTPCall] = field(default_factory=list)
    closed: int = 0
    pools_closed: int = 0
    reads: int = 0

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        assert provider == "fake"
        self.calls.append(call)
        if self.fault_before_sent is not None:
            raise self.fault_before_sent.with_traceback(None)  # it is raised by other tests, too
        sent()
        if self.fault is not None and self.fault_after is None:
            raise self.fault.with_traceback(None)
        script = answer(Script(), json.loads(call.body), number=1)
        self.reads = 0
        pieces = [piece.data for piece in script.pieces if piece.data]
        return _Response(self, pieces, {**dict(script.headers), **self.headers})

    async def aclose(self) -> None:
        self.pools_closed += 1


class _Response:
    def __init__(self, owner: Scripted, pieces: list[bytes], headers: Mapping[str, str]) -> None:
        self.status, self.headers, self._owner, self._pieces = owner.status, headers, owner, pieces

    async def read(self) -> bytes:
        if not self._owner.at_once or self._owner.reads == 0:
            await anyio.lowlevel.checkpoint()
        if self._owner.fault is not None and self._owner.reads == self._owner.fault_after:
            raise self._owner.fault.with_traceback(None)
        self._owner.reads += 1
        return self._pieces.pop(0) if self._pieces else b""

    async def aclose(self) -> None:
        self._owner.closed += 1
        if self._owner.fault_in_aclose:
            raise OSError(CANARY)


def over(transport: Scripted, **settings: Any) -> Gateway:
    return gateway(NOWHERE, transports={"fake": transport}, **settings)


def is_bug(fault: Exception) -> bool:
    return isinstance(fault, KeyError | RuntimeError)


FAULTS = [
    OSError(CANARY),
    EOFError(CANARY),
    KeyError(CANARY),
    RuntimeError(CANARY),
    UpstreamError("It broke.", provider="fake"),
]


@BOTH
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_transport_that_raises_before_anything_was_sent_costs_nothing(
    fault: Exception,
    stream: bool,  # noqa: FBT001
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with over(Scripted(fault_before_sent=fault)) as found:
        status, body = await read_chat(found, stream=stream)
        assert status == (500 if is_bug(fault) else 502)
        assert CANARY.encode() not in body
        assert CANARY not in caplog.text
        assert ("test_exchange.py:" in caplog.text) == ("(Scripted.send)" in caplog.text) == is_bug(fault)
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (0, "failed")


@BOTH
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
@pytest.mark.parametrize("after", [None, 0, 1])
async def test_a_transport_that_raises_later_is_an_upstream_that_broke(
    fault: Exception,
    after: int | None,
    stream: bool,  # noqa: FBT001
) -> None:
    transport = Scripted(fault=fault, fault_after=after)
    async with over(transport) as found:
        status, body = await read_chat(found, stream=stream)
        assert CANARY.encode() not in body
        if status == 200 and after == 1 and not stream:
            pytest.fail("a body that broke off was passed on")
        error = chunks(body)[-1]["error"] if stream and after is not None else json.loads(body)["error"]
        assert (error["type"], error["provider"], error["retryable"]) == (
            "server_error" if is_bug(fault) else "upstream_error",
            "fake",
            isinstance(fault, OSError | EOFError),
        )
        if after is not None and not isinstance(fault, UpstreamError):
            assert error["upstream_status"] == 200
        (line,) = await check_books(found)
        assert line.report.outcome == "failed"
        assert (line.amount > 0) == (after == 1)
        assert transport.closed == (after is not None)


async def test_a_bug_of_the_transports_is_no_mark_against_its_provider() -> None:
    breaker = Breaker(failures=2)
    async with over(Scripted(fault=KeyError(CANARY)), provider={"breaker": breaker}) as found:
        for _ in range(4):
            assert (await read_chat(found))[0] == 500
        assert found.provider_states() == {"fake": "closed"}


@BOTH
async def test_a_fault_after_the_last_event_changes_nothing(stream: bool) -> None:  # noqa: FBT001
    transport = Scripted(fault=OSError(), fault_after=6 if stream else 99)
    async with over(transport) as found:
        status, body = await read_chat(found, stream=stream)
        assert status == 200
        assert stream is False or body.endswith(b"data: [DONE]\n\n")
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")


@BOTH
async def test_a_response_that_cannot_be_closed_changes_nothing(stream: bool) -> None:  # noqa: FBT001
    async with over(Scripted(fault_in_aclose=True)) as found:
        assert (await found.complete(ALICE, question(stream=stream))).status == 200
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")


@BOTH
async def test_a_response_is_closed_once_however_it_ends(stream: bool) -> None:  # noqa: FBT001
    for settings in (
        {},
        {"status": 500},
        {"headers": {"content-encoding": "gzip"}},
        {"headers": {"content-type": "x/y"}},
    ):
        transport = Scripted(**settings)
        async with over(transport) as found:
            await read_chat(found, stream=stream)
            assert transport.closed == 1


async def test_a_hosts_own_transport_is_the_hosts_to_close() -> None:
    transport = Scripted()
    found = over(transport)
    for _ in range(2):
        async with found:
            await found.complete(ALICE, question())
    assert transport.pools_closed == 0


async def test_the_call_is_built_from_nothing() -> None:
    transport = Scripted()
    async with over(transport, provider={"headers": {"X-Title": "ours"}}) as found:
        secrets = {
            "cookie": "c=1",
            "x-forwarded-for": "1.2.3.4",
            "authorization": "Bearer alice-shows-this-key-of-hers",
        }
        async with ask(found, headers=secrets) as call:
            await call.read()
            request_id = call.headers["x-request-id"]
    (sent,) = transport.calls
    assert sent.url == f"{NOWHERE}/chat/completions"
    assert dict(sent.headers) == {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": "hpp-router",
        "X-Request-Id": request_id,
        "X-Title": "ours",
        "Authorization": f"Bearer {CANARY}",
    }
    assert sent.connect_s == 5


async def test_the_time_that_a_request_took_is_told() -> None:
    witness = Witness()
    timeouts = Timeouts(connect=1, first_byte=5, idle=5, total=10)
    async with over(Scripted(), observers=[witness], timeouts=timeouts) as found:
        reply = await found.complete(ALICE, question())
        (told,) = witness.settled
        assert told.entries[0].hold == reply.id
        assert told.first_byte_s is not None
        assert 0 <= told.first_byte_s <= told.duration_s < 10


async def test_streams_that_have_come_together_are_passed_on_before_one_of_them_is_put_away_or_settled(
    anyio_backend_name: str,
) -> None:
    if anyio_backend_name != "asyncio":
        return  # elsewhere who is next is chance
    witness, transport = Witness(), Scripted(at_once=True)
    over_before_told: list[tuple[int, int]] = []

    async def send(data: bytes) -> None:
        if b"[DONE]" in data:
            over_before_told.append((transport.closed, len(witness.settled)))

    async with over(transport, observers=[witness]) as found:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(partial(found.complete, ALICE, question(stream=True), send=send))
        assert over_before_told == [(0, 0)] * 3
        assert (transport.closed, len(witness.settled)) == (3, 3)
        await check_books(found)
