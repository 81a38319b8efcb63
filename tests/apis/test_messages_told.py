"""Whole answers as messages, in Anthropic's types and terms."""

import json
from typing import Any

import pytest
from anthropic.types import Message
from messaging import ID, LIMITS, TARGET, asking
from msgspec import Raw

from hpp_middleware.apis.messages import MESSAGES, told
from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Usage

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def message(said: dict[str, Any], *, usage: Any = USAGE, charge: Any = None, **choice: Any) -> Message:
    request = MESSAGES.request(asking(), LIMITS)
    dialect = MESSAGES.spoken_by(OpenAI(), request)
    body = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"role": "assistant", **said}, "finish_reason": "stop", **choice}],
        **({"usage": usage} if usage else {}),
    }
    data = json.dumps(body).encode()
    found, _ = dialect.answer(data, MESSAGES.as_chat(request, LIMITS), TARGET, charge=charge, request_id=ID)
    return Message.model_validate_json(found, strict=True)


def blocks(said: dict[str, Any]) -> list[Any]:
    return [block.model_dump(exclude_none=True) for block in message(said).content]


def test_an_answer_is_a_message_of_the_resolved_model() -> None:
    found = message({"content": "Hello"})
    assert (found.id, found.model, found.role, found.type) == (f"msg_{ID[4:]}", "fake/m", "assistant", "message")
    assert found.content[0].model_dump(exclude_none=True) == {"type": "text", "text": "Hello"}
    assert (found.stop_reason, found.stop_sequence) == ("end_turn", None)
    assert (found.usage.input_tokens, found.usage.output_tokens) == (9, 2)


def test_a_message_s_own_id_is_kept() -> None:
    seen = Seen(upstream_id="msg_01abc")
    assert json.loads(told.message(b'{"choices":[{}]}', seen, model="m", message_id="msg_01abc"))["id"] == "msg_01abc"


def test_thoughts_text_and_calls_are_blocks_in_that_order() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "a", "arguments": '{"x": [1, "é"]}'}}]
    assert blocks({"content": "Yes", "reasoning_content": "Hm", "tool_calls": calls}) == [
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "text", "text": "Yes"},
        {"type": "tool_use", "id": "c1", "name": "a", "input": {"x": [1, "é"]}},
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        (None, {}),
        (" ", {}),
        ({"x": 1}, {"x": 1}),
        ("{", {"INVALID_JSON": "{"}),
        ("[1]", {"INVALID_JSON": "[1]"}),
    ],
)
def test_arguments_are_always_an_object(arguments: Any, expected: Any) -> None:
    (block,) = blocks({"content": None, "tool_calls": [{"function": {"name": "a", "arguments": arguments}}]})
    assert block["input"] == expected
    assert block["id"].startswith("toolu_")


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning": "Hm"},
        {"reasoning_content": "Hm", "reasoning": "Hm"},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}]},
        {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
    ],
)
def test_thoughts_are_found_under_each_of_their_names(said: dict[str, Any]) -> None:
    assert blocks({"content": "", **said})[0] == {"type": "thinking", "thinking": "Hm", "signature": ""}


def test_what_proves_thoughts_is_kept_and_comes_back_as_it_was() -> None:
    google = {"type": "reasoning.encrypted", "data": "xyz", "format": "google-gemini-v1", "id": "c1"}
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "sig", "format": "anthropic-claude-v1"},
        {"type": "reasoning.encrypted", "data": "abc"},
        google,
    ]
    found = blocks({"content": "Yes", "reasoning": "Hm", "reasoning_details": details})
    assert found[0] == {"type": "thinking", "thinking": "Hm", "signature": "sig"}
    assert found[1] == {"type": "redacted_thinking", "data": "abc"}
    request = MESSAGES.request(asking({"role": "assistant", "content": found}), LIMITS)
    (again,) = json.loads(bytes(MESSAGES.as_chat(request, LIMITS).fields["messages"]))
    assert again["reasoning_details"] == [
        {**details[0], "index": 0},
        {**details[1], "format": "anthropic-claude-v1", "index": 1},
        {**google, "index": 2},
    ]


def test_several_signed_thoughts_stay_several() -> None:
    details = [{"type": "reasoning.text", "text": text, "signature": f"sig-{text}"} for text in "ab"]
    assert blocks({"content": "", "reasoning_details": details}) == [
        {"type": "thinking", "thinking": "a", "signature": "sig-a"},
        {"type": "thinking", "thinking": "b", "signature": "sig-b"},
    ]


def test_a_proof_that_is_not_ours_to_unpack_stays_what_it_is() -> None:
    block = {"type": "thinking", "thinking": "Hm", "signature": "hpp1.!!!"}
    request = MESSAGES.request(asking({"role": "assistant", "content": [block]}), LIMITS)
    (again,) = json.loads(bytes(MESSAGES.as_chat(request, LIMITS).fields["messages"]))
    assert again["reasoning_details"][0]["signature"] == "hpp1.!!!"


CALL = {"tool_calls": [{"id": "c", "function": {"name": "a", "arguments": "{}"}}]}


@pytest.mark.parametrize(
    ("said", "choice", "expected"),
    [
        ({"content": "x"}, {"finish_reason": "stop"}, ("end_turn", None)),
        ({"content": "x"}, {"finish_reason": "length"}, ("max_tokens", None)),
        (CALL, {"finish_reason": "tool_calls"}, ("tool_use", None)),
        (CALL, {"finish_reason": "stop"}, ("tool_use", None)),
        ({"content": "x"}, {"finish_reason": "content_filter"}, ("refusal", None)),
        ({"refusal": "No."}, {"finish_reason": "stop"}, ("refusal", None)),
        ({"content": "x"}, {"finish_reason": "other"}, ("end_turn", None)),
        ({"content": "x"}, {"finish_reason": "stop", "stop_reason": "END"}, ("stop_sequence", "END")),
        ({"content": "x"}, {"finish_reason": "stop", "stop_reason": 5}, ("end_turn", None)),
        (
            {"content": "x"},
            {"finish_reason": "stop", "native_finish_reason": "stop_sequence"},
            ("stop_sequence", None),
        ),
        (
            {"content": "x"},
            {"finish_reason": "length", "native_finish_reason": "model_context_window_exceeded"},
            ("model_context_window_exceeded", None),
        ),
        ({"content": "x"}, {"finish_reason": "stop", "native_finish_reason": "STOP"}, ("end_turn", None)),
    ],
)
def test_why_it_stopped(said: dict[str, Any], choice: dict[str, Any], expected: tuple[str, str | None]) -> None:
    found = message({"content": None, **said}, **choice)
    assert (found.stop_reason, found.stop_sequence) == expected


def test_usage_leaves_what_was_cached_out_of_the_input() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 30},
    }
    found = message({"content": "x"}, usage=usage).usage
    assert (found.input_tokens, found.cache_read_input_tokens, found.cache_creation_input_tokens) == (30, 60, 10)
    assert found.output_tokens == 50
    assert found.output_tokens_details is not None
    assert found.output_tokens_details.thinking_tokens == 30


def test_every_bucket_stands_in_the_usage_once() -> None:
    buckets = Usage(
        input=1,
        cache_read=2,
        cache_write=4,
        cache_write_1h=8,
        input_audio=16,
        input_image=32,
        tool_prompt=64,
        output=128,
        reasoning=256,
        output_audio=512,
        output_image=1024,
        web_searches=3,
    )
    found = told.usage(Seen(usage=buckets), None)
    assert found == {
        "input_tokens": 1 + 16 + 32 + 64,
        "cache_creation_input_tokens": 12,
        "cache_read_input_tokens": 2,
        "output_tokens": 128 + 256 + 512 + 1024,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 8},
        "output_tokens_details": {"thinking_tokens": 256},
        "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 0},
    }


def test_the_cost_is_told_where_it_is_told_at_all() -> None:
    def charge(_end: End, seen: Seen) -> Settlement:
        return Settlement(1500, "completed", estimated=False, usage=seen.usage or Usage())

    extra = message({"content": "x"}, charge=charge).usage.model_extra
    assert extra == {"cost": 0.0000015}
    assert not message({"content": "x"}).usage.model_extra


def test_an_estimate_is_called_one_and_has_the_ledger_s_tokens() -> None:
    def charge(_end: End, _seen: Seen) -> Settlement:
        return Settlement(1500, "completed", estimated=True, usage=Usage(input=7, output=3))

    found = message({"content": "x"}, usage=None, charge=charge).usage
    assert (found.input_tokens, found.output_tokens) == (7, 3)
    assert found.model_extra == {"cost": 0.0000015, "estimated": True}


def test_an_answer_without_usage_says_none() -> None:
    found = message({"content": "x"}, usage=None).usage
    assert (found.input_tokens, found.output_tokens) == (0, 0)


@pytest.mark.parametrize("body", [b'{"choices":[{"message":{"content":5}}]}', b'{"choices":5}', b"{", b"\xff"])
def test_what_is_no_completion_cannot_be_told(body: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        told.message(body, Seen(), model="m", message_id="msg_1")


def test_usage_that_cannot_be_read_is_none() -> None:
    assert told.usage(Seen(), Raw(b"5"))["input_tokens"] == 0
