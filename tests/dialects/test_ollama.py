"""Ollama's own chat API: requests, answers whole and in lines, and what it says of errors."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hpp_middleware.core import parse, relay, reply
from hpp_middleware.core import price as pricing
from hpp_middleware.core.settlement import End, settle
from hpp_middleware.dialects.ollama import Ollama
from hpp_middleware.dialects.presets import provider as preset
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
PNG = base64.b64encode(b"\x89PNG-not-really").decode()
REQUEST_ID = "req_0199aabbccdd00112233445566778899"
PRICE = Price(base=pricing.rates_from_usd({"input": "0.2", "output": "0.6", "cache_read": "0.02"}, "price"))
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
TOOL = {"type": "function", "function": FUNCTION}


def target(model: str = "qwen3:8b", **provider: Any) -> Target:
    configured: dict[str, Any] = {"base_url": "http://127.0.0.1:11434", "dialect": "ollama", **provider}
    return Target(
        id=f"ollama/{model}",
        provider_name="ollama",
        model_name=model,
        provider=Provider(**configured),
        model=Model(),
        price=PRICE,
    )


def request(**fields: Any) -> Request:
    return parse.completion(json.dumps({"model": "ollama/m", "messages": HI, **fields}).encode(), Limits())


def call(where: Target | None = None, cap: int | None = 50, **fields: Any) -> HTTPCall:
    return Ollama().call(request(**fields), where or target(), cap=cap, request_id="req_1")


def said(where: Target | None = None, cap: int | None = 50, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(where, cap, **fields).body)
    return found


@pytest.mark.parametrize("base", ["http://127.0.0.1:11434", "http://127.0.0.1:11434/", "http://127.0.0.1:11434/v1"])
def test_a_call_goes_to_its_own_api_whatever_port_is_configured(base: str) -> None:
    made = call(target(base_url=base), stream=True)
    assert made.url == "http://127.0.0.1:11434/api/chat"
    assert made.stream_type == "application/x-ndjson"
    assert json.loads(made.body) == {
        "model": "qwen3:8b",
        "messages": HI,
        "stream": True,
        "options": {"num_predict": 50},
    }
    assert said()["stream"] is False  # it streams unless it is told not to


def test_the_preset_speaks_openai_s_api_unless_it_is_said() -> None:
    assert preset("ollama").dialect == "openai"
    own = preset("ollama", dialect="ollama")
    Ollama().check(own)
    assert call(target(base_url=own.base_url)).url == "http://127.0.0.1:11434/api/chat"


def test_what_steers_the_output() -> None:
    sent = said(
        temperature=0.5,
        top_p=0.25,
        top_k=4,
        min_p=0.125,
        seed=7,
        stop="END",
        frequency_penalty=0.5,
        presence_penalty=0.75,
        max_completion_tokens=9,
    )
    assert sent["options"] == {
        "num_predict": 9,
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 4,
        "min_p": 0.125,
        "seed": 7,
        "stop": ["END"],
        "frequency_penalty": 0.5,
        "presence_penalty": 0.75,
    }


@pytest.mark.parametrize(("kept", "expected"), [("10m", "10m"), ("-1", -1), ("300", 300)])
def test_what_the_operator_sets(kept: str, expected: Any) -> None:
    where = target(options={"keep_alive": kept, "num_ctx": "8192"}, api_key="cloud-key")
    Ollama().check(where.provider)
    sent = said(where)
    assert (sent["keep_alive"], sent["options"]["num_ctx"]) == (expected, 8192)
    assert dict(call(where).headers)["Authorization"] == "Bearer cloud-key"


@pytest.mark.parametrize("options", [{"num_ctx": "many"}, {"num_ctx": "0"}, {"num_gpu": "1"}])
def test_wrong_settings_are_refused_when_the_gateway_is_built(options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Ollama().check(target(options=options).provider)
    assert caught.value.param == f"options.{next(iter(options))}"


def test_images_tools_and_their_results() -> None:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}}
    sent = said(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "See"}, image]},
            {"role": "assistant", "content": None, "tool_calls": [called], "reasoning_content": "Hm"},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
        tools=[TOOL],
    )
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "See", "images": [PNG]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm",
            "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": "call_1", "tool_name": "weather"},
    ]
    assert sent["tools"] == [TOOL]
    assert "tools" not in said(tools=[TOOL], tool_choice="none")


def test_formats_and_thoughts() -> None:
    assert said(response_format={"type": "json_object"})["format"] == "json"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert said(response_format=form)["format"] == SCHEMA
    assert said(reasoning_effort="high")["think"] is True
    assert said(reasoning_effort="none")["think"] is False
    assert said(target("gpt-oss:20b"), reasoning_effort="high")["think"] == "high"
    assert said(target("gpt-oss:20b"), reasoning_effort="minimal")["think"] == "low"
    assert "think" not in said()


@pytest.mark.parametrize(
    ("budget", "level"), [(1, "low"), (4_096, "low"), (4_097, "medium"), (16_384, "medium"), (16_385, "high")]
)
def test_a_budget_of_thought_is_an_effort(budget: int, level: str) -> None:
    assert said(reasoning={"max_tokens": budget})["think"] is True
    assert said(target("gpt-oss:20b"), reasoning={"max_tokens": budget})["think"] == level


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": TOOL}, "tool_choice"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"options": {"num_predict": 9}}, "options"),
        ({"num_predict": 9}, "num_predict"),
        ({"keep_alive": -1}, "keep_alive"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": "https://a.example/b.png"}]}
                ]
            },
            "messages[0].content[0].image_url.url",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "messages[0].content[0].type"),
        ({"messages": [*HI, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        (
            {
                "messages": [
                    *HI,
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "1"}}],
                    },
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        call(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


METRICS = {
    "total_duration": 5_000_000_000,
    "load_duration": 4_000_000_000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 1,
    "eval_count": 12,
    "eval_duration": 2,
}
HEAD = {"model": "qwen3:8b", "created_at": "2026-11-29T12:00:00.123456Z"}
CALLS = [
    {"function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}},
    {"id": "call_own", "function": {"index": 1, "name": "now", "arguments": {}}},
]
LINES = [
    {**HEAD, "message": {"role": "assistant", "content": "", "thinking": "Hm, "}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": "", "thinking": "Köln."}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": "Lo"}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": "ok:\u2028"}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": "", "tool_calls": CALLS}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **METRICS},
]


def ndjson(*lines: Any) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


STREAM = ndjson(*LINES)


def passed_on(*pieces: bytes, **fields: Any) -> tuple[list[Any], Seen]:
    asked = request(**{"stream": True, "stream_options": {"include_usage": True}, **fields})
    reader = Ollama().stream(asked, target(), event_bytes=1_000, cap=100, request_id=REQUEST_ID)
    data = b"".join(reader.feed(piece) for piece in pieces) + reader.close()
    assert reader.done
    *events, done = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
    assert done == "[DONE]"
    return [json.loads(event) for event in events], reader.seen


def test_a_stream_is_told_in_openai_s_chunks() -> None:
    chunks, seen = passed_on(STREAM)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm, Köln."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Look:\u2028"
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [call["id"] for call in calls] == [f"call_{REQUEST_ID.removeprefix('req_')}_0", "call_own"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"city": "Köln", "days": 2}, {}]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-2]["choices"][0]["native_finish_reason"] == "stop"
    assert chunks[-1]["usage"] == {"prompt_tokens": 26, "completion_tokens": 12, "total_tokens": 38}
    raw = json.loads(bytes(seen.usage_raw or b""))
    assert (raw["load_duration"], raw["eval_count"]) == (4_000_000_000, 12)


def test_it_may_be_cut_at_every_byte() -> None:
    expected = passed_on(STREAM)
    for cut in range(1, len(STREAM)):
        assert passed_on(STREAM[:cut], STREAM[cut:]) == expected
    assert passed_on(STREAM.removesuffix(b"\n")) == expected
    assert passed_on(STREAM.replace(b"\n", b"\r\n")) == expected


def test_a_whole_answer_is_put_together() -> None:
    message = {"role": "assistant", "content": "Look", "thinking": "Hm", "tool_calls": CALLS}
    body = json.dumps({**LINES[-1], "message": message}).encode()
    told, seen = Ollama().answer(body, request(), target(), request_id=REQUEST_ID)
    ChatCompletion.model_validate_json(told)
    said = json.loads(told)["choices"][0]["message"]
    assert (said["content"], said["reasoning_content"], len(said["tool_calls"])) == ("Look", "Hm", 2)
    assert seen.usage == Usage(input=26, output=12)
    told, _ = Ollama().answer(body, request(reasoning={"exclude": True}), target(), request_id=REQUEST_ID)
    assert "reasoning_content" not in json.loads(told)["choices"][0]["message"]


@pytest.mark.parametrize(
    ("last", "usage", "nano"),
    [
        ({"prompt_eval_count": 26, "eval_count": 12}, Usage(input=26, output=12), 26 * 200 + 12 * 600),
        ({"prompt_eval_count": 26}, Usage(input=26), 26 * 200 + 3 * 600),  # three words are not left out as a zero is
        (
            {"prompt_eval_count": 26, "prompt_eval_cached_count": 20, "eval_count": 1},
            Usage(input=6, cache_read=20, output=1),
            6 * 200 + 20 * 20 + 600,
        ),
        ({"prompt_eval_count": 26, "prompt_eval_cached_count": 0, "eval_count": 0}, Usage(input=26), 26 * 200),
        ({"done_reason": "load"}, None, 40 * 200 + 3 * 600),
        ({"eval_count": 12}, None, 40 * 200 + 3 * 600),  # the prompt is not told: what is estimated, is estimated whole
    ],
)
def test_usage_is_priced_once_to_the_nano_dollar(last: dict[str, Any], usage: Usage | None, nano: int) -> None:
    words = [{**HEAD, "message": {"role": "assistant", "content": "word"}, "done": False} for _ in range(3)]
    _, seen = passed_on(ndjson(*words, {**HEAD, "done": True, "done_reason": "stop", **last}))
    assert seen.usage == usage
    assert not seen.usage_doubtful
    assert settle(End.COMPLETED, seen, price=PRICE, hold=10**9, prompt_estimate=40).amount == nano


@pytest.mark.parametrize(
    ("last", "usage"),
    [
        ({"prompt_eval_count": 26}, Usage(input=26)),  # zero is left out
        ({"done_reason": "load"}, Usage()),  # nothing was asked of the model
    ],
)
def test_an_answer_of_nothing_has_no_output_to_count(last: dict[str, Any], usage: Usage) -> None:
    _, seen = passed_on(ndjson({**HEAD, "done": True, "done_reason": "stop", **last}))
    assert (seen.usage, seen.usage_early) == (usage, False)


def test_an_error_keeps_the_counts_that_come_with_it() -> None:
    body = {"error": "it broke", "prompt_eval_count": 26, "eval_count": 12}
    with pytest.raises(relay.StreamedError) as told:
        Ollama().answer(json.dumps(body).encode(), request(), target())
    assert told.value.args[1].usage == Usage(input=26, output=12)


def test_more_cached_than_there_was_is_doubtful() -> None:
    _, seen = passed_on(ndjson({**HEAD, "done": True, "prompt_eval_count": 5, "prompt_eval_cached_count": 9}))
    assert (seen.usage, seen.usage_doubtful) == (Usage(cache_read=5), True)


@pytest.mark.parametrize("reason", ["length", "stop", None])
def test_why_it_ended(reason: str | None) -> None:
    done = {**HEAD, "done": True, "prompt_eval_count": 1} | ({"done_reason": reason} if reason else {})
    (finish, _), _ = passed_on(ndjson(done))
    assert finish["choices"][0]["finish_reason"] == (reason or "stop")


def broken(*pieces: bytes) -> tuple[bytes, Exception]:
    reader = Ollama().stream(request(stream=True), target(), event_bytes=1_000, cap=100)
    got = b""
    try:
        for piece in pieces:
            got += reader.feed(piece)
        reader.close()
    except (relay.ProtocolError, relay.StreamedError) as error:
        return got + error.before, error
    raise AssertionError("it did not break")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("an error was encountered while running the model: CUDA error", "server"),
        ("the input length exceeds the context length", "context_length_exceeded"),
    ],
)
def test_an_error_among_the_lines(words: str, code: str) -> None:
    got, error = broken(ndjson(LINES[2]), ndjson({"error": words}))
    assert b'"Lo"' in got
    assert isinstance(error, relay.StreamedError)
    assert reply.streamed_error("ollama", error.args[0]).code == code
    with pytest.raises(relay.StreamedError):
        Ollama().answer(json.dumps({"error": words}).encode(), request(), target())


@pytest.mark.parametrize(
    "rest", [b"", b"{\n", b"[]\n", b'{"message":{"content":5}}\n', b"{" * 2_000, b"x" * 2_000 + b"\n"]
)
def test_a_stream_that_breaks_off_or_is_no_stream(rest: bytes) -> None:
    got, error = broken(ndjson(LINES[2]), rest)
    assert b'"Lo"' in got
    assert isinstance(error, relay.ProtocolError)


@pytest.mark.parametrize(
    ("status", "words", "ours", "code"),
    [
        (404, "model 'nope' not found", 404, "not_found"),
        (400, "registry.ollama.ai/library/gemma:2b does not support tools", 400, "invalid_request"),
        (400, "the input length exceeds the context length", 400, "context_length_exceeded"),
        (500, "model requires more system memory (9.1 GiB) than is available (3.2 GiB)", 502, "server"),
        (503, "server busy, please try again. maximum pending requests exceeded", 502, "provider_overloaded"),
    ],
)
def test_errors_are_told_in_openai_s_words(status: int, words: str, ours: int, code: str) -> None:
    told = Ollama().refusal(status, {}, json.dumps({"error": words}).encode())
    error = reply.upstream_error("ollama", status, told)
    assert (error.status, error.code) == (ours, code)
    assert (error.message == words) is (status in {400, 404})
    assert Ollama().refusal(500, {}, b'{"error":{"message":"no"}}') == b'{"error":{"message":"no"}}'


@given(
    st.text(),
    st.lists(
        st.tuples(st.text("abc_", min_size=1), st.dictionaries(st.text(), st.text() | st.integers(0, 99))), max_size=4
    ),
)
@settings(max_examples=100, deadline=None)
def test_what_is_answered_goes_back_as_it_was(text: str, drawn: list[tuple[str, dict[str, Any]]]) -> None:
    calls = [{"function": {"name": name, "arguments": arguments}} for name, arguments in drawn]
    message = {"role": "assistant", "content": text or ("" if calls else "x"), "tool_calls": calls}
    body, _ = Ollama().answer(
        json.dumps({**LINES[-1], "message": message}).encode(), request(), target(), request_id=REQUEST_ID
    )
    spoken = json.loads(body)["choices"][0]["message"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "x"} for call in spoken.get("tool_calls", [])]
    _, again, *after = said(messages=[*HI, spoken, *results, *HI])["messages"]
    assert again["content"] == message["content"]
    assert [call["function"] for call in again.get("tool_calls", [])] == [call["function"] for call in calls]
    assert [result["tool_name"] for result in after[:-1]] == [name for name, _ in drawn]
    assert [result["tool_call_id"] for result in after[:-1]] == [call["id"] for call in again.get("tool_calls", [])]
