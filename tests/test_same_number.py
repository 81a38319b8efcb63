"""
The same number everywhere: header, body, last event, ledger, audit, and the difference in what the account has used.

Every row of the settlement table that a client can see, as JSON and as a stream, the cost told in either way. Amounts
are compared as whole nano-dollars, and the texts of the JSON numbers among each other: no float has a part in it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import Raw
from rig import ALICE, KEY, ask, gateway, question

from hpp_middleware import ConfigurationError, Gateway
from hpp_middleware.testing import USAGE, FakeUpstream, Script, get
from hpp_middleware.testing.upstream import Exchange
from hpp_middleware.types.http import CostIn
from hpp_middleware.types.provider import Timeouts
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

PRICES = {"input": "0.123457", "output": "0.777001"}
"""Of which hardly any sum is a whole number of nano-dollars."""
SHORT = Timeouts(connect=1, first_byte=0.3, idle=0.3, total=5)
THEIRS = {"cost": 0.25, "cost_details": {"upstream_inference_cost": 0.125}}
USAGE_TEXT = json.dumps(USAGE).encode()

Amount = Callable[[Exchange, Entry], int]
"""What a request must cost, by the witness's log, and the hold that its ledger entry names."""


def price(prompt: int, completion: int) -> int:
    """In nano-dollars, rounded up once."""
    return -(-(prompt * 123_457 + completion * 777_001) // 1000)


def reported(**counts: int) -> Amount:
    """The price of a report."""
    told = {**USAGE, **counts}
    return lambda _exchange, _entry: price(told["prompt_tokens"], told["completion_tokens"])


def estimated(tokens: int) -> Amount:
    """The price of an estimate: a token for four bytes of what was sent, and so many for what was relayed."""
    return lambda exchange, entry: min(entry.held, price(-(-len(exchange.body) // 4), tokens))


def hold(_exchange: Exchange, entry: Entry) -> int:
    """All that was held."""
    return entry.held


def nothing(_exchange: Exchange, _entry: Entry) -> int:
    """0."""
    return 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """
    A row of the table, as a client sees it.

    Attributes:
        view: What it sees: a ``whole`` answer, an ``error`` in the place of one, or a ``broken`` stream.
        streams: Whether it is a row of JSON answers, of streams, or of both.
    """

    script: Script
    amount: Amount
    estimated: bool = False
    outcome: str = "completed"
    view: str = "whole"
    streams: tuple[bool, ...] = (False, True)
    settings: dict[str, Any] = field(default_factory=dict)


def failing(script: Script, amount: Amount = nothing, **fields: Any) -> Row:
    return Row(**{"script": script, "amount": amount, "outcome": "failed", "view": "error", **fields})


def breaking(script: Script, amount: Amount, **fields: Any) -> Row:
    return failing(script, amount, **{"view": "broken", "streams": (True,), **fields})


def early_report() -> bytes:
    """A stream that reports its usage first, and then runs past its cap."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake-1"}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    texts = [{**head, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}] * 300
    events = [{**head, "choices": [], "usage": usage}, *texts]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def as_json(body: bytes, **fields: Any) -> Script:
    return Script(raw_body=body, content_type="application/json", **fields)


DOUBTFUL = {**USAGE, "total_tokens": 5}
DEAR = {"prompt_tokens": 9, "completion_tokens": 1000, "total_tokens": 1009}
MALFORMED = {"prompt_tokens": -1, "completion_tokens": 2, "total_tokens": 1}
ROWS: dict[str, Row] = {
    "usage reported": Row(script=Script(), amount=reported()),
    "usage reported with the finish reason": Row(script=Script(usage_in="last chunk"), amount=reported()),
    "usage reported in every piece": Row(script=Script(usage_in="every chunk"), amount=reported()),
    "usage reported with the upstream's own cost": Row(script=Script(usage={**USAGE, **THEIRS}), amount=reported()),
    "the same in every piece": Row(script=Script(usage={**USAGE, **THEIRS}, usage_in="every chunk"), amount=reported()),
    "usage of zero": Row(script=Script(usage="zero"), amount=nothing),
    "no end mark": Row(script=Script(omit_done=True), amount=reported(), streams=(True,)),
    "usage missing, estimated": Row(script=Script(usage=None), amount=estimated(3), estimated=True),
    "usage missing, the hold": Row(
        script=Script(usage=None), amount=hold, estimated=True, settings={"missing_usage": "hold"}
    ),
    "usage missing, free": Row(
        script=Script(usage=None), amount=nothing, estimated=True, settings={"missing_usage": "free"}
    ),
    "usage that is none": Row(
        script=Script(usage=MALFORMED, usage_in="last chunk"), amount=estimated(3), estimated=True
    ),
    "usage that contradicts itself": Row(script=Script(usage=DOUBTFUL), amount=reported(), estimated=True),
    "usage that contradicts itself, above the hold": Row(
        script=Script(usage={**DEAR, "total_tokens": 5}), amount=hold, estimated=True
    ),
    "usage above the hold": Row(script=Script(usage=DEAR), amount=reported(**DEAR)),
    "cut past its cap": Row(
        script=Script(endless=True, texts=("word ",)), amount=hold, estimated=True, streams=(True,)
    ),
    "cut past its cap after an early report": Row(
        script=Script(raw_body=early_report(), content_type="text/event-stream"),
        amount=hold,
        estimated=True,
        streams=(True,),
    ),
    "refused": failing(Script(status=429)),
    "refused with usage": failing(Script(status=500, error={"error": {"message": "no"}, "usage": USAGE}), reported()),
    "closed before the head": failing(Script(close_before_head=True)),
    "an error in spite of its status": failing(as_json(b'{"error":{"message":"no"}}')),
    "an error in spite of its status, with usage": failing(
        as_json(b'{"error":{"message":"no"},"usage":' + USAGE_TEXT + b"}"), reported()
    ),
    "JSON that breaks off": failing(Script(truncate_at_byte=30), estimated(0), estimated=True, streams=(False,)),
    "JSON that is no completion, with usage": failing(
        as_json(b'{"usage":' + USAGE_TEXT + b"}"), reported(), streams=(False,)
    ),
    "no head before the deadline": failing(
        Script(delay_head_s=60), estimated(0), estimated=True, settings={"timeouts": SHORT}
    ),
    "a stream that breaks off": breaking(Script(truncate_after_events=3), estimated(3), estimated=True),
    "a stream that breaks off after its usage": breaking(
        Script(truncate_after_events=5, finish_reason=None), reported()
    ),
    "a stream that breaks off before its first byte": breaking(Script(truncate_at_byte=0), nothing),
    "a stream that ends in an error": breaking(
        Script(error_event={"error": {"message": "no"}}), estimated(3), estimated=True
    ),
    "a stream of an error alone": breaking(
        Script(raw_body=b'data: {"error":{"message":"no"}}\n\n', content_type="text/event-stream"), nothing
    ),
    "a stream that falls silent": breaking(
        Script(stall_after_events=2), estimated(2), estimated=True, settings={"timeouts": SHORT}
    ),
}
CASES = [
    pytest.param(row, stream, id=f"{name}{', stream' * stream}") for name, row in ROWS.items() for stream in row.streams
]


async def exact(found: Gateway, path: str) -> dict[str, Raw]:
    """A JSON object as it came, its members raw."""
    async with get(found.app, path, headers={"apikey": KEY}) as call:
        assert await call.started() == 200
        return msgspec.json.decode(await call.read(), type=dict[str, Raw])


def nano(number: Raw | str) -> int:
    """Whole nano-dollars from the text of a number."""
    amount = Decimal(number if isinstance(number, str) else bytes(number).decode()) * 10**9
    assert amount == int(amount)
    return int(amount)


@dataclass(frozen=True)
class Totals:
    """What an account has used, by every reader of it."""

    used: int
    tokens: int

    @classmethod
    async def read(cls, found: Gateway) -> "Totals":
        """Read them; they agree."""
        usage, quota = await exact(found, "/api/usage"), await exact(found, "/api/quota-check")
        used = nano(usage["used"])
        assert used == nano(usage["total_cost"]) == nano(quota["used"])
        assert (
            used == nano(usage["quota"]) - nano(usage["remaining"]) == nano(quota["quota"]) - nano(quota["available"])
        )
        assert used == sum(line.amount for line in await found.store.lines("alice"))
        return cls(used, int(bytes(usage["total_tokens"])))


async def on_the_books(found: Gateway, before: Totals) -> tuple[dict[str, Raw], list[Entry]]:
    """The audit entry and the ledger's lines of the last request, which agree with what the account has used since."""
    after = await Totals.read(found)
    last = (await found.store.lines("alice"))[-1].hold
    lines = await found.store.entries("alice", last)
    audit = await exact(found, f"/api/user/audit/{last}")
    assert nano(audit["cost"]) == sum(line.amount for line in lines) == after.used - before.used
    assert msgspec.json.decode(audit["usage"])["total_tokens"] == after.tokens - before.tokens
    return audit, lines


def last_object(body: bytes, row: Row, *, stream: bool) -> dict[str, Raw]:
    """The body, or the last event of the stream that is one; its members raw."""
    if stream and row.view != "error":
        events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event.startswith(b"data: ")]
        assert (events[-1] == b"[DONE]") == (row.view == "whole")
        body = events[-2 if row.view == "whole" else -1]
    return msgspec.json.decode(body, type=dict[str, Raw])


def check_told(usage: dict[str, Raw], audit: dict[str, Raw]) -> None:
    """The ``usage`` that an answer says its cost in, and the audit entry: the same texts of the same numbers."""
    assert bytes(usage["cost"]) == bytes(audit["cost"])
    assert "cost_details" not in usage
    assert bytes(usage.get("estimated", Raw(b"false"))) == bytes(audit["estimated"])
    tokens = msgspec.json.decode(audit["usage"], type=dict[str, Raw])
    for name in ("prompt_tokens", "completion_tokens"):
        assert bytes(usage[name]) == bytes(tokens[name])


@pytest.mark.parametrize("cost_in", ["header", "usage"])
@pytest.mark.parametrize(("row", "stream"), CASES)
async def test_the_client_the_ledger_and_every_reader_have_the_same_number(
    row: Row,
    stream: bool,  # noqa: FBT001  # a parameter of the test
    cost_in: CostIn,
    fake_upstream: FakeUpstream,
) -> None:
    async with gateway(fake_upstream, model=PRICES, cost_in=cost_in, **row.settings) as found:
        await ask_once(found, stream=stream)  # so that there is something to tell from
        before = await Totals.read(found)
        assert before.used == price(9, 2)
        fake_upstream.script = row.script
        headers, body = await ask_once(found, stream=stream)
        audit, lines = await on_the_books(found, before)

        amount = sum(line.amount for line in lines)
        assert amount == row.amount(fake_upstream.log[-1], lines[0])
        assert (lines[-1].report.outcome, lines[-1].report.estimated) == (row.outcome, row.estimated)
        assert len(lines) == (2 if amount > lines[0].held else 1)

        started = stream and row.view != "error"  # the head was sent before the cost was known
        assert headers.get("x-hpp-router-cost") == (None if started else bytes(audit["cost"]).decode())
        last = last_object(body, row, stream=stream)
        if cost_in == "usage" and (started or row.view == "whole"):
            check_told(msgspec.json.decode(last["usage"], type=dict[str, Raw]), audit)
            assert body.count(b'"cost":') == 1
        elif stream or row.view != "whole":
            assert b'"usage":' not in body
        elif row.script.usage != "zero":
            assert json.loads(body).get("usage") == row.script.usage  # the upstream's, untouched


async def ask_once(found: Gateway, **fields: Any) -> tuple[dict[str, str], bytes]:
    """The headers and the body of one exchange, which has ended."""
    async with ask(found, **fields) as call:
        await call.started()
        body = await call.read()
        await call.returned()
        return call.headers, body


@pytest.mark.parametrize("where", ["own chunk", "last chunk", "every chunk"])
async def test_a_client_that_asked_for_usage_gets_one_event_of_it_that_has_the_cost(
    where: Any, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(usage={**USAGE, **THEIRS}, usage_in=where)
    async with gateway(fake_upstream, model=PRICES, cost_in="usage") as found:
        before = await Totals.read(found)
        _, body = await ask_once(found, stream=True, stream_options={"include_usage": True})
        audit, _ = await on_the_books(found, before)
        events = [msgspec.json.decode(event[6:]) for event in body.split(b"\n\n")[:-2]]
        assert [event["choices"] == [] for event in events] == [False] * (len(events) - 1) + [True]
        assert [event for event in events if "cost" in (event.get("usage") or {})] == events[-1:]
        assert nano(audit["cost"]) == price(9, 2)
        assert body.count(b'"cost":' + bytes(audit["cost"])) == 1


@pytest.mark.parametrize("cost_in", ["header", "usage"])
@pytest.mark.parametrize(("usage_in", "tokens"), [("own chunk", None), ("every chunk", 1)])
async def test_a_stream_that_its_client_left_has_one_number_on_all_books(
    cost_in: CostIn, usage_in: Any, tokens: int | None, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(stall_after_events=2, usage_in=usage_in)
    async with gateway(fake_upstream, model=PRICES, cost_in=cost_in) as found:
        before = await Totals.read(found)
        async with ask(found, stream=True) as call:
            for _ in range(2):
                await call.event()
            call.disconnect()
            await call.returned()
        _, (line,) = await on_the_books(found, before)
        expected = estimated(2) if tokens is None else reported(completion_tokens=tokens)
        assert line.amount == expected(fake_upstream.log[-1], line)
        assert (line.report.outcome, line.report.estimated) == ("abandoned", tokens is None)


@pytest.mark.parametrize("cost_in", ["header", "usage"])
@pytest.mark.parametrize("policy", ["estimate", "hold", "free"])
@pytest.mark.parametrize("usage", [USAGE, None])
async def test_a_json_answer_that_nobody_waited_for_has_one_number_on_all_books(
    cost_in: CostIn, policy: str, usage: Any, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(usage=usage)
    fake_upstream.holding = True
    async with gateway(fake_upstream, model=PRICES, cost_in=cost_in, missing_usage=policy) as found:
        before = await Totals.read(found)
        async with ask(found) as call:
            await fake_upstream.arrived()
            await anyio.wait_all_tasks_blocked()
            call.disconnect()
            await anyio.wait_all_tasks_blocked()
            fake_upstream.holding = False
            await call.returned()
        _, (line,) = await on_the_books(found, before)
        expected = reported() if usage else estimated(3)  # whatever the policy for whole answers
        assert line.amount == expected(fake_upstream.log[-1], line)
        assert (line.report.outcome, line.report.estimated) == ("abandoned", usage is None)


async def test_a_completion_without_http_says_the_same_number(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, model=PRICES, cost_in="usage") as found:
        for stream in (False, True):
            before = await Totals.read(found)
            reply = await found.complete(ALICE, question(stream=stream))
            audit, _ = await on_the_books(found, before)
            assert reply.cost == nano(audit["cost"]) == price(9, 2)
            assert reply.body.count(b'"cost":' + bytes(audit["cost"])) == 1


async def test_a_refusal_of_the_routers_own_costs_nothing_and_says_nothing_of_a_cost(
    fake_upstream: FakeUpstream,
) -> None:
    async with gateway(fake_upstream, model=PRICES, cost_in="usage") as found:
        before = await Totals.read(found)
        headers, body = await ask_once(found, max_tokens=9_000_000_000)
        assert await Totals.read(found) == before
        assert "x-hpp-router-cost" not in headers
        assert b"cost" not in body


def test_the_cost_is_told_in_a_place_that_there_is() -> None:
    with pytest.raises(ConfigurationError) as raised:
        gateway("http://127.0.0.1:9/v1", cost_in="body")
    assert raised.value.param == "cost_in"
