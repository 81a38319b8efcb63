"""What an answer says of its own cost: the settlement's number, once, exactly, and in the place of the upstream's."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from rounds import rounds

from hpp_middleware.core import relay_json, settlement, usage
from hpp_middleware.core.relay import ProtocolError, Relay
from hpp_middleware.core.relay_cost import priced, unpriced
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.core.sse import DONE, Event
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Model, Provider

TARGET = Target(
    id="p/real/model",
    provider_name="p",
    model_name="real/model",
    provider=Provider(base_url="https://p.test"),
    model=Model(),
    price=Price(base=Rates(input=123_456_700_001, output=7_000_000_000_003)),
)
HOLD = 10**9
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
COST = 14_865
"""In nano-dollars: (7 x 123.456700001 + 2 x 7000.000000003), rounded up once."""
THEIRS = {"cost": 0.5, "cost_details": {"upstream_inference_cost": 0.4}, "estimated": True, "is_byok": False}


class Till:
    """Charges as the gateway does, and remembers for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[End, Seen]] = []

    def __call__(self, end: End, seen: Seen) -> Settlement:
        self.asked.append((end, seen))
        return charged(end, seen)


def charged(end: End, seen: Seen) -> Settlement:
    return settlement.settle(end, seen, price=TARGET.price, hold=HOLD, prompt_estimate=11)


def seen_of(raw: bytes) -> Seen:
    reading = usage.read_openai(raw)
    assert reading is not None
    return Seen(usage=reading.usage, usage_raw=Raw(raw), usage_doubtful=reading.doubtful)


def said(raw: Raw | bytes) -> Any:
    """Its JSON, every number exact."""
    return json.loads(bytes(raw), parse_float=Decimal)


# --- the usage object ------------------------------------------------------------------------------


def test_a_reported_usage_keeps_its_bytes_and_gains_the_cost() -> None:
    raw = b'{ "prompt_tokens":7, "completion_tokens":2,"total_tokens":9,"x":{ "a":1.10 }}'
    assert bytes(priced(seen_of(raw), charged(End.COMPLETED, seen_of(raw)))) == (
        b'{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9,"x":{ "a":1.10 },"cost":0.000014865}'
    )


def test_what_the_upstream_says_of_the_cost_makes_way() -> None:
    seen = seen_of(json.dumps(USAGE | THEIRS).encode())
    assert said(priced(seen, charged(End.COMPLETED, seen))) == USAGE | {
        "is_byok": False,
        "cost": Decimal("0.000014865"),
    }
    escaped = seen_of(b'{"prompt_tokens":7,"completion_tokens":2,"\\u0063ost":{"total_cost":9}}')
    assert bytes(priced(escaped, charged(End.COMPLETED, escaped))).endswith(
        b'"completion_tokens":2,"cost":0.000014865}'
    )


def test_a_report_in_doubt_is_shown_as_it_came_and_its_cost_called_an_estimate() -> None:
    seen = seen_of(json.dumps(USAGE | {"total_tokens": 8}).encode())
    assert said(priced(seen, charged(End.COMPLETED, seen))) == USAGE | {
        "total_tokens": 8,
        "cost": Decimal("0.000014865"),
        "estimated": True,
    }


@pytest.mark.parametrize("raw", [None, b'{"prompt_tokens":-1,"completion_tokens":2,"cost":3}', b"[]", b"5"])
def test_without_a_usable_report_the_tokens_are_those_of_the_ledger(raw: bytes | None) -> None:
    seen = Seen(usage_raw=None if raw is None else Raw(raw), relayed_bytes=9)
    settled = charged(End.COMPLETED, seen)
    assert settled.usage == Usage(input=11, output=3)
    found = said(priced(seen, settled))
    assert Decimal(found.pop("cost")) * 10**9 == settled.amount
    assert found == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14, "estimated": True}


def test_a_report_that_the_charge_does_not_stand_on_is_not_shown() -> None:
    seen = seen_of(json.dumps(USAGE).encode())
    outrun = Settlement(5_000, "completed", estimated=True, usage=Usage(input=7, output=30))
    assert said(priced(seen, outrun)) == {
        "prompt_tokens": 7,
        "completion_tokens": 30,
        "total_tokens": 37,
        "cost": Decimal("0.000005"),
        "estimated": True,
    }


def test_nothing_is_a_number_too() -> None:
    seen = seen_of(b'{"prompt_tokens":0,"completion_tokens":0}')
    assert bytes(priced(seen, charged(End.COMPLETED, seen))) == b'{"prompt_tokens":0,"completion_tokens":0,"cost":0}'
    refused = priced(Seen(), charged(End.REFUSED, Seen()))
    assert bytes(refused) == b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0,"cost":0}'


@given(st.integers(0, 9 * 10**15))
def test_any_amount_is_written_exactly_and_as_short_as_can_be(amount: int) -> None:
    raw = bytes(priced(Seen(), Settlement(amount, "completed", estimated=False, usage=Usage())))
    text = raw.partition(b'"cost":')[2].removesuffix(b"}").decode()
    assert Decimal(text) * 10**9 == amount
    assert not ("." in text and text.endswith(("0", ".")))
    assert "e" not in text


@pytest.mark.parametrize("raw", [b'{ "prompt_tokens":1, "x":1.0}', b"null", b"[1]", b'"x"', b"{}", b'{"\xff":1}'])
def test_a_usage_that_says_nothing_of_the_cost_is_left_byte_for_byte(raw: bytes) -> None:
    assert bytes(unpriced(Raw(raw))) == raw


def test_a_usage_on_its_way_loses_what_it_says_of_the_cost() -> None:
    assert said(unpriced(Raw(json.dumps(USAGE | THEIRS).encode()))) == USAGE | {"is_byok": False}


# --- whole answers ---------------------------------------------------------------------------------

CHOICES = [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"usage": USAGE}, USAGE),
        ({"usage": USAGE | THEIRS}, USAGE | {"is_byok": False}),
        ({}, {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13, "estimated": True}),
        ({"usage": None}, {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13, "estimated": True}),
        ({"usage": "none"}, {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13, "estimated": True}),
    ],
)
def test_a_whole_answer_says_what_it_is_charged(members: dict[str, Any], expected: dict[str, Any]) -> None:
    till = Till()
    body = json.dumps({"id": "c", "choices": CHOICES, **members, "x": 1}).encode()
    data, seen = relay_json.answer(body, Request(fields={}, model="m"), TARGET, charge=till)
    found = said(data)
    assert Decimal(found["usage"].pop("cost")) * 10**9 == charged(End.COMPLETED, seen).amount
    assert found == {"id": "c", "choices": CHOICES, "x": 1, "model": TARGET.id, "usage": expected}
    assert till.asked == [(End.COMPLETED, seen)]


def test_unasked_an_answer_passes_with_whatever_the_upstream_says_of_the_cost() -> None:
    body = json.dumps({"choices": CHOICES, "usage": USAGE | THEIRS}).encode()
    data, _ = relay_json.answer(body, Request(fields={}, model="m"), TARGET)
    assert json.loads(data)["usage"] == USAGE | THEIRS


# --- streams ---------------------------------------------------------------------------------------


def chunk(**fields: Any) -> dict[str, Any]:
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "x", **fields}


def text(content: str = "hi", finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return chunk(choices=[{"index": 0, "delta": {"content": content}, "finish_reason": finish}], **fields)


END = text("", finish="stop")
GROWN = [text("a", usage={"prompt_tokens": 7, "completion_tokens": n} | THEIRS) for n in (1, 2)]
ALONE = [chunk(choices=[], usage={"prompt_tokens": 7, "completion_tokens": n} | THEIRS) for n in (1, 2)]
MOONSHOT = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}])
STREAMS: dict[str, tuple[list[Any], dict[str, Any] | None]] = {
    "of its own": ([text(usage=None), END, chunk(choices=[], usage=USAGE, x={"y": 1})], {"x": {"y": 1}}),
    "of its own, priced by the upstream": ([text(), END, chunk(choices=[], usage=USAGE | THEIRS)], {}),
    "of its own without choices": ([text(), END, chunk(usage=USAGE)], {}),
    "of its own without a head": ([text(), END, {"usage": USAGE}], {}),
    "of its own before the end": ([text(), chunk(choices=[], usage=USAGE), END], {}),
    "of its own, twice": ([text(), END, *ALONE], {}),
    "of its own, twice, between the texts": ([ALONE[0], text(), ALONE[1], END], {}),
    "with the finish reason": ([text(), END | {"usage": USAGE | THEIRS}], {}),
    "with every piece": ([*GROWN, END | {"usage": USAGE}], {}),
    "with a piece, and then of its own": ([*GROWN, END, chunk(choices=[], usage=USAGE)], {}),
    "in the choice": ([text(), MOONSHOT], {}),
    "nowhere": ([text("hello"), END], None),
    "unreadable": ([text("hello"), END, chunk(choices=[], usage={"prompt_tokens": -1, "completion_tokens": 2})], None),
}
reports = pytest.mark.parametrize(("events", "more"), STREAMS.values(), ids=STREAMS.keys())
asked = pytest.mark.parametrize("include_usage", [False, True])


def started(till: Till | None, *, include_usage: bool, cap: int = 1000) -> Relay:
    return Relay(Request(fields={}, model="m", stream=True, include_usage=include_usage), TARGET, cap=cap, charge=till)


def relayed(reader: Relay, events: list[Any], *, mark: bool = True) -> list[Any]:
    """What the client gets, an item an event, ``b"[DONE]"`` among them."""
    got = b"".join(reader.feed(Event(json.dumps(each).encode())) for each in events)
    got += reader.feed(Event(b"[DONE]")) if mark else reader.close()
    assert got.endswith(DONE)
    data = [item.removeprefix(b"data: ") for item in got.split(b"\n\n")[:-1]]
    return [item if item == b"[DONE]" else said(item) for item in data]


@reports
@asked
@pytest.mark.parametrize("mark", [False, True])
def test_a_stream_ends_in_one_usage_event_with_what_it_is_charged(
    events: list[Any], more: dict[str, Any] | None, *, include_usage: bool, mark: bool
) -> None:
    till = Till()
    reader = started(till, include_usage=include_usage)
    *texts, last, done = relayed(reader, events, mark=mark)
    assert done == b"[DONE]"
    assert till.asked == [(End.COMPLETED, reader.seen)]

    shown = last.pop("usage")
    assert Decimal(shown["cost"]) * 10**9 == charged(End.COMPLETED, reader.seen).amount
    assert shown.get("estimated") == (None if more is not None else True)
    if more is not None:
        assert shown["cost"] == Decimal("0.000014865")
        assert (shown["prompt_tokens"], shown["completion_tokens"]) == (7, 2)
    else:
        assert (shown["prompt_tokens"], shown["completion_tokens"]) == (11, 2)
    assert last == chunk(choices=[], model=TARGET.id, **(more or {}))

    assert [item["choices"] for item in texts] == [each["choices"] for each in events if each.get("choices")]
    mentioned = [item["usage"] for item in texts if item.get("usage") is not None]
    assert not any("cost" in item or "cost_details" in item for item in mentioned)
    assert include_usage or not mentioned


@reports
@asked
def test_all_else_of_a_stream_is_as_it_is_without_the_cost(
    events: list[Any], more: dict[str, Any] | None, *, include_usage: bool
) -> None:
    def others(till: Till | None) -> list[Any]:
        found = relayed(started(till, include_usage=include_usage), events)
        kept = [item for item in found if item != b"[DONE]" and item.get("choices")]
        for item in kept:
            for name in THEIRS.keys() - {"is_byok"}:
                (item.get("usage") or {}).pop(name, None)
        return kept

    del more
    assert others(Till()) == others(None)


def test_comments_pass_while_the_usage_waits_for_the_end() -> None:
    reader = started(Till(), include_usage=False)
    reader.feed(Event(json.dumps(END).encode()))
    assert reader.feed(Event(json.dumps(chunk(choices=[], usage=USAGE)).encode())) == b""
    assert reader.feed(Event(None, b": keepalive\n")) == b": keepalive\n\n"
    last = reader.feed(Event(b"[DONE]"))
    assert last.count(b"data: ") == 2
    assert b'"cost":0.000014865' in last


def test_pieces_pass_at_once_however_the_cost_is_told() -> None:
    reader = started(Till(), include_usage=True)
    for each in (text("a"), text("b", usage=USAGE), END):
        assert said(reader.feed(Event(json.dumps(each).encode())).removeprefix(b"data: "))["choices"] == each["choices"]


def test_a_stream_that_is_cut_says_what_the_cut_costs() -> None:
    till = Till()
    reader = started(till, include_usage=False, cap=1)
    got = b""
    while not reader.done:
        got = reader.feed(Event(json.dumps(text("word ")).encode()))
    assert reader.cut
    length, shown, done = got.split(b"\n\n")[:3]
    assert said(length.removeprefix(b"data: "))["choices"][0]["finish_reason"] == "length"
    assert said(shown.removeprefix(b"data: "))["usage"]["cost"] == 1
    assert said(shown.removeprefix(b"data: "))["usage"]["estimated"] is True
    assert done == b"data: [DONE]"
    assert till.asked == [(End.CUT, reader.seen)]
    assert reader.feed(Event(b"[DONE]")) == b""
    assert len(till.asked) == 1


def test_a_stream_that_breaks_off_is_not_billed_here() -> None:
    till = Till()
    reader = started(till, include_usage=True)
    reader.feed(Event(json.dumps(text()).encode()))
    assert reader.feed(Event(json.dumps(chunk(choices=[], usage=USAGE)).encode())) == b""
    with pytest.raises(ProtocolError):
        reader.close()
    assert till.asked == []
    assert reader.seen.usage == Usage(input=7, output=2)


json_values = st.none() | st.integers(-5, 10**6) | st.text(max_size=3) | st.dictionaries(st.text(max_size=3), st.none())
usages = st.dictionaries(
    st.sampled_from([*USAGE, *THEIRS, "prompt_tokens_details", "x"]), json_values | st.integers(0, 10**5)
)


@settings(max_examples=rounds(150, soak=400), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["", "a", None]), st.none() | usages | json_values), max_size=6), st.booleans()
)
def test_whatever_an_upstream_reports_the_last_usage_is_the_settlements(
    pieces: list[tuple[str | None, Any]],
    include_usage: bool,  # noqa: FBT001  # drawn
) -> None:
    reader = started(Till(), include_usage=include_usage)
    events = [
        chunk(choices=[], usage=reported) if content is None else text(content, usage=reported)
        for content, reported in pieces
    ]
    *texts, last, _ = relayed(reader, [*events, END])
    expected = charged(End.COMPLETED, reader.seen)
    assert Decimal(last["usage"]["cost"]) * 10**9 == expected.amount
    assert last["usage"].get("estimated", False) is expected.estimated
    assert last["choices"] == []
    mentioned = [item["usage"] for item in texts if isinstance(item.get("usage"), dict)]
    assert not any(THEIRS.keys() & item.keys() - {"is_byok"} for item in mentioned)
