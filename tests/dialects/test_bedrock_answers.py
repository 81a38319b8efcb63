"""What Bedrock answers, whole and in streams; each fixture is one that Amazon's own client reads."""

import base64
import json
from typing import Any

import eventstreams
import pytest
from converse import accept, parsed, parsed_stream
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hpp_middleware.core import parse, relay, reply
from hpp_middleware.core import price as pricing
from hpp_middleware.dialects.bedrock import Bedrock
from hpp_middleware.dialects.bedrock.answer import reported
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.price import Price, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

REQUEST_ID = "req_0199aabbccdd00112233445566778899"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PRICE = Price(
    base=pricing.rates_from_usd(
        {"input": "3.3", "output": "16.5", "cache_read": "0.33", "cache_write": "4.125"}, "price"
    )
)
BLOB = base64.b64encode(b"secret").decode()
THOUGHT = {"reasoningContent": {"reasoningText": {"text": "Hm, Bonn.", "signature": "sig=="}}}
REDACTED = {"reasoningContent": {"redactedContent": BLOB}}
CALL = {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Bonn"}}}
PLAIN_CALL = {"toolUse": {"toolUseId": "tooluse_2", "name": "now", "input": {}}}
USAGE = {
    "inputTokens": 562,
    "outputTokens": 21,
    "totalTokens": 562 + 21 + 3059 + 100,
    "cacheReadInputTokens": 3059,
    "cacheWriteInputTokens": 100,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 40}, {"ttl": "5m", "inputTokens": 60}],
}
BUCKETS = Usage(input=562, cache_read=3059, cache_write=60, cache_write_1h=40, output=21)
TOLD = {
    "prompt_tokens": 3721,
    "completion_tokens": 21,
    "total_tokens": 3742,
    "prompt_tokens_details": {"cached_tokens": 3059, "cache_write_tokens": 100},
}


def target(model: str = MODEL) -> Target:
    provider = Provider(base_url="https://bedrock-runtime.us-east-1.amazonaws.com", dialect="bedrock")
    return Target(
        id=f"bedrock/{model}", provider_name="bedrock", model_name=model, provider=provider, model=Model(), price=PRICE
    )


def request(**fields: Any) -> Request:
    body = {"model": f"bedrock/{MODEL}", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return parse.completion(json.dumps(body).encode(), Limits())


def whole(*blocks: Any, stop: str = "end_turn", usage: Any = USAGE) -> bytes:
    body = json.dumps(
        {
            "metrics": {"latencyMs": 900},
            "output": {"message": {"role": "assistant", "content": list(blocks)}},
            "stopReason": stop,
            "usage": usage,
        }
    ).encode()
    assert parsed(body)["stopReason"] == stop
    return body


def answer(*blocks: Any, **fields: Any) -> tuple[Any, Seen]:
    asked = request(**fields.pop("request", {}))
    body, seen = Bedrock().answer(whole(*blocks, **fields), asked, target(), request_id=REQUEST_ID)
    ChatCompletion.model_validate_json(body)
    return json.loads(body), seen


STREAM = eventstreams.stream(
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm, "}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Bonn."}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "sig=="}}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"reasoningContent": {"redactedContent": BLOB}}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "Lo"}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"text": "ok: \u2028ü"}}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    (
        "contentBlockStart",
        {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "tooluse_1", "name": "weather"}}},
    ),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": ""}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": '{"city":'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": '"Bonn"}'}}}),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("contentBlockStart", {"contentBlockIndex": 4, "start": {"toolUse": {"toolUseId": "tooluse_2", "name": "now"}}}),
    ("contentBlockStop", {"contentBlockIndex": 4}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 900}}),
)
HELLO = eventstreams.stream(
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo"}}),
)


def passed_on(*pieces: bytes, model: str = MODEL, **fields: Any) -> tuple[bytes, Seen]:
    """What the client gets, and what the stream showed."""
    asked = request(**{"stream": True, "stream_options": {"include_usage": True}, **fields})
    reader = Bedrock().stream(asked, target(model), event_bytes=100_000, cap=1000, request_id=REQUEST_ID)
    data = b"".join(reader.feed(piece) for piece in pieces) + reader.close()
    assert reader.done
    return data, reader.seen


def streamed(*pieces: bytes, model: str = MODEL, **fields: Any) -> tuple[list[Any], Seen]:
    """The chunks, each of which OpenAI's types accept, and what the stream showed."""
    data, seen = passed_on(*pieces, model=model, **fields)
    *events, done = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
    assert done == "[DONE]"
    for event in events:
        ChatCompletionChunk.model_validate_json(event)
    return [json.loads(event) for event in events], seen


def message(chunks: list[Any]) -> dict[str, Any]:
    """A stream's chunks as the message that a client puts together."""
    found: dict[str, Any] = {"role": None, "content": "", "reasoning": "", "details": [], "calls": {}, "finish": None}
    for choice in (chunk["choices"][0] for chunk in chunks if chunk["choices"]):
        delta = choice["delta"]
        found["role"] = delta.get("role") or found["role"]
        found["content"] += delta.get("content") or ""
        found["reasoning"] += delta.get("reasoning_content") or ""
        found["details"] += delta.get("reasoning_details") or []
        for call in delta.get("tool_calls") or []:
            one = found["calls"].setdefault(call["index"], {"id": None, "name": None, "arguments": ""})
            one["id"] = call.get("id") or one["id"]
            one["name"] = call["function"].get("name") or one["name"]
            one["arguments"] += call["function"].get("arguments") or ""
        found["finish"] = choice["finish_reason"] or found["finish"]
    return found


EXPECTED = {
    "role": "assistant",
    "content": "Look: \u2028ü",
    "reasoning": "Hm, Bonn.",
    "details": [
        {
            "type": "reasoning.text",
            "text": "Hm, Bonn.",
            "signature": "sig==",
            "format": "anthropic-claude-v1",
            "index": 0,
        },
        {"type": "reasoning.encrypted", "data": BLOB, "format": "anthropic-claude-v1", "index": 1},
    ],
    "calls": {
        0: {"id": "tooluse_1", "name": "weather", "arguments": '{"city":"Bonn"}'},
        1: {"id": "tooluse_2", "name": "now", "arguments": "{}"},
    },
    "finish": "tool_calls",
}


def test_the_fixture_is_what_amazon_s_client_reads() -> None:
    events = parsed_stream(STREAM)
    assert [next(iter(event)) for event in events][:2] == ["messageStart", "contentBlockDelta"]
    assert events[-1]["metadata"]["usage"] == USAGE


def test_a_stream_is_told_in_openai_s_chunks() -> None:
    chunks, seen = streamed(STREAM)
    assert message(chunks) == EXPECTED
    assert chunks[-1]["usage"] == TOLD
    assert (seen.usage, seen.usage_doubtful, seen.finished) == (BUCKETS, False, True)
    assert json.loads(bytes(seen.usage_raw or b"")) == USAGE
    assert {chunk["id"] for chunk in chunks} == {f"chatcmpl-{REQUEST_ID.removeprefix('req_')}"}
    natives = [chunk["choices"][0].get("native_finish_reason") for chunk in chunks if chunk["choices"]]
    assert natives[-1] == "tool_use"


def test_it_may_be_cut_at_every_byte() -> None:
    expected = passed_on(STREAM)
    for cut in range(1, len(STREAM)):
        assert passed_on(STREAM[:cut], STREAM[cut:]) == expected
    assert passed_on(*(STREAM[place : place + 1] for place in range(len(STREAM)))) == expected


def test_a_whole_answer_says_the_same_as_its_stream() -> None:
    body, seen = answer(THOUGHT, REDACTED, {"text": EXPECTED["content"]}, CALL, PLAIN_CALL, stop="tool_use")
    said = body["choices"][0]["message"]
    assert (said["content"], said["reasoning_content"]) == (EXPECTED["content"], EXPECTED["reasoning"])
    assert said["reasoning_details"] == EXPECTED["details"]
    assert [call["id"] for call in said["tool_calls"]] == ["tooluse_1", "tooluse_2"]
    assert [json.loads(call["function"]["arguments"]) for call in said["tool_calls"]] == [{"city": "Bonn"}, {}]
    assert (body["choices"][0]["finish_reason"], body["usage"]) == ("tool_calls", TOLD)
    assert (seen.usage, seen.finished) == (BUCKETS, True)


def test_thoughts_are_left_out_where_the_client_wants_none() -> None:
    hidden: dict[str, Any] = {"reasoning": {"exclude": True, "effort": "low"}}
    chunks, _ = streamed(STREAM, **hidden)
    assert (message(chunks)["reasoning"], message(chunks)["details"]) == ("", [])
    body, _ = answer(THOUGHT, {"text": "Yes"}, request=hidden)
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Yes"}


def test_a_text_with_citations_is_its_text() -> None:
    cited = {"citationsContent": {"content": [{"text": "As "}, {"text": "said."}], "citations": []}}
    assert answer(cited)[0]["choices"][0]["message"]["content"] == "As said."


@pytest.mark.parametrize(
    ("native", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "stop"),
        ("of_tomorrow", "stop"),
    ],
)
def test_stop_reasons(native: str, finish: str) -> None:
    choice = answer({"text": "x"}, stop=native)[0]["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == (finish, native)


GOLDEN = [
    # Plain: nothing cached, and Nova, which says so with zeros.
    ({"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}, Usage(input=10, output=5), 33_000 + 82_500),
    (
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 15,
            "cacheReadInputTokens": 0,
            "cacheWriteInputTokens": 0,
            "cacheDetails": [],
        },
        Usage(input=10, output=5),
        33_000 + 82_500,
    ),
    # A hit, by measurement: the same prompt without a cache point had 3,621 (crmne/ruby_llm issue 871).
    (
        {"inputTokens": 562, "outputTokens": 1, "totalTokens": 3622, "cacheReadInputTokens": 3059},
        Usage(input=562, cache_read=3059, output=1),
        562 * 3_300 + 3059 * 330 + 16_500,
    ),
    # A write, and one of which a part lasts an hour, at twice the input's rate.
    (
        {"inputTokens": 723, "outputTokens": 1, "totalTokens": 3183, "cacheWriteInputTokens": 2459},
        Usage(input=723, cache_write=2459, output=1),
        723 * 3_300 + 2459 * 4_125 + 16_500,
    ),
    (USAGE, BUCKETS, 562 * 3_300 + 3059 * 330 + 60 * 4_125 + 40 * 6_600 + 21 * 16_500),
]


@pytest.mark.parametrize(("usage", "buckets", "nano"), GOLDEN)
def test_usage_is_priced_once_to_the_nano_dollar(usage: Any, buckets: Usage, nano: int) -> None:
    found = reported(Raw(json.dumps(usage).encode()))
    assert (found.usage, found.doubtful) == (buckets, False)
    assert pricing.cost(buckets, PRICE) == nano


@pytest.mark.parametrize(
    "usage",
    [
        {**USAGE, "totalTokens": 1},
        {**USAGE, "cacheDetails": [{"ttl": "1h", "inputTokens": 400}]},
    ],
)
def test_usage_that_contradicts_itself_is_doubtful(usage: Any) -> None:
    found = reported(Raw(json.dumps(usage).encode()))
    assert (found.doubtful, found.usage and found.usage.prompt) == (True, 3721)


def test_cached_tokens_are_not_charged_twice_where_a_stream_of_openai_s_models_counts_them_twice() -> None:
    usage = {"inputTokens": 4995, "outputTokens": 19, "totalTokens": 10007, "cacheWriteInputTokens": 4993}
    last = eventstreams.stream(
        ("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})
    )
    _, seen = streamed(HELLO, last, model="openai.gpt-5.6")
    assert (seen.usage, seen.usage_doubtful) == (Usage(input=2, cache_write=4993, output=19), True)
    _, seen = streamed(HELLO, last)
    assert seen.usage == Usage(input=4995, cache_write=4993, output=19)


def broken(*pieces: bytes) -> tuple[str, Exception]:
    """What the client got of a stream that broke, and how."""
    reader = Bedrock().stream(request(stream=True), target(), event_bytes=1000, cap=1000, request_id=REQUEST_ID)
    got = b""
    try:
        for piece in pieces:
            got += reader.feed(piece)
        reader.close()
    except (relay.ProtocolError, relay.StreamedError) as error:
        got += error.before
        chunks = [json.loads(event.removeprefix("data: ")) for event in got.decode().split("\n\n") if event]
        return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks), error
    raise AssertionError("it did not break")


@pytest.mark.parametrize(
    ("kind", "words", "status", "code"),
    [
        ("throttlingException", "Too many tokens", 429, "rate_limit_exceeded"),
        ("modelStreamErrorException", "It broke", 502, "provider_unavailable"),
        ("internalServerException", "It broke", 500, "server"),
        ("serviceUnavailableException", "Later", 503, "provider_overloaded"),
        ("validationException", "Input is too long for requested model.", 400, "context_length_exceeded"),
        ("validationException", "Malformed", 400, "invalid_request"),
        ("ofTomorrowException", "?", 502, "provider_unavailable"),
    ],
)
def test_an_exception_in_a_stream_is_told_after_its_text(kind: str, words: str, status: int, code: str) -> None:
    bad = eventstreams.exception(kind, words)
    for cut in (0, 1, len(bad) // 2, len(bad)):
        text, error = broken(HELLO, bad[:cut], bad[cut:])
        assert text == "Hello"
        assert isinstance(error, relay.StreamedError)
        told = reply.streamed_error("bedrock", error.args[0])
        assert (told.upstream_status, told.code) == (status, code)
        assert json.loads(error.args[0])["message"] == words


def test_an_error_that_is_none_of_the_api_s_own() -> None:
    headers = {":message-type": "error", ":error-code": "InternalServerException", ":error-message": "no"}
    text, error = broken(HELLO + eventstreams.frame(headers, b""))
    assert (text, reply.streamed_error("bedrock", error.args[0]).code) == ("Hello", "server")


@pytest.mark.parametrize("place", range(0, 40, 3))
def test_a_byte_that_is_wrong_breaks_the_stream(place: int) -> None:
    last = eventstreams.event("messageStop", stopReason="end_turn")
    spoilt = last[:place] + bytes([last[place] ^ 1]) + last[place + 1 :]
    text, error = broken(HELLO, spoilt)
    assert text == "Hello"
    assert isinstance(error, relay.ProtocolError)


def test_a_stream_that_ends_within_an_event_or_before_its_stop_has_broken_off() -> None:
    assert isinstance(broken(HELLO)[1], relay.ProtocolError)
    stop = eventstreams.event("messageStop", stopReason="end_turn")
    assert isinstance(broken(HELLO, stop[:-1])[1], relay.ProtocolError)
    assert isinstance(broken(HELLO, stop, stop[:9])[1], relay.ProtocolError)


def test_a_stream_without_metadata_is_whole_and_without_usage() -> None:
    chunks, seen = streamed(HELLO, eventstreams.event("messageStop", stopReason="end_turn"))
    assert (message(chunks)["content"], seen.usage) == ("Hello", None)


def test_an_answer_without_usage_is_whole() -> None:
    body = json.loads(whole({"text": "Hi"}))
    del body["usage"]
    told, seen = Bedrock().answer(json.dumps(body).encode(), request(), target(), request_id=REQUEST_ID)
    assert (json.loads(told)["choices"][0]["message"]["content"], seen.usage) == ("Hi", None)
    last = [eventstreams.event("messageStop", stopReason="end_turn"), eventstreams.event("metadata", metrics={})]
    assert streamed(HELLO, *last)[1].usage is None


def test_events_of_tomorrow_are_passed_over() -> None:
    headers = {":message-type": "event", ":event-type": "initial-response"}
    others = [
        eventstreams.frame(headers, b""),
        eventstreams.event("contentBlockStart", contentBlockIndex=0, start={}),
        eventstreams.event("contentBlockDelta", contentBlockIndex=0, delta={"citation": {"title": "x"}}),
        eventstreams.event("ofTomorrow", delta=5),
    ]
    last = eventstreams.event("messageStop", stopReason="end_turn")
    assert message(streamed(*others, HELLO, *others, last)[0])["content"] == "Hello"


def test_tools_of_the_provider_s_own_are_no_calls_of_the_client_s() -> None:
    used = {"toolUse": {"toolUseId": "srv", "name": "web", "input": {}, "type": "server_tool_use"}}
    assert "tool_calls" not in answer(used, {"text": "Found."})[0]["choices"][0]["message"]
    events = eventstreams.stream(
        ("contentBlockStart", {"contentBlockIndex": 0, "start": used}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}}),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Found."}}),
        ("messageStop", {"stopReason": "end_turn"}),
    )
    assert message(streamed(events)[0])["calls"] == {}


def test_an_event_may_not_be_larger_than_the_bound() -> None:
    large = eventstreams.event("contentBlockDelta", contentBlockIndex=0, delta={"text": "x" * 2000})
    for pieces in ([large], [large[:1500]], [large[:600], large[600:]]):
        text, error = broken(HELLO, *pieces)
        assert (text, type(error)) == ("Hello", relay.ProtocolError)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"message":"no"}', b'{"output":{"message":{}}}', b"\xff"])
def test_a_body_that_is_no_answer_is_a_fault_of_the_provider(body: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        Bedrock().answer(body, request(), target())


@pytest.mark.parametrize(
    ("status", "kind", "words", "ours", "code"),
    [
        (429, "ThrottlingException:http://internal.amazon.com/coral/", "Too many requests", 429, "rate_limit_exceeded"),
        (429, "ModelNotReadyException", "Warming up", 429, "provider_overloaded"),
        (400, "ServiceQuotaExceededException", "Quota", 400, "rate_limit_exceeded"),
        (400, "ValidationException", "Input is too long for requested model.", 400, "context_length_exceeded"),
        (
            400,
            "ValidationException",
            "The maximum tokens you requested exceeds the model limit of 4096.",
            400,
            "max_tokens_exceeded",
        ),
        (400, "ValidationException", "messages.1 is malformed", 400, "invalid_request"),
        (404, "ResourceNotFoundException", "Could not resolve the model", 404, "not_found"),
        (408, "ModelTimeoutException", "Too slow", 408, "timeout"),
        (424, "ModelErrorException", "It broke", 502, "provider_unavailable"),
        (500, "InternalServerException", "It broke", 502, "server"),
        (503, "ServiceUnavailableException", "Later", 502, "provider_overloaded"),
        (403, "AccessDeniedException", "No access to the model", 502, "provider_unavailable"),
        (403, "ExpiredTokenException", "The security token is expired", 502, "provider_unavailable"),
    ],
)
def test_errors_are_told_in_openai_s_words(status: int, kind: str, words: str, ours: int, code: str) -> None:
    body = json.dumps({"message": words}).encode()
    told = Bedrock().refusal(status, {"x-amzn-errortype": kind}, body)
    error = reply.upstream_error("bedrock", status, told)
    assert (error.status, error.code) == (ours, code)
    assert (words in error.message) is (status in {400, 404})
    named_in_body = json.dumps({"__type": f"com.amazon.coral.service#{kind}", "Message": words}).encode()
    assert Bedrock().refusal(status, {}, named_in_body) == told


BLOCKS = st.lists(
    st.one_of(
        st.text(min_size=1).filter(str.strip).map(lambda text: {"text": text}),
        st.builds(
            lambda name, arguments: ("call", name, arguments),
            st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True),
            st.dictionaries(st.text(), st.text() | st.integers(-(2**53), 2**53) | st.booleans() | st.none()),
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(
    st.builds(
        lambda text: {"reasoningContent": {"reasoningText": {"text": text, "signature": "s"}}},
        st.text("ab", min_size=1),
    )
    | st.none(),
    BLOCKS,
)
@settings(max_examples=150, deadline=None)
def test_what_is_answered_goes_back_as_it_was(thought: Any, drawn: list[Any]) -> None:
    texts = [block for block in drawn if isinstance(block, dict)]
    calls = [
        {"toolUse": {"toolUseId": f"tooluse_{number}", "name": block[1], "input": block[2]}}
        for number, block in enumerate(block for block in drawn if isinstance(block, tuple))
    ]
    blocks = [*([thought] if thought else []), *texts, *calls]
    body, _ = answer(*blocks, stop="tool_use" if calls else "end_turn")
    said = body["choices"][0]["message"]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {number}"}
        for number, call in enumerate(said.get("tool_calls", []))
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    asked = request(
        messages=[{"role": "user", "content": "Hi"}, said, *(results or [{"role": "user", "content": "?"}])],
        tools=tools,
    )
    call = Bedrock().call(asked, target(), cap=9, request_id="r")
    _, spoken, after = accept(call.url, call.body, model=MODEL)["messages"]
    joined = [{"text": "".join(block["text"] for block in texts)}] if texts else []
    assert spoken == {"role": "assistant", "content": [*([thought] if thought else []), *joined, *calls]}
    assert [block["toolResult"]["toolUseId"] for block in after["content"] if "toolResult" in block] == [
        call["toolUse"]["toolUseId"] for call in calls
    ]
