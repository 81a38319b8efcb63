"""A request in Anthropic's words, said as a chat completion."""

import json
from typing import Any

import pytest
from anthropic.types import MessageParam
from hypothesis import given, settings
from hypothesis import strategies as st
from messaging import LIMITS, asking, check_chat
from pydantic import TypeAdapter

from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.messages.saying import left_out
from hpp_middleware.dialects import chat
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request

TURN = TypeAdapter[Any](MessageParam)
CACHED = {"type": "ephemeral"}
TOOL: dict[str, Any] = {
    "name": "weather",
    "description": "How is it?",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def said(*turns: Any, **fields: Any) -> Request:
    return MESSAGES.as_chat(MESSAGES.request(asking(*turns, **fields), LIMITS), LIMITS)


def body(*turns: Any, **fields: Any) -> Any:
    return check_chat(said(*turns, **fields))


def refused(*turns: Any, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        said(*turns, **fields)
    assert raised.value.status == 400
    return raised.value


def test_a_question_is_said() -> None:
    found = said()
    assert check_chat(found) == {
        "model": "fake/m",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert (found.api, found.cap, found.stream, found.hidden_reasoning) == ("chat", 100, False, False)


def test_a_stream_asks_for_its_usage() -> None:
    found = said(stream=True)
    assert found.stream
    assert found.include_usage
    assert check_chat(found)["stream_options"] == {"include_usage": True}


def test_the_system_prompt_comes_first_with_its_cache_marks() -> None:
    assert body(system="Be brief.")["messages"][0] == {"role": "system", "content": "Be brief."}
    blocks = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.0; cch=1a2b3;"},
        {"type": "text", "text": "Be brief."},
        {"type": "text", "text": "Be kind.", "cache_control": CACHED},
    ]
    assert body(system=blocks)["messages"][0] == {"role": "system", "content": blocks[1:]}
    assert body(system=[])["messages"][0]["role"] == "user"


def test_a_turn_of_the_system_s_stays_where_it_is() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "system", "content": [{"type": "text", "text": "b"}]}]
    assert [message["role"] for message in body(*turns)["messages"]] == ["user", "system"]


def test_images_and_documents_are_said_as_parts() -> None:
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}, "cache_control": CACHED},
        {
            "type": "document",
            "title": "a.pdf",
            "context": "Of last year.",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
        },
        {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "of parts"}]}},
        {
            "type": "search_result",
            "title": "Found",
            "source": "https://e.com",
            "content": [{"type": "text", "text": "this"}],
        },
    ]
    found = said({"role": "user", "content": blocks})
    (message,) = check_chat(found)["messages"]
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}, "cache_control": CACHED},
        {"type": "text", "text": "Of last year."},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
        {"type": "text", "text": "T"},
        {"type": "text", "text": "plain"},
        {"type": "text", "text": "of parts"},
        {"type": "text", "text": "Search result: Found\nhttps://e.com\nthis"},
    ]
    assert found.images == Images(2, len("data:image/png;base64,iVBO"))


def test_a_title_that_is_no_file_name_does_not_stand_for_one() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    block = {"type": "document", "title": "https://example.com/file_id", "source": source}
    assert body({"role": "user", "content": [block]})["messages"][0]["content"][0]["file"]["filename"] == "document.pdf"


def test_calls_and_their_results_keep_their_ids_and_their_order() -> None:
    turns = [
        {"role": "user", "content": "How is it?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "t2", "is_error": True, "content": "no such city"},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]
    assert body(*turns, tools=[TOOL])["messages"][1:] == [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "I look."}],
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
                {"id": "t2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
        {
            "role": "tool",
            "tool_call_id": "t2",
            "content": [{"type": "text", "text": "Error:"}, {"type": "text", "text": "no such city"}],
        },
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]


def test_images_of_a_result_follow_in_the_user_s_message() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    results = [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}, image]},
        {"type": "tool_result", "tool_use_id": "t2"},
    ]
    first, second, shown = body({"role": "user", "content": results})["messages"]
    assert first["tool_call_id"] == "t1"
    assert first["content"][0] == {"type": "text", "text": "a"}
    assert "follow in the next message" in first["content"][1]["text"]
    assert second == {"role": "tool", "tool_call_id": "t2", "content": ""}
    assert "t1" in shown["content"][0]["text"]
    assert shown["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBO"


def test_thoughts_are_handed_on_with_what_proves_them() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Yes."},
    ]
    message = body({"role": "assistant", "content": blocks})["messages"][0]
    assert message["reasoning_content"] == "Hm."
    form = "anthropic-claude-v1"
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "sig", "format": form, "index": 0},
        {"type": "reasoning.encrypted", "data": "xyz", "format": form, "index": 1},
    ]


def test_tools_are_functions() -> None:
    tools = [TOOL, {"type": "custom", "name": "b", "input_schema": CLOSED, "strict": True, "cache_control": CACHED}]
    assert body(tools=tools)["tools"] == [
        {
            "type": "function",
            "function": {"name": "weather", "parameters": TOOL["input_schema"], "description": "How is it?"},
        },
        {
            "type": "function",
            "function": {"name": "b", "parameters": CLOSED, "strict": True},
            "cache_control": CACHED,
        },
    ]
    assert "strict" not in body(tools=[{**TOOL, "strict": True}])["tools"][0]["function"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "b"}, {"tool_choice": {"type": "function", "function": {"name": "b"}}}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"tool_choice": "required", "parallel_tool_calls": False}),
        ({"type": "auto", "disable_parallel_tool_use": False}, {"tool_choice": "auto"}),
    ],
)
def test_the_choice_of_a_tool_is_said(choice: Any, expected: dict[str, Any]) -> None:
    found = body(tools=[TOOL], tool_choice=choice)
    assert {name: found[name] for name in ("tool_choice", "parallel_tool_calls") if name in found} == expected


def test_without_tools_there_is_nothing_to_choose() -> None:
    assert "tool_choice" not in body(tool_choice={"type": "auto"})
    assert body(tool_choice={"type": "any"})["tool_choice"] == "required"  # the provider's to judge


@pytest.mark.parametrize(
    "kind", ["bash_20250124", "text_editor_20250728", "computer_20250124", "memory_20250818", "web_search_20250305"]
)
def test_a_tool_of_anthropic_s_own_is_refused_by_name(kind: str) -> None:
    error = refused(tools=[TOOL, {"type": kind, "name": "x"}])
    assert error.param == "tools[1].type"
    assert kind in error.message


def test_sampling_stops_and_the_user_are_said() -> None:
    found = body(
        temperature=0.5, top_p=0.9, top_k=7, stop_sequences=["END"], metadata={"user_id": "u1"}, cache_control=CACHED
    )
    assert (found["temperature"], found["top_p"], found["top_k"]) == (0.5, 0.9, 7)
    assert (found["stop"], found["user"], found["cache_control"]) == (["END"], "u1", CACHED)


@pytest.mark.parametrize("place", ["output_config", "output_format"])
@pytest.mark.parametrize(("schema", "strict"), [(CLOSED, True), (TOOL["input_schema"], False)])
def test_a_format_is_asked_for_strictly_where_its_schema_is_one_for_that(
    place: str, schema: Any, *, strict: bool
) -> None:
    form = {"type": "json_schema", "schema": schema}
    found = body(**{place: {"format": form} if place == "output_config" else form})
    assert found["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "response", "schema": schema, "strict": strict},
    }


@pytest.mark.parametrize(
    ("fields", "expected", "hidden"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, {"reasoning": {"max_tokens": 2000}}, True),
        ({"thinking": {"type": "adaptive"}}, {"reasoning": {"enabled": True}}, False),
        (
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            {"reasoning": {"enabled": True, "exclude": True}},
            True,
        ),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
            {"reasoning": {"effort": "xhigh"}},
            True,
        ),
        ({"output_config": {"effort": "low"}}, {"reasoning": {"effort": "low"}}, True),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}, False),
        ({}, {}, False),
    ],
)
def test_thinking_is_asked_for(fields: dict[str, Any], expected: dict[str, Any], *, hidden: bool) -> None:
    found = said(**fields)
    sent = check_chat(found)
    assert {name: sent[name] for name in ("reasoning", "reasoning_effort") if name in sent} == expected
    assert found.hidden_reasoning is hidden
    chat.read(found)  # translating dialects can read it


def test_what_only_anthropic_has_a_use_for_is_left_out_and_named() -> None:
    fields = {
        "metadata": {"user_id": "u" * 65},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "diagnostics": {"previous_message_id": "m"},
        "service_tier": "auto",
        "speed": "standard",
        "mcp_servers": [],
        "container": None,
    }
    request = MESSAGES.request(asking(**fields), LIMITS)
    assert left_out(request) == ("context_management", "diagnostics", "metadata.user_id")
    assert check_chat(MESSAGES.as_chat(request, LIMITS)).keys() == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"speed": "fast"}, "speed"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ({"something_new": 1}, "something_new"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "other"}}, "thinking.type"),
        ({"tool_choice": {"type": "tool"}, "tools": [TOOL]}, "tool_choice.name"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"metadata": {"user_id": 5}}, "metadata.user_id"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": True}, "top_k"),
        ({"cache_control": 5}, "cache_control"),
    ],
)
def test_what_cannot_be_said_is_named(fields: dict[str, Any], field: str) -> None:
    error = refused(**fields)
    assert error.param == field
    assert field in error.message


@pytest.mark.parametrize(
    ("role", "block", "field"),
    [
        ("assistant", {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, "type"),
        ("assistant", {"type": "text"}, "text"),
        ("assistant", {"type": "thinking", "signature": "s"}, "thinking"),
        ("assistant", {"type": "redacted_thinking"}, "data"),
        ("assistant", {"type": "tool_use", "id": "a", "name": "b"}, "input"),
        ("system", {"type": "tool_use", "id": "a", "name": "b", "input": {}}, "type"),
        ("assistant", {"type": "tool_use", "name": "a", "input": {}}, "id"),
        ("assistant", {"type": "tool_use", "id": "a", "input": {}}, "name"),
        ("assistant", {"type": "tool_use", "id": "a", "name": "b", "input": "x"}, "input"),
        ("user", {"type": "tool_result", "content": "x"}, "tool_use_id"),
        ("user", {"type": "tool_use", "id": "a", "name": "b", "input": {}}, "type"),
        (
            "user",
            {"type": "document", "source": {"type": "base64", "media_type": "text/csv", "data": "AA"}},
            "source.media_type",
        ),
    ],
)
def test_a_block_that_cannot_be_said_is_named(role: str, block: Any, field: str) -> None:
    assert refused({"role": role, "content": [block]}).param == f"messages[0].content[0].{field}"


# --- there and back ---------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
INPUTS = st.dictionaries(NAMES, TEXTS | st.integers(-5, 5) | st.none() | st.lists(TEXTS, max_size=2), max_size=3)
text_blocks = st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
calls = st.builds(
    lambda id_, name, value: {"type": "tool_use", "id": id_, "name": name, "input": value}, NAMES, NAMES, INPUTS
)
results = st.builds(
    lambda id_, content: {"type": "tool_result", "tool_use_id": id_, "content": content},
    NAMES,
    TEXTS | st.lists(text_blocks, min_size=1, max_size=2),
)
user_turns = st.builds(
    lambda first, then: {"role": "user", "content": [*first, *then]},
    st.lists(results, max_size=3),
    st.lists(text_blocks, min_size=1, max_size=2),
)
assistant_turns = st.builds(
    lambda first, then: {"role": "assistant", "content": [*first, *then]},
    st.lists(text_blocks, min_size=1, max_size=2),
    st.lists(calls, max_size=3),
)
conversations = st.lists(
    user_turns | assistant_turns | st.builds(lambda t: {"role": "user", "content": t}, TEXTS), min_size=1, max_size=5
)


def back(messages: list[Any]) -> list[Any]:
    """Chat messages in Anthropic's words, by the test's own hand."""
    turns: list[Any] = []
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or [])
        if message["role"] == "tool":
            block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content}
            if turns and turns[-1].get("open"):
                turns[-1]["content"].append(block)
            else:
                turns.append({"role": "user", "content": [block], "open": True})
            continue
        for call in message.get("tool_calls", ()):
            function = call["function"]
            parts.append(
                {
                    "type": "tool_use",
                    "id": call["id"],
                    "name": function["name"],
                    "input": json.loads(function["arguments"]),
                }
            )
        if message["role"] == "user" and turns and turns[-1].get("open"):
            turns[-1]["content"] += parts
            turns[-1]["open"] = False
        else:
            turns.append({"role": message["role"], "content": parts, "open": False})
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def plain(turns: list[Any]) -> list[Any]:
    """Turns in one form: content in blocks, a result's single text as a string."""
    found = []
    for turn in turns:
        content = turn["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        found.append({"role": turn["role"], "content": [_plain(block) for block in blocks]})
    return found


def _plain(block: Any) -> Any:
    content = block.get("content")
    if isinstance(content, list) and len(content) == 1:
        return {**block, "content": content[0]["text"]}
    return block


@settings(deadline=None, max_examples=60)
@given(conversations)
def test_there_and_back_roles_texts_calls_and_ids_are_the_same(turns: list[Any]) -> None:
    for turn in turns:
        TURN.validate_python(turn)
    assert plain(back(body(*turns)["messages"])) == plain(turns)
