"""What is read of a request before there is a model, and what a conversation is known by."""

import json
from typing import Any

import pytest
from deciding import read
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.auto import facts
from hpp_middleware.errors import RequestError
from hpp_middleware.types.auto import Hints


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


PDF = "data:application/pdf;base64,JVBERi0="


@pytest.mark.parametrize(
    ("body", "modalities"),
    [
        ({}, set()),
        (user({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}), {"image"}),
        (user({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}), {"audio"}),
        (user({"type": "file", "file": {"file_data": PDF, "filename": "a"}}), {"pdf"}),
        (user({"type": "file", "file": {"file_data": "data:;base64,AA", "filename": "A.PDF"}}), {"pdf"}),
        (user({"type": "file", "file": {"file_data": "data:text/plain;base64,AA", "filename": "a.txt"}}), set()),
    ],
)
def test_what_goes_in_besides_text_is_seen(body: dict[str, Any], modalities: set[str]) -> None:
    assert read(**body).modalities == modalities


@pytest.mark.parametrize(
    ("body", "name", "expected"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", True),
        ({"functions": [{"name": "f"}]}, "tools", True),
        ({"tools": []}, "tools", False),
        ({"tools": None}, "tools", False),
        ({"tool_choice": "auto"}, "tool_choice", True),
        ({"tool_choice": None}, "tool_choice", False),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "structured", True),
        ({"response_format": {"type": "json_object"}}, "structured", False),
        ({"stream": True}, "stream", True),
        ({"max_tokens": 7}, "cap", 7),
        ({"n": 3}, "n", 3),
        ({"modalities": ["text", "audio"], "audio": {}}, "output_modalities", {"audio"}),
    ],
)
def test_what_is_asked_for_is_seen(body: dict[str, Any], name: str, expected: Any) -> None:
    assert getattr(read(**body), name) == expected


def test_an_empty_list_with_space_in_it_is_empty() -> None:
    from hpp_middleware.core.parse import completion
    from hpp_middleware.types.provider import Limits

    body = b'{"model": "hpprouter/auto", "messages": [{"role": "user", "content": "a"}], "tools": [ \n ]}'
    assert not facts.asked(completion(body, Limits())).tools


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_text_is_counted_in_bytes_over_four_however_it_is_cut(texts: list[str]) -> None:
    whole = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    parts = [{"type": "text", "text": text} for text in texts]
    each = [{"role": "user", "content": text} for text in texts]
    assert read(messages=[{"role": "user", "content": parts}]).text_tokens == -(-whole // 4)
    found = read(messages=each)
    assert found.text_tokens == -(-whole // 4)
    assert found.last_user == texts[-1]
    assert found.new_tokens <= found.text_tokens


def test_inline_images_count_as_images_and_not_as_their_bytes() -> None:
    url = "data:image/png;base64," + "A" * 40_000
    found = read(**user({"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}))
    assert (found.text_tokens, found.images) == (2, 1)


def test_calls_of_tools_count() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "x" * 400}}
    assert read(messages=[{"role": "assistant", "content": None, "tool_calls": [call]}]).text_tokens > 100


SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Yes?"}
NEXT = {"role": "user", "content": "Why?"}


def test_a_conversation_is_known_by_how_it_begins() -> None:
    first = facts.conversation("alice", [SYSTEM, FIRST], None)
    assert facts.conversation("alice", [SYSTEM, FIRST, ANSWER, NEXT], None) == first
    assert facts.conversation("bob", [SYSTEM, FIRST], None) != first
    assert facts.conversation("alice", [FIRST], None) != first
    assert facts.conversation("alice", [SYSTEM, NEXT], None) != first
    assert facts.conversation("alice", [FIRST], "s") == facts.conversation("alice", [NEXT], "s")
    assert facts.conversation("alice", [], "s") != facts.conversation("alice", [], None)


def test_a_later_turn_is_one_with_an_answer_before_it() -> None:
    assert not facts.goes_on([SYSTEM, FIRST, NEXT])
    assert facts.goes_on([SYSTEM, FIRST, ANSWER, NEXT])


def test_hints_are_read_off_the_headers() -> None:
    assert facts.hints([(b"accept", b"*/*")]) == Hints()
    found = facts.hints([(b"x-session-id", b"s1"), (b"x-hpp-router-require", b"eu, no-training,,")])
    assert found == Hints(session="s1", requires=frozenset({"eu", "no-training"}))


def test_tags_in_several_headers_are_all_required() -> None:
    found = facts.hints([(b"x-hpp-router-require", b"no-training"), (b"x-hpp-router-require", b"eu")])
    assert found.requires == {"eu", "no-training"}


def test_a_conversation_has_one_session() -> None:
    assert facts.hints([(b"x-session-id", b"s1")] * 2).session == "s1"
    with pytest.raises(RequestError, match="twice"):
        facts.hints([(b"x-session-id", b"s1"), (b"x-session-id", b"s2")])


@pytest.mark.parametrize("value", [b"", b"x" * 257, "é".encode()])
@pytest.mark.parametrize("name", [b"x-session-id", b"x-hpp-router-require"])
def test_a_hint_that_is_none_is_refused_by_name(name: bytes, value: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        facts.hints([(name, value)])
    assert caught.value.param == name.decode()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )
)
def test_whatever_a_message_holds_is_measured_without_an_error(value: Any) -> None:
    from msgspec import Raw

    from hpp_middleware.types.completion import Request

    for messages in (value, [value], [{"role": "user", "content": value}], [{"role": "user", "content": [value]}]):
        raw = Raw(json.dumps(messages).encode())
        found = facts.asked(Request(fields={"messages": raw, "tools": raw, "response_format": raw}, model="m"))
        assert found.text_tokens >= 0
        facts.conversation("alice", found.messages, None)
