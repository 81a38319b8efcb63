"""Whatever a conversation says is said there, and another translator agrees where it is right."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm_rosetta import ConversionPipeline

from claude.messages import ID, PNG, body_of, chat, message, stream_of, target, wire
from hpp_middleware.dialects.anthropic import Anthropic

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
solid = words.filter(lambda text: text == text.rstrip())
ids = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789_-", min_size=1, max_size=12)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(words, json_values, max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Turns of a user, of an assistant that may call tools, and what those answer."""
    found: list[dict[str, Any]] = [{"role": "system", "content": draw(words)}] if draw(st.booleans()) else []
    number = 0
    for _ in range(draw(st.integers(1, 3))):
        found.append({"role": "user", "content": draw(words)})
        calls = []
        for given_arguments in draw(st.lists(arguments, max_size=3)):
            number += 1
            function = {"name": draw(ids), "arguments": json.dumps(given_arguments)}
            calls.append({"id": f"call_{number}_{draw(ids)}", "type": "function", "function": function})
        said = draw(solid) if not calls or draw(st.booleans()) else None
        found.append({"role": "assistant", "content": said, **({"tool_calls": calls} if calls else {})})
        found += [{"role": "tool", "tool_call_id": call["id"], "content": draw(words)} for call in calls]
    found.append({"role": "user", "content": draw(words)})
    return found


def back(body: dict[str, Any]) -> list[dict[str, Any]]:
    """A Messages request as the conversation it came from, read by its own rules."""
    found: list[dict[str, Any]] = [{"role": "system", "content": block["text"]} for block in body.get("system", [])]
    for turn in body["messages"]:
        texts = [block["text"] for block in turn["content"] if block["type"] == "text"]
        if turn["role"] == "assistant":
            calls = [
                {
                    "id": block["id"],
                    "type": "function",
                    "function": {"name": block["name"], "arguments": block["input"]},
                }
                for block in turn["content"]
                if block["type"] == "tool_use"
            ]
            said = {"role": "assistant", "content": texts[0] if texts else None}
            found.append({**said, "tool_calls": calls} if calls else said)
            continue
        results = [block for block in turn["content"] if block["type"] == "tool_result"]
        found += [{"role": "tool", "tool_call_id": each["tool_use_id"], "content": each["content"]} for each in results]
        found += [{"role": "user", "content": text} for text in texts]
    return found


def parsed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with arguments as values."""
    found = json.loads(json.dumps(messages))
    for said in found:
        for call in said.get("tool_calls", []):
            given_arguments = call["function"]["arguments"]
            if isinstance(given_arguments, str):
                call["function"]["arguments"] = json.loads(given_arguments)
    return list(found)


@settings(max_examples=60, deadline=None)
@given(conversations())
def test_there_and_back_keeps_roles_texts_calls_and_ids(messages: list[dict[str, Any]]) -> None:
    assert parsed(back(body_of(chat(*messages)))) == parsed(messages)


@settings(max_examples=40, deadline=None)
@given(st.lists(words, min_size=1, max_size=4), st.lists(arguments, max_size=3), st.data())
def test_an_answer_says_the_same_streamed_and_whole_wherever_it_is_cut(
    texts: list[str], calls: list[dict[str, Any]], data: st.DataObject
) -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": text} for text in texts]}
    ]
    for number, given_arguments in enumerate(calls):
        text = json.dumps(given_arguments)
        half = data.draw(st.integers(0, len(text)))
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in (text[:half], text[half:])]
        blocks.append({"type": "tool_use", "id": f"toolu_{number}", "name": "f", "input": {}, "deltas": deltas})
    raw = wire(*stream_of(*blocks))
    cut = data.draw(st.integers(0, len(raw)))
    reader = Anthropic().stream(chat(stream=True), target(), event_bytes=1 << 20, cap=10_000, request_id=ID)
    out = reader.feed(raw[:cut]) + reader.feed(raw[cut:])
    content, streamed = "", [""] * len(calls)
    for event in out.split(b"\n\n"):
        if event.startswith(b"data: {"):
            for choice in json.loads(event[6:])["choices"]:
                content += choice["delta"].get("content") or ""
                for part in choice["delta"].get("tool_calls", []):
                    streamed[part["index"]] += part["function"]["arguments"]
    whole: list[dict[str, Any]] = [{"type": "text", "text": "".join(texts)}]
    whole += [
        {"type": "tool_use", "id": f"toolu_{number}", "name": "f", "input": each} for number, each in enumerate(calls)
    ]
    body = json.dumps(message(content=whole, stop_reason="end_turn")).encode()
    said = json.loads(Anthropic().answer(body, chat(), target(), request_id=ID)[0])["choices"][0]["message"]
    assert content == said["content"] == "".join(texts)
    assert [json.loads(each) for each in streamed] == calls
    assert [json.loads(call["function"]["arguments"]) for call in said.get("tool_calls", [])] == calls


TOOL = {
    "type": "function",
    "function": {"name": "f", "description": "D", "parameters": {"type": "object", "properties": {}}},
}
CASES: dict[str, dict[str, Any]] = {
    "text": {"messages": [{"role": "system", "content": "A"}, {"role": "user", "content": "B"}]},
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "B"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                ],
            }
        ]
    },
    "tools": {
        "messages": [
            {"role": "user", "content": "B"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        ],
        "tools": [TOOL],
        "tool_choice": "required",
    },
    "sampling": {"messages": [{"role": "user", "content": "B"}], "temperature": 0.5, "stop": ["x"]},
}


def plain(body: dict[str, Any]) -> dict[str, Any]:
    """A request with every shorthand written out, so that two of them can be compared."""
    found = {name: value for name, value in body.items() if name != "stream"}
    system = found.get("system")
    if isinstance(system, str):
        found["system"] = [{"type": "text", "text": system}]
    for turn in found["messages"]:
        if isinstance(turn["content"], str):
            turn["content"] = [{"type": "text", "text": turn["content"]}]
        for block in turn["content"]:
            if block["type"] == "tool_result" and isinstance(block.get("content"), list):
                block["content"] = "".join(part["text"] for part in block["content"])
            block.pop("is_error", None)
            block.pop("caller", None)  # theirs says that a call was the model's own, which is the default
    return found


@pytest.mark.parametrize("name", CASES)
def test_another_translator_says_the_same(name: str) -> None:
    theirs = ConversionPipeline("openai_chat", "anthropic").convert_request(
        {"model": "claude-opus-4-5", "max_tokens": 1000, **json.loads(json.dumps(CASES[name]))}
    )
    assert plain(
        body_of(chat(*CASES[name]["messages"], **{k: v for k, v in CASES[name].items() if k != "messages"}))
    ) == plain(theirs)
