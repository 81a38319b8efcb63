"""Requests in Anthropic's words: what the router acts on, and a 400 that names what is wrong."""

import base64
import json
from typing import Any

import pytest
from messaging import LIMITS, asking
from msgspec import Raw

from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.messages.asked import asked
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images
from hpp_middleware.types.provider import Limits

PNG = base64.b64encode(b"\x89PNG" * 30).decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
LINKED = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def refused(body: bytes, **limits: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        MESSAGES.request(body, Limits(**limits))
    assert raised.value.status == 400
    return raised.value


def test_the_facts_of_a_request_are_read_and_its_members_stay_raw() -> None:
    found = MESSAGES.request(asking(stream=True, temperature=0.5), LIMITS)
    assert (found.api, found.model, found.cap, found.stream, found.n) == ("messages", "fake/m", 100, True, 1)
    assert found.fields["temperature"] == Raw(b"0.5")
    assert found.images == Images()
    assert not found.hidden_reasoning
    assert not MESSAGES.request(asking(), LIMITS).stream


def test_images_are_counted_wherever_they_stand() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [IMAGE, {"type": "text", "text": "x"}]}
    document = {"type": "document", "source": {"type": "content", "content": [IMAGE]}}
    found = MESSAGES.request(asking(user(IMAGE, LINKED, result, document)), LIMITS)
    assert found.images == Images(4, 3 * len(PNG))


@pytest.mark.parametrize(
    ("thinking", "hidden"),
    [
        (None, False),
        ({"type": "enabled", "budget_tokens": 2000}, True),  # what is shown is a summary of it
        ({"type": "enabled", "budget_tokens": 2000, "display": "omitted"}, True),
        ({"type": "adaptive", "display": "omitted"}, True),
        ({"type": "adaptive", "display": "summarized"}, True),
        ({"type": "adaptive"}, True),
        ({"type": "disabled", "display": "omitted"}, False),
    ],
)
def test_thoughts_are_hidden_since_what_is_shown_of_them_is_a_summary(thinking: Any, *, hidden: bool) -> None:
    assert MESSAGES.request(asking(thinking=thinking), LIMITS).hidden_reasoning is hidden


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": None}, "model"),
        ({"model": 5}, "model"),
        ({"model": "a b"}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 10**8}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [user({"text": "x"})]}, "messages[0].content[0]"),
        ({"messages": [user({"type": "text", "text": 5})]}, "messages[0].content[0].text"),
        ({"system": 5}, "system"),
        ({"system": [IMAGE]}, "system[0].type"),
        ({"tools": {}}, "tools"),
        ({"tools": [5]}, "tools[0]"),
        ({"thinking": "on"}, "thinking"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"Thread": None}, "Thread"),
        ({"api_key": "x"}, "api_key"),
        ({"Base_URL": "x"}, "Base_URL"),
        ({"Max_Tokens": 5}, "Max_Tokens"),
        ({"SYSTEM": "x"}, "SYSTEM"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    error = refused(asking(**fields))
    assert error.param == field
    assert field in error.message


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ({"type": "image"}, "source"),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, "source"),
        ({"type": "image", "source": {"type": "url", "url": "http://example.com/a.png"}}, "source.url"),
        ({"type": "image", "source": {"type": "url"}}, "source.url"),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}},
            "source.media_type",
        ),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}, "source.data"),
        ({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}, "source"),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, "source"),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf"}}, "source.data"),
        ({"type": "document"}, "source"),
        ({"type": "container_upload", "file_id": "f"}, ""),
        (
            {
                "type": "web_fetch_tool_result",
                "content": {"content": {"type": "document", "source": {"type": "url", "url": "https://e.com"}}},
            },
            "",
        ),
        ({"type": "code_execution_tool_result", "content": {"content": [{"file_id": "f"}]}}, ""),
        (
            {"type": "tool_result", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]},
            "content[0].source",
        ),
        ({"type": "tool_result", "content": 5}, "content"),
    ],
)
def test_content_that_is_not_sent_is_refused_wherever_it_stands(block: Any, field: str) -> None:
    where = f"messages[1].content[1]{'.' if field else ''}{field}"
    error = refused(asking({"role": "user", "content": "a"}, user({"type": "text", "text": "b"}, block)))
    assert error.param == where


def test_a_search_result_that_names_its_source_is_sent_whole() -> None:
    block = {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "url": "https://e.com"}]}
    assert MESSAGES.request(asking({"role": "assistant", "content": [block]}), LIMITS).images == Images()


def test_limits_are_kept() -> None:
    turns = [{"role": "user", "content": "x"}] * 3
    assert refused(asking(*turns), messages=2).param == "messages"
    assert refused(asking(tools=[{"name": "a"}] * 3), tools=2).param == "tools"
    assert "deep" in refused(asking(metadata={"a": {"b": {"c": {}}}}), depth=3).message
    assert "values" in refused(asking(system="x" * 50), values=5).message


def test_a_field_given_twice_counts_once_the_last() -> None:
    body = asking()[:-1] + b', "max_tokens": 7}'
    found = MESSAGES.request(body, LIMITS)
    assert found.cap == 7
    assert found.fields["max_tokens"] == Raw(b"7")


def test_only_a_count_needs_no_cap() -> None:
    body = asking(max_tokens=None)
    assert asked(body, LIMITS, counting=True).cap is None
    assert refused(body).param == "max_tokens"


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model": NaN}', b"\xff", b"null"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    refused(body)


def test_betas_of_the_headers_become_a_field() -> None:
    api = MESSAGES.heard([(b"x", b"y"), (b"anthropic-beta", b"a, b,"), (b"anthropic-beta", b"c")])
    assert json.loads(bytes(api.request(asking(), LIMITS).fields["betas"])) == ["a", "b", "c"]
    assert json.loads(bytes(api.request(asking(betas=["own"]), LIMITS).fields["betas"])) == ["own"]
    assert MESSAGES.heard([(b"x", b"y")]) is MESSAGES
    assert "betas" not in MESSAGES.request(asking(), LIMITS).fields
