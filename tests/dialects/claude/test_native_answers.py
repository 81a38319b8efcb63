"""Answers that are in the client's words already: passed on as they are, and accounted for all the same."""

import json
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import pytest
from msgspec import Raw

from claude.messages import ID, events, message, stream_of, target, wire
from claude.natively import FULL, SIZE, TEXT, USAGE, asked
from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.anthropic import Anthropic
from hpp_middleware.errors import GatewayError, RequestError, UpstreamError
from hpp_middleware.types.completion import Seen, Target
from hpp_middleware.types.price import Usage


def read(
    data: bytes, *cuts: int, cap: int = 1000, charge: Any = None, found: Target | None = None
) -> tuple[bytes, Any]:
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    reader = dialect.stream(
        asked(stream=True), found or target(), event_bytes=1 << 20, cap=cap, charge=charge, request_id=ID
    )
    places = [0, *cuts, len(data)]
    out = b"".join(reader.feed(data[a:b]) for a, b in pairwise(places))
    out += reader.close()
    assert reader.done
    return out, reader


def test_a_stream_is_passed_on_byte_for_byte_but_for_the_model_cut_at_every_byte() -> None:
    data = wire(*FULL)
    out, reader = read(data)
    begun, rest = data.split(b"\n\n", 1)
    ours, passed = out.split(b"\n\n", 1)
    assert passed == rest
    expected = json.loads(begun.split(b"data: ")[1])
    expected["message"]["model"] = "anthropic/claude-opus-4-5"
    assert events(ours + b"\n\n") == [expected]
    seen = reader.seen
    assert (seen.usage, seen.usage_early, seen.usage_doubtful, seen.finished) == (USAGE, False, False, True)
    assert (seen.relayed_bytes, seen.texts, seen.upstream_id) == (SIZE, 6, "msg_01")
    for cut in range(1, len(data)):
        again, reader = read(data, cut)
        assert again == out
        assert reader.seen == seen
    assert read(data, *range(1, len(data)))[0] == out


def test_the_vendors_own_client_reads_the_stream() -> None:
    out, _ = read(wire(*FULL))

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=out, headers={"content-type": "text/event-stream"})

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", http_client=http)
    with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert (final.model, final.stop_reason, final.usage.output_tokens) == ("anthropic/claude-opus-4-5", "end_turn", 40)


def charge(end: End, seen: Seen) -> Settlement:
    return Settlement(1500, "completed", estimated=end is End.CUT, usage=seen.usage or Usage())


def test_the_cost_stands_in_the_last_message_delta_and_nowhere_else() -> None:
    extra = {**FULL[-2], "usage": {"output_tokens": 30, "cost": 9}}
    out, _ = read(wire(*FULL[:-2], extra, *FULL[-2:]), charge=charge)
    told = [event["usage"] for event in events(out) if event["type"] == "message_delta"]
    assert told == [{"output_tokens": 30, "cost": 9}, {"output_tokens": 40, "cost": 0.0000015}]
    assert events(out)[-1] == {"type": "message_stop"}
    assert read(wire(*FULL[:-1], {"type": "ping"}, FULL[-1]), charge=charge)[0].count(b'"cost"') == 1
    ended, _ = read(wire(*FULL[:-1]), charge=charge)
    assert events(ended)[-2:] == events(out)[-2:]


def test_a_stream_that_runs_past_its_cap_ends_as_one_that_a_client_can_read() -> None:
    long = {**TEXT, "deltas": [{"type": "text_delta", "text": "x"}] * 200}
    out, reader = read(wire(*stream_of(long)), cap=10, charge=charge)
    assert (reader.cut, reader.seen.finished) == (True, False)
    *_, stopped, last, end = events(out)
    assert (stopped["type"], stopped["index"]) == ("content_block_stop", 0)
    assert (last["delta"]["stop_reason"], end) == ("max_tokens", {"type": "message_stop"})
    assert last["usage"] == {"input_tokens": 25, "output_tokens": 1, "cost": 0.0000015, "estimated": True}
    texts = [event for event in events(out) if event["type"] == "content_block_delta"]
    assert len(texts) == 10 + relay.SLACK_CHUNKS
    fat = {**TEXT, "deltas": [{"type": "text_delta", "text": "x" * 3000}] * 5}
    assert read(wire(*stream_of(fat)), cap=10)[1].cut


def test_an_error_in_mid_stream_and_how_it_is_told() -> None:
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    reader = dialect.stream(asked(stream=True), target(), event_bytes=1 << 20, cap=9, request_id=ID)
    with pytest.raises(relay.StreamedError) as raised:
        reader.feed(
            wire(*FULL[:4])
            + b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
        )
    assert b"Hm." in raised.value.before
    assert json.loads(raised.value.args[0])["code"] == "provider_overloaded"
    assert (reader.seen.usage, reader.seen.usage_early) == (Usage(input=25, cache_read=9, output=1), True)
    error = UpstreamError("The model is overloaded.", provider="anthropic", code="provider_overloaded", retryable=True)
    last = reader.failed(error, Raw(b'{"prompt_tokens":34,"completion_tokens":2,"total_tokens":36,"cost":1}'))
    assert last.startswith(b"event: error\ndata: ")
    (told,) = events(last)
    assert (told["type"], told["request_id"], told["usage"]) == (
        *("error", ID),
        {"input_tokens": 34, "output_tokens": 2, "cost": 1},
    )
    assert told["error"]["type"] == "overloaded_error"
    assert (told["error"]["message"], told["error"]["retryable"]) == ("The model is overloaded.", True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("x"), "invalid_request_error"),
        (RequestError("x", status=401), "authentication_error"),
        (RequestError("x", status=429), "rate_limit_error"),
        (RequestError("x", status=413), "request_too_large"),
        (UpstreamError("x", provider="p"), "api_error"),
        (UpstreamError("x", provider="p", status=504, code="timeout"), "timeout_error"),
    ],
)
def test_errors_have_anthropics_types(error: GatewayError, kind: str) -> None:
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    reader = dialect.stream(asked(), target(), event_bytes=1 << 20, cap=9)
    (told,) = events(reader.failed(error))
    assert told["error"]["type"] == kind
    assert "request_id" not in told


@pytest.mark.parametrize(
    "data", [wire(*FULL[:5]), b"data: {\n\n", b"data: []\n\n", b'data: {"type":"message_start","message":[]}\n\n']
)
def test_a_stream_that_breaks_off_or_is_none_is_a_fault_of_the_upstream(data: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        read(data)


def test_an_event_that_is_too_large_is_a_fault_of_the_upstream() -> None:
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    reader = dialect.stream(asked(), target(), event_bytes=300, cap=9)
    with pytest.raises(relay.ProtocolError) as raised:
        reader.feed(b'data: {"type":"ping"}\n\ndata: ' + b"x" * 500)
    assert raised.value.before == b'data: {"type":"ping"}\n\n'


def answer(body: bytes, charge: Any = None) -> tuple[bytes, Seen]:
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    return dialect.answer(body, asked(), target(), charge=charge)


def test_a_whole_answer_is_passed_on_but_for_the_model_and_the_cost() -> None:
    usage = {"input_tokens": 25, "output_tokens": 40, "cache_read_input_tokens": 9}
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "Ü"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
    ]
    found = message(content=blocks, stop_reason="tool_use", usage=usage, container=None)
    out, seen = answer(json.dumps(found).encode())
    assert json.loads(out) == {**found, "model": "anthropic/claude-opus-4-5"}
    assert (seen.usage, seen.finished, seen.upstream_id, seen.texts) == (USAGE, True, "msg_01", 3)
    assert seen.relayed_bytes == len("Hm.Üf".encode()) + len('{"x": 1}')
    priced, _ = answer(json.dumps(found).encode(), charge)
    assert json.loads(priced)["usage"] == {**usage, "cost": 0.0000015}


def test_an_answer_without_usage_is_told_what_stands_in_for_it() -> None:
    found = message(content=[{"type": "text", "text": "A"}], stop_reason="end_turn")
    del found["usage"]

    def estimate(_: End, __: Seen) -> Settlement:
        return Settlement(1500, "completed", estimated=True, usage=Usage(input=3, output=4))

    out, seen = answer(json.dumps(found).encode(), estimate)
    assert seen.usage is None
    assert json.loads(out)["usage"] == {"input_tokens": 3, "output_tokens": 4, "cost": 0.0000015, "estimated": True}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"type":"message","content":3}', b'{"type":"list"}', b"<html>"])
def test_a_body_that_is_no_message_is_no_answer(body: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        answer(body)


@pytest.mark.parametrize(
    "event", [{"type": "error"}, {"type": "error", "error": None}, {"type": "error", "message": "No."}]
)
def test_an_error_without_a_word_is_one_too(event: dict[str, Any]) -> None:
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    reader = dialect.stream(asked(stream=True), target(), event_bytes=1 << 20, cap=9, request_id=ID)
    with pytest.raises(relay.StreamedError) as raised:
        reader.feed(wire(*FULL[:4], event, *FULL[4:]))
    assert b"error" not in raised.value.before
    assert not reader.done


def test_a_body_that_is_an_error_is_told_as_one() -> None:
    with pytest.raises(relay.StreamedError) as raised:
        answer(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')
    assert json.loads(raised.value.args[0])["code"] == "provider_overloaded"
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    told = dialect.refusal(529, {}, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')
    assert json.loads(told)["error"]["code"] == "provider_overloaded"


def test_a_character_that_is_cut_in_two_is_passed_on_and_counted() -> None:
    data = wire(*FULL).replace(b'"Hel"', b'"He\xc3"')
    out, reader = read(data)
    assert b'"He\xc3"' in out
    assert reader.seen.usage == USAGE
    body = json.dumps(message(content=[{"type": "text", "text": "Hel"}], stop_reason="end_turn")).encode()
    assert b'"He\xc3"' in answer(body.replace(b'"Hel"', b'"He\xc3"'))[0]
