"""Messages that are in the provider's words already: passed on as they are, and accounted for all the same."""

import json
from itertools import pairwise
from typing import Any

import anthropic
import httpx2
import pytest
from msgspec import Raw

from claude.messages import ID, PDF, PNG, events, message, stream_of, target, wire
from hpp_middleware.core import relay
from hpp_middleware.core.messages import PACKED
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.anthropic import Anthropic, request
from hpp_middleware.dialects.anthropic.native import Messages
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.errors import GatewayError, RequestError, UpstreamError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Provider

USER = {"role": "user", "content": "Hi"}
TEXT = {
    "type": "text",
    "text": "",
    "deltas": [{"type": "text_delta", "text": word} for word in ("Hel", "lo", " Welt, ü")],
}
CALL = {
    "type": "tool_use",
    "id": "toolu_1",
    "name": "f",
    "input": {},
    "deltas": [{"type": "input_json_delta", "partial_json": '{"x":1}'}],
}
THOUGHT = {
    "type": "thinking",
    "thinking": "",
    "signature": "",
    "deltas": [{"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "EqQB"}],
}
FULL = stream_of(
    THOUGHT,
    TEXT,
    CALL,
    start={"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 9},
    usage={"output_tokens": 40},
)
USAGE = Usage(input=25, cache_read=9, output=40)
SIZE = len("Hm.Hello Welt, üf".encode()) + len('{"x":1}')


def asked(*messages: dict[str, Any], **fields: Any) -> Request:
    """A Messages request, as the client's API hands it over."""
    body = {"model": "anthropic/m", "max_tokens": 100, "messages": list(messages) or [USER], **fields}
    body = {name: value for name, value in body.items() if value is not ...}
    cap = body.get("max_tokens")
    return Request(
        fields={name: Raw(json.dumps(value).encode()) for name, value in body.items()},
        model="anthropic/m",
        api="messages",
        stream=bool(body.get("stream")),
        cap=cap if isinstance(cap, int) else None,
    )


def call_of(asks: Request, found: Target | None = None, *, cap: int | None = None) -> HTTPCall:
    found = found or target()
    dialect = Anthropic().native("messages", found.provider)
    assert dialect is not None
    return dialect.call(asks, found, cap=cap, request_id=ID)


def test_a_request_is_sent_as_it_is_but_for_the_model() -> None:
    fields: dict[str, Any] = {
        "system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
        "temperature": 0.25,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["x"],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"},
        "service_tier": "standard_only",
        "speed": "standard",
        "inference_geo": None,
        "stream": True,
    }
    asks = asked(USER, max_tokens=2000, **fields)
    call = call_of(asks)
    sent = json.loads(call.body)
    assert sent.pop("model") == "claude-opus-4-5"
    assert sent == {"max_tokens": 2000, "messages": [USER], **fields}
    for name, raw in asks.fields.items():
        assert name == "model" or bytes(raw) in call.body
    assert call.url == "https://api.anthropic.com/v1/messages"
    head = dict(call.headers)
    assert (head["x-api-key"], head["anthropic-version"], head["X-Request-Id"]) == ("sk-ant-made-up", "2023-06-01", ID)
    assert not any(name.lower() == "anthropic-beta" for name in head)
    assert (call.more_tokens, call.long_cache, call.dropped) == (request.TOOL_TOKENS, False, ())


def test_our_cap_is_sent_where_the_client_gave_none() -> None:
    assert json.loads(call_of(asked(max_tokens=...), cap=77).body)["max_tokens"] == 77
    assert json.loads(call_of(asked(), cap=77).body)["max_tokens"] == 100


def test_a_provider_of_openais_dialect_takes_messages_where_it_says_so() -> None:
    apis = frozenset({"messages"})
    found = target("m", provider={"base_url": "http://127.0.0.1:8080/v1", "dialect": "openai", "native_apis": apis})
    dialect = OpenAI()
    native = dialect.native("messages", found.provider)
    assert native is dialect.native("messages", found.provider)
    call = native.call(asked(min_p=0.1), found, cap=None, request_id=ID)
    assert call.url == "http://127.0.0.1:8080/v1/messages"
    assert dict(call.headers)["Authorization"] == "Bearer sk-ant-made-up"
    assert "x-api-key" not in dict(call.headers)
    assert json.loads(call.body)["min_p"] == 0.1
    assert dialect.native("messages", Provider(base_url="http://127.0.0.1:8080/v1")) is None
    assert dialect.native("responses", found.provider) is None
    with pytest.raises(RequestError) as raised:
        native.call(asked(n_predict=9), found, cap=None, request_id=ID)
    assert raised.value.param == "n_predict"


def test_no_other_api_is_native() -> None:
    assert Anthropic().native("responses", target().provider) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service_tier", "priority"),
        ("Service_Tier", "auto"),
        ("speed", "fast"),
        ("SPEED", "fast"),
        ("inference_geo", "us"),
        ("container", "c"),
        ("mcp_servers", [{}]),
        ("compaction", {"type": "summarize"}),
        ("user_profile_id", "u"),
        ("fallbacks", [{}]),
        ("Max_Tokens", 10),
        ("TOOLS", []),
        ("something_new", 1),
    ],
)
def test_what_changes_the_cost_unpriced_is_refused_by_name(name: str, value: Any) -> None:
    refused(asked(USER, **{name: value}), name)


@pytest.mark.parametrize(
    "kind",
    [
        "web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
        "tool_search_tool_bm25_20251119",
        "computer_20250124",
        "browser_toolset_20260801",
        "advisor_20260301",
        7,
    ],
)
def test_tools_that_run_at_the_provider_are_refused_by_name(kind: Any) -> None:
    refused(asked(tools=[{"name": "f", "input_schema": {}}, {"type": kind, "name": "x"}]), "tools[1].type")


def test_tools_that_the_client_runs_are_held_for() -> None:
    tools = [
        {"type": "custom", "name": "f", "input_schema": {}},
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "e"},
    ]
    assert call_of(asked(tools=tools)).more_tokens == 3 * request.TOOL_TOKENS
    assert call_of(asked(tools=[])).more_tokens == 0
    assert call_of(asked(tools=None)).more_tokens == 0


CLEARING = {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "clear_thinking_20251015", "keep": "all"}]}


def betas_of(call: HTTPCall) -> list[str]:
    return [value for name, value in call.headers if name == "anthropic-beta"]


def test_clearing_is_passed_on_with_the_beta_that_it_needs() -> None:
    call = call_of(asked(context_management=CLEARING))
    assert json.loads(call.body)["context_management"] == CLEARING
    assert (betas_of(call), call.dropped) == (["context-management-2025-06-27"], ())
    assert call.headers[: len(call.shared)] == list(call.shared)
    assert "context_management" not in json.loads(call_of(asked(context_management=None)).body)
    assert betas_of(call_of(asked(context_management=None))) == []


@pytest.mark.parametrize(
    ("management", "field"),
    [
        ({"edits": [*CLEARING["edits"], {"type": "compact_20260112"}]}, "context_management.edits[2].type"),
        ({"edits": [{"type": "a_new_one"}]}, "context_management.edits[0].type"),
        ({"edits": [{}]}, "context_management"),
        ({"edits": 7}, "context_management"),
        ([], "context_management"),
    ],
)
def test_what_is_more_than_clearing_is_refused(management: Any, field: str) -> None:
    refused(asked(context_management=management), field)


def test_betas_that_cost_nothing_pass_and_others_are_told() -> None:
    harmless = ["interleaved-thinking-2025-05-14", "context-management-2025-06-27"]
    call = call_of(asked(betas=harmless, context_management=CLEARING))
    assert (betas_of(call), call.dropped) == ([",".join(harmless)], ())
    assert "betas" not in json.loads(call.body)
    dear = ["context-1m-2025-08-07", "fast-mode-2026-02-01", "x\r\nX-Api-Key: y", "compact-2026-01-12"]
    call = call_of(asked(betas=[*dear, harmless[0], harmless[0]]))
    assert (betas_of(call), call.dropped) == ([harmless[0]], ("betas",))
    assert (betas_of(call_of(asked(betas=dear))), call_of(asked(betas=None)).dropped) == ([], ())
    refused(asked(betas="x"), "betas")


def test_a_server_that_is_not_anthropic_s_gets_neither_betas_nor_clearing() -> None:
    found = target("m", provider={"base_url": "http://127.0.0.1:8080/v1", "dialect": "openai"})
    thought = {"type": "thinking", "thinking": "Hm", "signature": ""}
    said = {"role": "assistant", "content": [thought, {"type": "text", "text": "A"}]}
    asks = asked(USER, said, USER, betas=["interleaved-thinking-2025-05-14"], context_management=CLEARING)
    call = Messages().call(asks, found, cap=None, request_id=ID)
    assert (betas_of(call), call.dropped) == ([], ("betas", "context_management"))
    assert json.loads(call.body).keys() == {"model", "max_tokens", "messages"}
    assert json.loads(call.body)["messages"][1] == said


SIGNED = {"type": "thinking", "thinking": "Hm", "signature": "EqQB"}
HIDDEN = {"type": "redacted_thinking", "data": "EmwK"}
FOREIGN = [
    {"type": "thinking", "thinking": "Hm", "signature": ""},
    {"type": "thinking", "thinking": "Hm"},
    {"type": "thinking", "thinking": "Hm", "signature": f"{PACKED}e30="},
    {"type": "redacted_thinking", "data": f"{PACKED}e30="},
    {"type": "redacted_thinking", "data": ""},
]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_thoughts_that_are_not_anthropic_s_are_left_out_and_told(foreign: dict[str, Any]) -> None:
    text = {"type": "text", "text": 'says "thinking"'}
    call = call_of(
        asked(
            USER,
            {"role": "assistant", "content": [foreign, SIGNED, text, HIDDEN]},
            {"role": "user", "content": [text]},
            {"role": "assistant", "content": [foreign]},
            USER,
        )
    )
    assert json.loads(call.body)["messages"] == [
        *(USER, {"role": "assistant", "content": [SIGNED, text, HIDDEN]}, {"role": "user", "content": [text]}, USER)
    ]
    assert call.dropped == ("messages.thinking",)


def test_proven_thoughts_pass_byte_for_byte() -> None:
    asks = asked(USER, {"role": "assistant", "content": [SIGNED, HIDDEN]}, USER)
    call = call_of(asks)
    assert bytes(asks.fields["messages"]) in call.body
    assert call.dropped == ()


def test_a_budget_of_thought_is_below_the_cap_that_is_held_for() -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    assert json.loads(call_of(asked(thinking=thinking, max_tokens=2001)).body)["thinking"] == thinking
    refused(
        asked(thinking=thinking, max_tokens=2000, betas=["interleaved-thinking-2025-05-14"]), "thinking.budget_tokens"
    )
    refused(asked(thinking={"type": "enabled", "budget_tokens": "x"}), "thinking")


def test_a_format_and_documents_are_held_for() -> None:
    form = {"format": {"type": "json_schema", "schema": {}}}
    assert call_of(asked(output_config=form)).more_tokens == request.FORMAT_TOKENS
    assert call_of(asked(output_config={"effort": "low"})).more_tokens == 0
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    user = {"role": "user", "content": [pdf, {"type": "text", "text": "?"}]}
    assert call_of(asked(user)).more_tokens == request.CONTEXT
    assert call_of(asked(user), target(context=1_000_000)).more_tokens == 1_000_000
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [pdf]}]}
    assert call_of(asked(result)).more_tokens == request.CONTEXT
    hidden = {"role": "user", "content": [{**pdf, "type": "docu\\u006dent"}]}
    body = json.dumps([hidden]).replace("\\\\", "\\").encode()
    asks = asked()
    asks.fields["messages"] = Raw(body)
    assert call_of(asks).more_tokens == request.CONTEXT
    words = {"role": "user", "content": [{"type": "text", "text": 'a "document" of words'}]}
    assert call_of(asked(words, {"role": "assistant", "content": '"document"'})).more_tokens == 0


FILE = {"type": "file", "file_id": "file_1"}


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": FILE},
        {"type": "image", "source": FILE},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image", "source": FILE}]},
        {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": FILE}]}},
    ],
)
def test_files_in_the_operators_account_are_refused(block: dict[str, Any]) -> None:
    refused(asked({"role": "user", "content": [block]}), "messages")


def test_messages_that_are_none_are_a_400() -> None:
    with pytest.raises(RequestError):
        call_of(asked({"role": "user", "content": [3, {"type": "document"}]}))


@pytest.mark.parametrize(
    "fields",
    [
        {"system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"tools": [{"name": "f", "input_schema": {}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ],
)
def test_a_cache_that_lasts_an_hour_is_held_for(fields: dict[str, Any]) -> None:
    assert call_of(asked(**fields)).long_cache
    assert not call_of(asked(**json.loads(json.dumps(fields).replace("1h", "5m")))).long_cache


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


def test_a_body_that_is_an_error_is_told_as_one() -> None:
    with pytest.raises(relay.StreamedError) as raised:
        answer(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')
    assert json.loads(raised.value.args[0])["code"] == "provider_overloaded"
    dialect = Anthropic().native("messages", target().provider)
    assert dialect is not None
    told = dialect.refusal(529, {}, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}')
    assert json.loads(told)["error"]["code"] == "provider_overloaded"


def refused(asks: Request, param: str) -> None:
    with pytest.raises(RequestError) as raised:
        call_of(asks)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert param in raised.value.message


def test_images_are_left_to_whoever_counts_them() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert call_of(asked({"role": "user", "content": [image]})).more_tokens == 0


def test_a_character_that_is_cut_in_two_is_passed_on_and_counted() -> None:
    data = wire(*FULL).replace(b'"Hel"', b'"He\xc3"')
    out, reader = read(data)
    assert b'"He\xc3"' in out
    assert reader.seen.usage == USAGE
    body = json.dumps(message(content=[{"type": "text", "text": "Hel"}], stop_reason="end_turn")).encode()
    assert b'"He\xc3"' in answer(body.replace(b'"Hel"', b'"He\xc3"'))[0]
