"""The Response object as far as it says again what was asked, and the events that carry one."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from hpp_middleware.core import responses
from hpp_middleware.errors import RequestError, UpstreamError
from hpp_middleware.types.price import Usage

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def raws(**fields: Any) -> dict[str, Raw]:
    return {name: Raw(json.dumps(value).encode()) for name, value in fields.items()}


def asked(**fields: Any) -> Any:
    found = responses.asked(raws(**fields), response_id="resp_1", created=5, model="p/m")
    return json.loads(msgspec.json.encode(found))


def test_a_response_without_an_answer_is_whole_by_openais_types() -> None:
    found = asked()
    Response.model_validate(found)
    assert (found["id"], found["created_at"], found["model"], found["status"]) == ("resp_1", 5, "p/m", "in_progress")
    assert (found["output"], found["store"], found["usage"]) == ([], False, None)


def test_it_says_again_what_was_asked_and_nothing_else() -> None:
    found = asked(temperature=0.5, tools=[{"type": "custom", "name": "g"}], input="Hi", odd=1, top_p=None)
    assert (found["temperature"], found["top_p"]) == (0.5, None)
    assert found["tools"] == [{"type": "custom", "name": "g"}]
    assert not {"input", "odd"} & found.keys()


def test_tools_that_cannot_be_read_are_said_again_as_they_are() -> None:
    assert asked(tools=[7])["tools"] == [7]


@pytest.mark.parametrize(
    ("reasoning", "hidden"),
    [({"effort": "low"}, True), ({}, True), ({"effort": "none"}, False), (None, False), (7, True)],
)
def test_reasoning_is_hidden_where_it_is_asked_for(reasoning: Any, *, hidden: bool) -> None:
    assert responses.is_hidden(raws(reasoning=reasoning)) is hidden
    assert responses.is_hidden({}) is False


def test_a_chat_completions_usage_keeps_its_tokens_and_its_cost() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4},
        "cost": 0.5,
        "estimated": True,
    }
    found = responses.usage_of(Raw(json.dumps(usage).encode()))
    assert found is not None
    assert json.loads(bytes(found)) == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
        "cost": 0.5,
        "estimated": True,
    }


def test_usage_that_is_not_told_is_what_was_seen_or_nothing() -> None:
    seen = responses.usage_of(None, Usage(input=3, reasoning=2))
    assert seen is not None
    assert json.loads(bytes(seen))["output_tokens_details"] == {"reasoning_tokens": 2}
    assert responses.usage_of(None) is None
    assert responses.usage_of(Raw(b"[7]"), Usage(input=3, reasoning=2)) == seen
    assert responses.usage_of(Raw(b'{"odd":1}')) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamError("No.", provider="p"), "server_error"),
        (UpstreamError("No.", provider="p", code="rate_limit_exceeded"), "rate_limit_exceeded"),
        (RequestError("No.", param="x"), "server_error"),
    ],
)
def test_a_stream_that_broke_says_so_in_two_events_that_are_valid(error: Any, code: str) -> None:
    response = responses.asked({}, response_id="resp_1", created=5, model="p/m")
    data = responses.error_events(error, response, 7)
    failed, told = [json.loads(frame.split("data: ")[1]) for frame in data.decode().split("\n\n") if frame]
    EVENT.validate_python(failed)
    EVENT.validate_python(told)
    assert (failed["type"], failed["sequence_number"], failed["response"]["error"]["code"]) == (
        "response.failed",
        7,
        code,
    )
    assert (told["type"], told["sequence_number"], told["message"]) == ("error", 8, "No.")
    assert told["error"]["code"] == error.code
