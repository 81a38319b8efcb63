"""Anthropic's answers as OpenAI's: each event, each reason, and streams cut at every byte."""

import json
from itertools import pairwise
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from claude.messages import ID, chat, events, message, stream_of, target, wire
from hpp_middleware.core import relay, reply
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.anthropic import Anthropic
from hpp_middleware.errors import UpstreamError
from hpp_middleware.types.completion import Request, Seen
from hpp_middleware.types.price import Usage

TEXT = {
    "type": "text",
    "text": "",
    "deltas": [{"type": "text_delta", "text": word} for word in ("Hel", "lo", " Welt, ü")],
}
THOUGHT = {
    "type": "thinking",
    "thinking": "",
    "signature": "",
    "deltas": [
        {"type": "thinking_delta", "thinking": "Let me "},
        {"type": "thinking_delta", "thinking": "see."},
        {"type": "signature_delta", "signature": "EqQB"},
    ],
}
REDACTED = {"type": "redacted_thinking", "data": "ZW5j", "deltas": []}


def call(number: int, *arguments: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in arguments]
    return {"type": "tool_use", "id": f"toolu_{number}", "name": "f", "input": given or {}, "deltas": deltas}


FULL = stream_of(
    THOUGHT,
    REDACTED,
    TEXT,
    call(1, "", '{"x": ', '"é"}'),
    call(2),
    start={"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 10},
    usage={"output_tokens": 40, "output_tokens_details": {"thinking_tokens": 12}},
    reason="tool_use",
)
USAGE = Usage(input=25, cache_read=100, cache_write=10, output=28, reasoning=12)


def read(
    data: bytes, *cuts: int, request: Request | None = None, cap: int = 1000, charge: Any = None
) -> tuple[bytes, Any]:
    """What a client gets for bytes that come in pieces, and what was seen."""
    asked = request or chat(stream=True, stream_options={"include_usage": True})
    reader = Anthropic().stream(asked, target(), event_bytes=1 << 20, cap=cap, charge=charge, request_id=ID)
    places = [0, *cuts, len(data)]
    out = b"".join(reader.feed(data[a:b]) for a, b in pairwise(places))
    return out + reader.close(), reader.seen


def put_together(out: bytes) -> dict[str, Any]:
    """A message from chunks, which OpenAI's own type takes."""
    *chunks, done = events(out)
    assert done == "[DONE]"
    found: dict[str, Any] = {
        "content": "",
        "reasoning_content": "",
        "reasoning_details": [],
        "calls": {},
        "reasons": [],
    }
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
        for choice in chunk["choices"]:
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                found[name] += delta.get(name) or ""
            found["reasoning_details"] += delta.get("reasoning_details", [])
            for part in delta.get("tool_calls", []):
                ours = found["calls"].setdefault(part["index"], {"arguments": ""})
                ours["arguments"] += part["function"]["arguments"]
                ours |= {key: part[key] for key in ("id", "type") if key in part}
                ours |= {key: part["function"][key] for key in ("name",) if key in part["function"]}
            if choice["finish_reason"]:
                found["reasons"].append((choice["finish_reason"], choice.get("native_finish_reason")))
        if chunk.get("usage"):
            found["usage"] = chunk["usage"]
    return found


WHOLE: dict[str, Any] = {
    "content": "Hello Welt, ü",
    "reasoning_content": "Let me see.",
    "reasoning_details": [
        {"type": "reasoning.text", "text": "Let me see.", "signature": "EqQB", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "data": "ZW5j", "format": "anthropic-claude-v1"},
    ],
    "calls": {
        0: {"id": "toolu_1", "type": "function", "name": "f", "arguments": '{"x": "é"}'},
        1: {"id": "toolu_2", "type": "function", "name": "f", "arguments": "{}"},
    },
    "reasons": [("tool_calls", "tool_use")],
    "usage": {
        "prompt_tokens": 135,
        "completion_tokens": 40,
        "total_tokens": 175,
        "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 12},
    },
}


def test_a_stream_says_the_same_cut_at_every_byte() -> None:
    data = wire(*FULL)
    whole, seen = read(data)
    assert put_together(whole) == WHOLE
    assert (seen.usage, seen.usage_doubtful, seen.usage_early) == (USAGE, False, False)
    assert (seen.finished, seen.upstream_id) == (True, "msg_01")
    assert seen.relayed_bytes == len("Hello Welt, üLet me see.f{}f".encode()) + len('{"x": "é"}'.encode())
    for cut in range(1, len(data)):
        out, seen = read(data, cut)
        assert out == whole
        assert seen.usage == USAGE
    assert read(data, *range(1, len(data)))[0] == whole


def test_lines_may_end_as_they_like() -> None:
    assert put_together(read(wire(*FULL).replace(b"\n", b"\r\n"))[0]) == WHOLE


def test_a_whole_answer_says_what_its_stream_says() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB"},
        {"type": "redacted_thinking", "data": "ZW5j"},
        {"type": "text", "text": "Hello "},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "text", "text": "Welt, ü", "citations": [{"type": "char_location", "cited_text": "x"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"x": "é"}},
        {"type": "tool_use", "id": "toolu_2", "name": "f", "input": {}},
    ]
    usage = {
        "input_tokens": 25,
        "output_tokens": 40,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 10,
        "output_tokens_details": {"thinking_tokens": 12},
    }
    body = json.dumps(message(content=blocks, stop_reason="tool_use", usage=usage)).encode()
    out, seen = Anthropic().answer(body, chat(), target(), request_id=ID)
    found = json.loads(out)
    ChatCompletion.model_validate(found)
    (choice,) = found["choices"]
    said = choice["message"]
    assert (found["id"], found["model"], found["usage"]) == ("msg_01", "anthropic/claude-opus-4-5", WHOLE["usage"])
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("tool_calls", "tool_use")
    assert (said["role"], said["content"]) == ("assistant", WHOLE["content"])
    for name in ("reasoning_content", "reasoning_details"):
        assert said[name] == WHOLE[name]
    assert [
        (each["id"], each["function"]["name"], json.loads(each["function"]["arguments"])) for each in said["tool_calls"]
    ] == [
        ("toolu_1", "f", {"x": "é"}),
        ("toolu_2", "f", {}),
    ]
    assert (seen.usage, seen.finished, seen.usage_early) == (USAGE, True, False)


def test_thoughts_are_not_shown_to_a_client_that_excludes_them() -> None:
    asked = chat(stream=True, reasoning={"effort": "high", "exclude": True})
    found = put_together(read(wire(*FULL), request=asked)[0])
    assert (found["reasoning_content"], found["reasoning_details"], found["content"]) == ("", [], WHOLE["content"])
    body = json.dumps(
        message(content=[{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "A"}])
    ).encode()
    out, _ = Anthropic().answer(body, asked, target(), request_id=ID)
    assert json.loads(out)["choices"][0]["message"] == {"role": "assistant", "content": "A"}


@pytest.mark.parametrize(
    ("native", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
def test_reasons(native: str, ours: str) -> None:
    assert put_together(read(wire(*stream_of(TEXT, reason=native)))[0])["reasons"] == [(ours, native)]
    body = json.dumps(message(content=[{"type": "text", "text": "A"}], stop_reason=native)).encode()
    choice = json.loads(Anthropic().answer(body, chat(), target(), request_id=ID)[0])["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == (ours, native)


def test_a_reason_that_is_new_is_told_beside_a_stop() -> None:
    data = wire(*stream_of(TEXT)).replace(b'"end_turn"', b'"bored"')
    assert put_together(read(data)[0])["reasons"] == [("stop", "bored")]


def test_an_answer_without_a_block_is_whole_all_the_same() -> None:
    found = put_together(read(wire(*stream_of(reason="refusal")))[0])
    assert (found["content"], found["reasons"]) == ("", [("content_filter", "refusal")])


def test_what_nobody_here_knows_is_passed_over() -> None:
    citations = {
        "type": "citations_delta",
        "citation": {
            "type": "char_location",
            "cited_text": "x",
            "document_index": 0,
            "start_char_index": 0,
            "end_char_index": 1,
        },
    }
    block = {**TEXT, "deltas": [citations, *TEXT["deltas"]]}
    odd = b'event: news\ndata: {"type":"news","index":"odd?"}\n\n: a comment\n\nevent: ping\ndata: {"type": "ping"}\n\n'
    odd = odd.replace(b'"index":"odd?"', b'"more":[1]')
    server = {
        "type": "server_tool_use",
        "id": "srvtoolu_1",
        "name": "web_search",
        "input": {},
        "deltas": [{"type": "input_json_delta", "partial_json": '{"query"'}],
    }
    data = wire(*stream_of(server, block))
    found = put_together(read(odd + data)[0])
    assert (found["content"], found["calls"]) == ("Hello Welt, ü", {})


def test_arguments_that_come_at_once_are_told() -> None:
    found = put_together(read(wire(*stream_of(call(1, given={"x": 1}), reason="tool_use")))[0])
    assert json.loads(found["calls"][0]["arguments"]) == {"x": 1}


def test_text_and_thoughts_that_come_with_a_blocks_beginning_are_told() -> None:
    found = put_together(
        read(wire(*stream_of({**THOUGHT, "thinking": "I ", "deltas": []}, {**TEXT, "text": "Oh, "})))[0]
    )
    assert (found["reasoning_content"], found["content"]) == ("I ", "Oh, Hello Welt, ü")


def test_a_client_that_did_not_ask_for_usage_is_told_none_and_charged_all_the_same() -> None:
    out, seen = read(wire(*FULL), request=chat(stream=True))
    assert "usage" not in put_together(out)
    assert seen.usage == USAGE


def test_the_cost_stands_in_the_last_event() -> None:
    def charge(end: End, seen: Seen) -> Settlement:
        assert end is End.COMPLETED
        return Settlement(1500, "completed", estimated=False, usage=seen.usage or Usage())

    found = put_together(read(wire(*FULL), charge=charge)[0])
    assert found["usage"] == {**WHOLE["usage"], "cost": 0.0000015}


def test_a_stream_that_runs_past_its_cap_is_cut() -> None:
    long = {**TEXT, "deltas": [{"type": "text_delta", "text": "x"}] * 200}
    out, seen = read(wire(*stream_of(long)), cap=10)
    found = put_together(out)
    assert len(found["content"]) == 10 + relay.SLACK_CHUNKS
    assert not seen.finished


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "provider_overloaded", True),
        ({"type": "rate_limit_error", "message": "Slow down"}, "rate_limit_exceeded", True),
        ({"type": "api_error", "message": "Oh"}, "server", True),
        ({"type": "invalid_request_error", "message": "prompt is too long: 3 > 2"}, "context_length_exceeded", False),
        ("just words", "provider_unavailable", True),
        (None, "provider_unavailable", True),
    ],
)
def test_an_error_in_mid_stream(error: Any, code: str, *, retryable: bool) -> None:
    data = wire(*FULL[:4], {"type": "error", "error": error})
    with pytest.raises(relay.StreamedError) as raised:
        read(data)
    assert b"Let me " in raised.value.before
    told = reply.streamed_error("anthropic", raised.value.args[0])
    assert (told.code, told.retryable) == (code, retryable)
    with pytest.raises(relay.StreamedError) as raised:
        Anthropic().answer(json.dumps({"type": "error", "error": error}).encode(), chat(), target())
    assert reply.streamed_error("anthropic", raised.value.args[0]).code == code


def test_a_stream_that_breaks_off_is_no_answer() -> None:
    data = wire(*FULL[:5])
    with pytest.raises(relay.ProtocolError):
        read(data)


def test_a_stream_whose_reason_was_told_needs_no_last_event() -> None:
    assert put_together(read(wire(*FULL[:-1]))[0]) == WHOLE


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"type":"message","content":3}', b'{"type":"list","data":[]}', b"<html>"]
)
def test_a_body_that_is_no_message_is_no_answer(body: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        Anthropic().answer(body, chat(), target())


@pytest.mark.parametrize(
    "data",
    [
        b"data: {\n\n",
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":5}}\n\n',
        b"data: []\n\n",
    ],
)
def test_an_event_that_is_none_is_a_fault_of_the_upstream(data: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        read(wire(*FULL[:4]) + data)


def test_an_event_that_is_too_large_is_a_fault_of_the_upstream() -> None:
    reader = Anthropic().stream(chat(stream=True), target(), event_bytes=100, cap=9, request_id=ID)
    with pytest.raises(relay.ProtocolError):
        reader.feed(b"data: " + b"x" * 200)


BAD = "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "kind", "words", "ours", "code", "told"),
    [
        (400, BAD, "prompt is too long: 210000 tokens > 200000 maximum", 400, "context_length_exceeded", "too long"),
        (400, BAD, "input length and `max_tokens` exceed context limit: 1", 400, "context_length_exceeded", "exceed"),
        (400, BAD, "messages: at least one message is required", 400, "invalid_request", "at least one"),
        (400, BAD, "Your credit balance is too low.", 400, "server", "could not answer"),
        (401, "authentication_error", "invalid x-api-key", 502, "provider_unavailable", "could not answer"),
        (403, "permission_error", "no", 502, "provider_unavailable", "could not answer"),
        (404, "not_found_error", "model: claude-x", 404, "not_found", "claude-x"),
        (413, "request_too_large", "Request exceeds the maximum size", 413, "payload_too_large", "maximum size"),
        (429, "rate_limit_error", "Number of tokens", 429, "rate_limit_exceeded", "rate"),
        (500, "api_error", "secret", 502, "server", "could not answer"),
        (529, "overloaded_error", "Overloaded", 502, "provider_overloaded", "overloaded"),
    ],
)
def test_refusals_in_our_words(status: int, kind: str, words: str, ours: int, *, code: str, told: str) -> None:
    error = {"type": kind, "message": words}
    body = json.dumps({"type": "error", "error": error, "request_id": "req_011"}).encode()
    found = reply.upstream_error("anthropic", status, Anthropic().refusal(status, {}, body))
    assert (found.status, found.code) == (ours, code)
    assert told in found.message


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"type":"message"}'])
def test_a_refusal_that_is_none_of_anthropics_is_left_to_its_status(body: bytes) -> None:
    with pytest.raises(relay.UNREADABLE):
        Anthropic().refusal(500, {}, body)


def test_what_failed_is_told_in_openais_shape() -> None:
    reader = Anthropic().stream(chat(stream=True), target(), event_bytes=1000, cap=9, request_id=ID)
    (last,) = events(reader.failed(UpstreamError("No.", provider="anthropic")))
    assert (last["error"]["message"], last["choices"][0]["finish_reason"]) == ("No.", "error")


def test_a_character_that_is_cut_in_two_is_one_that_nobody_can_read() -> None:
    data = wire(*FULL).replace(b'"Hel"', b'"He\xc3"')
    assert put_together(read(data)[0])["content"] == "He\ufffdlo Welt, ü"
    body = json.dumps(message(content=[{"type": "text", "text": "Hel"}], stop_reason="end_turn")).encode()
    out, _ = Anthropic().answer(body.replace(b'"Hel"', b'"He\xc3"'), chat(), target(), request_id=ID)
    assert json.loads(out)["choices"][0]["message"]["content"] == "He\ufffd"
