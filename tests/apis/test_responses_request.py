"""Requests of the Responses API: what is taken, what the path is told of it, and what is refused by name."""

import json
from typing import Any

import pytest
from openai.types.responses import response_create_params
from pydantic import TypeAdapter

from hpp_middleware.apis.responses import RESPONSES, request
from hpp_middleware.apis.responses.items import AT_THE_CLIENT
from hpp_middleware.core import parse
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

VENDORS: TypeAdapter[Any] = TypeAdapter(response_create_params.ResponseCreateParamsNonStreaming)
PNG = "data:image/png;base64,iVBORw0KGgo="
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def read(limits: Any = None, **fields: Any) -> Request:
    body = json.dumps({"model": "p/m", "input": "Hi", **fields}).encode()
    return RESPONSES.request(body, limits or Limits())


def refused(param: str | None, limits: Any = None, **fields: Any) -> str:
    with pytest.raises(RequestError) as raised:
        read(limits, **fields)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert param is None or param in raised.value.message
    return raised.value.message


def test_the_path_is_told_what_it_acts_on() -> None:
    found = read(stream=True, max_output_tokens=7)
    assert (found.api, found.model, found.stream, found.cap, found.n) == ("responses", "p/m", True, 7, 1)
    assert found.fields.keys() == {"model", "input", "stream", "max_output_tokens"}
    assert bytes(found.fields["input"]) == b'"Hi"'
    plain = read()
    assert (plain.stream, plain.cap, plain.hidden_reasoning, plain.images) == (False, None, False, Images())


def test_images_are_counted_wherever_they_stand_and_inline_ones_by_their_bytes() -> None:
    image = {"type": "input_image", "detail": "auto", "image_url": PNG}
    far = {"type": "input_image", "detail": "low", "image_url": "https://example.com/cat.png"}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}, image, far]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [image]},
    ]
    VENDORS.validate_python({"model": "m", "input": items})
    assert read(input=items).images == Images(3, 2 * len(PNG))


def test_audio_is_noticed() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    assert read(input=[{"role": "user", "content": [part]}]).audio_input


@pytest.mark.parametrize(
    ("reasoning", "hidden"),
    [
        (None, False),
        ({"effort": "none"}, False),
        ({"effort": "minimal"}, False),
        ({"effort": "high"}, True),
        ({"summary": "auto"}, True),
    ],
)
def test_reasoning_that_is_asked_for_is_hidden(reasoning: Any, *, hidden: bool) -> None:
    assert read(reasoning=reasoning).hidden_reasoning is hidden


@pytest.mark.parametrize("field", sorted(request.REFUSED))
def test_what_is_kept_elsewhere_or_has_no_price_is_refused_unless_it_is_null(field: str) -> None:
    refused(field, **{field: "x"})
    assert read(**{field: None}).fields.keys() == {"model", "input", field}


@pytest.mark.parametrize("field", ["store", "background"])
def test_what_would_be_kept_is_refused_and_what_is_not_is_not(field: str) -> None:
    refused(field, **{field: True})
    for value in (False, None):
        assert field in read(**{field: value}).fields


@pytest.mark.parametrize("field", sorted(parse.STEERING))
def test_what_steers_a_gateway_is_refused_in_any_letter_case(field: str) -> None:
    refused(field.upper(), **{field.upper(): "x"})


@pytest.mark.parametrize("field", sorted(request.ACTED_ON))
def test_another_letter_case_of_a_key_that_matters_is_refused(field: str) -> None:
    refused(field.title(), **{field.title(): "x"})


@pytest.mark.parametrize("kind", ["function", "custom", "local_shell", "apply_patch", "shell"])
def test_tools_of_the_client_are_taken(kind: str) -> None:
    assert kind in AT_THE_CLIENT
    tool = {**FUNCTION} if kind == "function" else {"type": kind, "name": "t"}
    assert "tools" in read(tools=[tool, {"type": "namespace", "name": "n", "tools": [tool]}]).fields


@pytest.mark.parametrize(
    "kind",
    [
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "image_generation",
        "mcp",
        "computer",
        "computer_use_preview",
        "tool_search",
        "programmatic_tool_calling",
    ],
)
def test_a_tool_that_the_provider_runs_is_refused_by_its_name_wherever_it_stands(kind: str) -> None:
    tool = {"type": kind}
    assert kind in refused("tools[1].type", tools=[FUNCTION, tool])
    refused("tools[0].tools[0].type", tools=[{"type": "namespace", "name": "n", "tools": [tool]}])
    more = {"type": "additional_tools", "role": "developer", "tools": [tool]}
    refused("input[0].tools[0].type", input=[more])


def test_a_shell_in_a_container_is_the_providers() -> None:
    refused("tools[0].environment.type", tools=[{"type": "shell", "environment": {"type": "container_auto"}}])
    read(tools=[{"type": "shell", "environment": {"type": "local"}}])


def part(**fields: Any) -> list[Any]:
    return [{"role": "user", "content": [fields]}]


REFUSED_INPUTS: list[tuple[str, Any]] = [
    ("input", None),
    ("input", []),
    ("input", 7),
    ("input[0]", [{"type": "item_reference", "id": "msg_1"}]),
    ("input[0]", [{"id": "msg_1"}]),
    ("input[0].type", [{}]),
    ("input[0].type", [{"type": "web_search_call", "id": "ws_1"}]),
    ("input[0].type", [{"type": "compaction_trigger"}]),
    ("input[0].role", [{"role": "tool", "content": "x"}]),
    ("input[0].content", [{"role": "user"}]),
    ("input[1].call_id", [{"role": "user", "content": "x"}, {"type": "function_call", "name": "f", "arguments": ""}]),
    ("input[0].output", [{"type": "function_call_output", "call_id": "c"}]),
    ("input[0].content[0].type", part(type="video")),
    ("input[0].content[0].text", part(type="input_text")),
    ("input[0].content[0].text", part(type="input_text", text=7)),
    ("input[0].content[0].file_id", part(type="input_image", file_id="file-1")),
    ("input[0].content[0].file_id", part(type="input_file", file_id="file-1")),
    ("input[0].content[0].file_url", part(type="input_file", file_url="https://example.com/a.pdf")),
    ("input[0].content[0].file_data", part(type="input_file", filename="a.pdf")),
    ("input[0].content[0].image_url", part(type="input_image")),
    ("input[0].content[0].image_url", part(type="input_image", image_url="http://example.com/cat.png")),
    ("input[0].content[0].input_audio", part(type="input_audio")),
    (
        "input[0].environment.type",
        [{"type": "shell_call", "call_id": "c", "environment": {"type": "container_reference"}}],
    ),
]


@pytest.mark.parametrize(("param", "value"), REFUSED_INPUTS)
def test_an_item_that_is_not_all_there_is_refused_by_its_place(param: str, value: Any) -> None:
    refused(param, input=value)


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("model", {"model": None}),
        ("model", {"model": "no spaces"}),
        ("max_output_tokens", {"max_output_tokens": 0}),
        ("max_output_tokens", {"max_output_tokens": "9"}),
        ("stream", {"stream": "yes"}),
        ("instructions", {"instructions": [1]}),
        ("tools", {"tools": {}}),
        ("reasoning.mode", {"reasoning": {"mode": "pro"}}),
    ],
)
def test_a_field_that_is_not_valid_is_named(param: str, fields: dict[str, Any]) -> None:
    refused(param, **fields)


def test_there_are_bounds_on_items_and_tools() -> None:
    refused("input", Limits(messages=1), input=[{"role": "user", "content": "x"}] * 2)
    refused("tools", Limits(tools=1), tools=[FUNCTION, FUNCTION])


def test_what_is_no_object_is_refused() -> None:
    for body in (b"[]", b"{", b"\xff", b'{"model": NaN}'):
        with pytest.raises(RequestError):
            RESPONSES.request(body, Limits())


def test_errors_are_in_openais_shape() -> None:
    body = json.loads(RESPONSES.error(RequestError("No.", param="input"), "req_1"))
    assert body["error"]["param"] == "input"
    assert body["error"]["type"] == "invalid_request_error"
