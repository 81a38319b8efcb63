"""What an answer says is read alike, in whichever API it is written."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpp_middleware.core.auto.said import Said, form, said
from hpp_middleware.core.auto.verify import fault
from hpp_middleware.types.completion import Request


def message(*content: dict[str, Any], stop: str = "end_turn") -> bytes:
    return msgspec.json.encode({"type": "message", "content": content, "stop_reason": stop})


def response(*output: dict[str, Any], **more: Any) -> bytes:
    return msgspec.json.encode({"object": "response", "status": "completed", "output": output, **more})


def told(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


def request(api: str, **fields: Any) -> Request:
    return Request(
        fields={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}, model="m", api=api
    )


TEXT = {"type": "text", "text": "Paris."}
THOUGHT = {"type": "thinking", "thinking": "I'm not sure.", "signature": "s"}


@pytest.mark.parametrize(
    ("api", "body", "expected"),
    [
        ("messages", message(TEXT), Said("Paris.")),
        ("messages", message(THOUGHT, TEXT), Said("Paris.")),
        ("messages", message({"type": "tool_use", "id": "1", "name": "f", "input": {}}), Said(calls=True)),
        ("messages", message(TEXT, stop="pause_turn"), Said("Paris.", calls=True)),
        ("messages", message(TEXT, stop="refusal"), Said("Paris.", refused=True)),
        ("messages", message(TEXT, stop="max_tokens"), Said("Paris.", cut=True)),
        ("messages", message(TEXT, stop="model_context_window_exceeded"), Said("Paris.", full=True)),
        ("messages", b"[]", Said()),
        ("messages", b'{"content": "Paris."}', Said("Paris.")),
        ("responses", response(told("Paris.")), Said("Paris.")),
        ("responses", response({"type": "reasoning", "summary": []}, told("Paris.")), Said("Paris.")),
        ("responses", response({"type": "web_search_call"}, told("Paris.")), Said("Paris.")),
        ("responses", response({"type": "function_call", "name": "f"}), Said(calls=True)),
        ("responses", response({"type": "image_generation_call"}), Said(calls=True)),
        ("responses", response(status="in_progress"), Said(calls=True)),
        (
            "responses",
            response({"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}),
            Said(refused=True),
        ),
        ("responses", response(incomplete_details={"reason": "content_filter"}), Said(refused=True)),
        (
            "responses",
            response(told("Par"), incomplete_details={"reason": "max_output_tokens"}),
            Said("Par", cut=True),
        ),
        ("responses", b"nothing", Said()),
        ("responses", b'{"output": [1, {"type": "message", "content": [2, {"text": 3}]}]}', Said()),
    ],
)
def test_an_answer_is_read_in_its_own_words(api: str, body: bytes, expected: Said) -> None:
    assert said(body, api) == expected


SCHEMA = {"type": "object", "required": ["a"]}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request("messages"), None),
        (request("messages", output_config={"format": {"type": "json_schema", "schema": SCHEMA}}), SCHEMA),
        (request("messages", output_format={"type": "json_schema", "schema": SCHEMA}), SCHEMA),
        (request("messages", output_config={"effort": "low"}), None),
        (request("responses"), None),
        (request("responses", text={"format": {"type": "text"}}), None),
        (request("responses", text={"format": {"type": "json_object"}}), {"type": "object"}),
        (request("responses", text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}), SCHEMA),
        (request("responses", text="x"), None),
        (request("chat", response_format={"type": "json_schema", "json_schema": {"schema": SCHEMA}}), SCHEMA),
        (request("chat", response_format={"type": "json_schema", "json_schema": {}}), {}),
        (request("chat", response_format={"type": ["json_schema"]}), None),
    ],
)
def test_a_schema_is_found_where_its_api_has_it(asked: Request, expected: dict[str, Any] | None) -> None:
    assert form(asked) == expected


@pytest.mark.parametrize(
    ("api", "body", "expected"),
    [
        ("messages", message(TEXT), None),
        ("messages", message(THOUGHT, TEXT), None),
        ("messages", message(THOUGHT), "empty"),
        ("messages", message({"type": "text", "text": "I'm not sure."}), "unsure"),
        ("messages", message(stop="refusal"), "refused"),
        ("messages", message(TEXT, stop="model_context_window_exceeded"), "cut off"),
        ("responses", response(told("Paris.")), None),
        ("responses", response(), "empty"),
        ("responses", response(told("I do not know")), "unsure"),
        ("responses", response(told("Par"), incomplete_details={"reason": "max_output_tokens"}), "cut off"),
    ],
)
def test_it_is_judged_alike_in_each(api: str, body: bytes, expected: str | None) -> None:
    assert fault(body, request(api)) == expected


def test_a_window_that_is_full_is_no_cap_of_the_clients() -> None:
    capped = msgspec.structs.replace(request("messages"), cap=100)
    assert fault(message(TEXT, stop="model_context_window_exceeded"), capped) == "cut off"
    assert fault(message(TEXT, stop="max_tokens"), capped) is None


def test_a_schema_of_another_api_is_held_against_the_answer() -> None:
    asked = request("responses", text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}})
    assert fault(response(told('{"a": 1}')), asked) is None
    assert fault(response(told('{"b": 1}')), asked) == "not of the schema"
    assert fault(response(told("{")), asked) == "no JSON"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["output", "content", "type", "text", "message", "choices", "stop_reason", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(["chat", "messages", "responses"]))
@example({"content": [{"type": []}], "stop_reason": {}}, "messages")
@example({"output": [{"type": {}}], "status": [], "incomplete_details": {"reason": []}}, "responses")
@example({"choices": [{"finish_reason": [], "message": {"content": [{"type": []}]}}]}, "chat")
def test_nothing_that_comes_is_more_than_it_can_read(found: Any, api: str) -> None:
    assert isinstance(said(msgspec.json.encode(found), api), Said)
