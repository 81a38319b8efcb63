"""A Response's request as a chat completion: OpenAI's own types take it, and nothing that was said is lost."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.apis.responses.namespaces import flat, names
from hpp_middleware.apis.responses.thoughts import Thoughts, merged, packed, unpacked
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

OURS: TypeAdapter[Any] = TypeAdapter(ResponseCreateParamsNonStreaming)
THEIRS: TypeAdapter[Any] = TypeAdapter(CompletionCreateParamsNonStreaming)
PNG = "data:image/png;base64,iVBORw0KGgo="
F: dict[str, Any] = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}


def asked(**fields: Any) -> Request:
    body = json.dumps({"model": "p/m", "input": "Hi", **fields}).encode()
    return RESPONSES.as_chat(RESPONSES.request(body, Limits()), Limits())


def chat(**fields: Any) -> dict[str, Any]:
    """The chat completion, as OpenAI's types on both sides have it."""
    if not fields.get("stream"):
        OURS.validate_python({"model": "p/m", "input": "Hi", **fields})
    found = {name: json.loads(bytes(raw)) for name, raw in asked(**fields).fields.items()}
    if not fields.get("stream"):
        THEIRS.validate_python(found)
    return found


def messages(*items: Any, **fields: Any) -> list[Any]:
    found: list[Any] = chat(input=list(items), **fields)["messages"]
    return found


def refused(param: str, **fields: Any) -> None:
    with pytest.raises(RequestError) as raised:
        asked(**fields)
    assert (raised.value.status, raised.value.param) == (400, param)


def test_text_and_instructions_are_messages() -> None:
    found = chat(instructions="Be brief.")
    hi = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert found == {"model": "p/m", "messages": hi}


def test_the_facts_are_those_of_the_chat_completion() -> None:
    image = {"type": "input_image", "detail": "high", "image_url": PNG}
    content = [{"type": "input_text", "text": "x"}, image]
    found = asked(
        input=[{"role": "user", "content": content}], stream=True, max_output_tokens=5, reasoning={"effort": "low"}
    )
    assert (found.api, found.cap, found.stream, found.include_usage, found.n) == ("chat", 5, True, True, 1)
    assert found.images == Images(1, len(PNG))
    assert found.hidden_reasoning


def test_a_turn_of_an_assistant_is_one_message_with_its_calls_and_their_ids() -> None:
    found = messages(
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "free"},
        {"type": "function_call_output", "call_id": "c1", "output": "wet"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "cold"}]},
        {"role": "assistant", "content": "It is wet."},
        {"role": "assistant", "content": "And cold."},
        {"role": "developer", "content": "Stop."},
    )
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "free"}},
    ]
    assert found == [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "wet"},
        {"role": "tool", "tool_call_id": "c2", "content": "cold"},
        {"role": "assistant", "content": "It is wet."},
        {"role": "assistant", "content": "And cold."},
        {"role": "developer", "content": "Stop."},
    ]


def test_images_and_files_are_parts() -> None:
    pdf = "data:application/pdf;base64,JVBERi0="
    (found,) = messages(
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "detail": "low", "image_url": PNG},
                {"type": "input_file", "filename": "a.pdf", "file_data": pdf},
            ],
        }
    )
    assert found["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}},
    ]


def test_an_image_of_a_tools_follows_in_the_users_message() -> None:
    image = {"type": "input_image", "detail": "high", "image_url": PNG}
    part = {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}}
    text = {"type": "input_text", "text": "Done"}
    found = messages(
        {"role": "user", "content": "Look"},
        {"type": "function_call", "call_id": "c1", "name": "view", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "view", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": [image]},
        {"type": "function_call_output", "call_id": "c2", "output": [text, image, image]},
        {"role": "assistant", "content": "Red."},
        {"type": "custom_tool_call", "call_id": "c3", "name": "again", "input": ""},
        {"type": "custom_tool_call_output", "call_id": "c3", "output": [image]},
    )
    assert [each["role"] for each in found] == [
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    one = "[1 image(s) or file(s) of this result follow in the next user message.]"
    assert (found[2]["content"], found[6]["content"]) == (one, one)
    assert found[3]["content"] == [{"type": "text", "text": "Done"}, {"type": "text", "text": one.replace("1", "2")}]
    whose = [{"type": "text", "text": f"[Of the result of tool call c{number}:]"} for number in (1, 2, 3)]
    assert found[4]["content"] == [whose[0], part, whose[1], part, part]
    assert found[7]["content"] == [whose[2], part]


def test_the_image_of_a_tools_is_held_for() -> None:
    output = [{"type": "input_image", "detail": "high", "image_url": PNG}]
    call = {"type": "function_call", "call_id": "c1", "name": "view", "arguments": "{}"}
    found = asked(input=[call, {"type": "function_call_output", "call_id": "c1", "output": output}])
    assert found.images == Images(1, len(PNG))


def test_a_refusal_is_one() -> None:
    item = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "refusal", "refusal": "No."}],
    }
    assert messages(item) == [{"role": "assistant", "content": "", "refusal": "No."}]


def test_the_format_of_the_text_is_the_response_format() -> None:
    form = {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True, "description": "An x."}
    found = chat(text={"format": form, "verbosity": "low"})
    schema = {"name": "x", "schema": SCHEMA, "strict": True, "description": "An x."}
    assert found["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert found["verbosity"] == "low"
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat(text={"format": {"type": "text"}})
    refused("text.format.schema", text={"format": {"type": "json_schema", "name": "x"}})
    refused("text.format.type", text={"format": {"type": "grammar"}})


def test_tools_and_the_choice_of_one() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}
    tools = [
        {"type": "function", "name": "f", "description": "F.", "parameters": SCHEMA, "strict": True},
        {"type": "custom", "name": "g", "description": "G.", "format": grammar},
        {"type": "custom", "name": "h"},
    ]
    found = chat(tools=tools, tool_choice={"type": "function", "name": "f"}, parallel_tool_calls=False)
    assert found["tools"] == [
        {"type": "function", "function": {"name": "f", "description": "F.", "parameters": SCHEMA, "strict": True}},
        {
            "type": "custom",
            "custom": {
                "name": "g",
                "description": "G.",
                "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a/"}},
            },
        },
        {"type": "custom", "custom": {"name": "h"}},
    ]
    assert found["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert found["parallel_tool_calls"] is False
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "g"}]}
    assert chat(tools=tools, tool_choice=allowed)["tool_choice"] == {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "custom", "custom": {"name": "g"}}]},
    }
    assert chat(tools=tools, tool_choice="required")["tool_choice"] == "required"
    assert "tool_choice" not in chat(tool_choice="auto")


@pytest.mark.parametrize("kind", ["local_shell", "apply_patch", "shell"])
def test_tools_that_only_openai_describes_are_refused_where_it_is_not_asked(kind: str) -> None:
    refused("tools[0].type", tools=[{"type": kind, "name": "t"}])


def test_functions_of_a_namespace_stand_beside_the_others_under_longer_names() -> None:
    inner = [F, {"type": "custom", "name": "g", "description": "Says."}]
    space = {"type": "namespace", "name": "n", "description": "Some.", "tools": inner}
    function, beside, custom = chat(tools=[F, space])["tools"]
    assert (function["function"]["name"], beside["function"]["name"]) == ("f", "n__f")
    assert custom == {"type": "custom", "custom": {"name": "n__g", "description": "Says."}}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "n"}
    said = messages(call, {**call, "type": "custom_tool_call", "call_id": "d", "name": "g", "input": ""})[0]
    assert [each[each["type"]]["name"] for each in said["tool_calls"]] == ["n__f", "n__g"]


def test_a_namespace_without_functions_is_no_tool() -> None:
    fields = chat(tools=[{"type": "namespace", "name": "n", "description": "None.", "tools": []}], tool_choice="auto")
    assert fields.keys() == {"model", "messages"}


def test_a_name_that_gets_too_long_is_shortened_and_tells_two_apart() -> None:
    assert len(flat("n" * 31, "f" * 31)) == 64
    assert flat("n" * 31, "f" * 31) == "n" * 31 + "__" + "f" * 31
    one, other = (flat("n" * 40, "f" * 40 + ending) for ending in "xy")
    assert len(one) == len(other) == 64
    assert one != other
    tools = [{"type": "namespace", "name": "n" * 40, "tools": [{**F, "name": "f" * 40 + "x"}]}]
    assert names({"tools": Raw(json.dumps(tools).encode())}) == {one: ("n" * 40, "f" * 40 + "x")}


def test_what_is_null_is_left_out() -> None:
    nothing = ("user", "metadata", "temperature", "top_p", "instructions", "tools", "max_output_tokens", "truncation")
    assert asked(**dict.fromkeys(nothing)).fields.keys() == {"model", "messages"}


@pytest.mark.parametrize(
    "item",
    [
        {"type": "compaction", "encrypted_content": "x"},
        {"type": "apply_patch_call", "call_id": "c"},
        {"type": "additional_tools", "tools": []},
    ],
)
def test_items_that_only_openai_reads_are_refused_where_it_is_not_asked(item: Any) -> None:
    refused("input[0].type", input=[item])


def test_what_both_apis_have_keeps_its_value_and_what_asks_for_nothing_is_left_out() -> None:
    same: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.9,
        "user": "u",
        "metadata": {"a": "b"},
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "service_tier": "flex",
    }
    nothing: dict[str, Any] = {
        "store": False,
        "background": False,
        "truncation": "disabled",
        "include": ["reasoning.encrypted_content"],
        "max_tool_calls": 3,
        "previous_response_id": None,
        "reasoning": {"summary": "auto"},
    }
    found = chat(**same, **nothing)
    assert {name: found[name] for name in same} == same
    assert found.keys() == {"model", "messages", *same}


def test_a_cap_effort_and_log_probabilities_have_other_names() -> None:
    found = chat(max_output_tokens=9, reasoning={"effort": "high"}, top_logprobs=2)
    assert found["max_completion_tokens"] == 9
    assert (found["reasoning_effort"], found["logprobs"], found["top_logprobs"]) == ("high", True, 2)
    assert chat(include=["message.output_text.logprobs"])["logprobs"] is True


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("truncation", {"truncation": "auto"}),
        ("reasoning.context", {"reasoning": {"context": "all_turns"}}),
        ("tool_choice.type", {"tool_choice": {"type": "mcp"}}),
        ("tool_choice.name", {"tool_choice": {"type": "function"}}),
        ("tools[0].name", {"tools": [{"type": "function"}]}),
        ("tools[0].name", {"tools": [{"type": "namespace"}]}),
        ("tools[0].tools[1].name", {"tools": [{"type": "namespace", "name": "n", "tools": [F, {"type": "function"}]}]}),
        ("tools[0].tools[0].type", {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "shell"}]}]}),
    ],
)
def test_what_cannot_be_said_is_named(param: str, fields: dict[str, Any]) -> None:
    refused(param, **fields)


# --- thoughts -------------------------------------------------------------------------------------


def test_thoughts_of_ours_come_back_under_their_provider_s_name_and_others_are_dropped() -> None:
    kept = Thoughts(reasoning_content="Hm", reasoning_details=[{"type": "reasoning.text", "signature": "s"}])
    ours = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": packed(kept)}
    theirs = {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAAA"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    found = json.loads(bytes(asked(input=[ours, call]).fields["messages"]))
    assert found == [{"role": "assistant", "content": None, "tool_calls": calls, **kept.fields()}]
    assert "reasoning_content" in found[0]
    assert messages(theirs, call) == [{"role": "assistant", "content": None, "tool_calls": calls}]


@pytest.mark.parametrize("content", [None, "", "gAAAA", "hpp1.", "hpp1.%%%", "hpp1.e30x", "hpp1.W10="])
def test_what_is_not_ours_is_not_read(content: str | None) -> None:
    assert unpacked(content) is None


def test_pieces_of_details_are_put_together_by_index_and_type() -> None:
    pieces: list[dict[str, Any]] = [
        {"type": "reasoning.text", "index": 0, "text": "a"},
        {"type": "reasoning.text", "index": 0, "text": "b"},
        {"type": "reasoning.text", "index": 0, "text": None, "signature": "s"},
        {"type": "reasoning.encrypted", "index": 1, "data": "x"},
        {"type": "reasoning.encrypted", "data": "y"},
        {"type": "reasoning.encrypted", "data": "z"},
    ]
    assert merged(pieces) == [
        {"type": "reasoning.text", "index": 0, "text": "ab", "signature": "s"},
        {"type": "reasoning.encrypted", "index": 1, "data": "x"},
        {"type": "reasoning.encrypted", "data": "y"},
        {"type": "reasoning.encrypted", "data": "z"},
    ]


# --- there and back -------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAME = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
SAID = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "developer"]), "content": TEXT})
CALLS = st.lists(st.tuples(NAME, NAME, TEXT), min_size=1, max_size=3, unique_by=lambda call: call[0])


@st.composite
def conversations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Chat messages as every conversation has them: each call is followed by its result."""
    found: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(1, 4))):
        found.append(draw(SAID))
        text = draw(st.none() | TEXT)
        calls = draw(st.just([]) | CALLS)
        if not calls:
            found.append({"role": "assistant", "content": text or "."})
            continue
        said = [{"id": name, "type": "function", "function": {"name": f, "arguments": to}} for name, f, to in calls]
        found.append({"role": "assistant", "content": text, "tool_calls": said})
        found += [{"role": "tool", "tool_call_id": name, "content": draw(TEXT)} for name, _, _ in calls]
    return found


def as_items(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chat messages as items, as a client of both APIs would write them."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            call_id, output = message["tool_call_id"], message["content"]
            found.append({"type": "function_call_output", "call_id": call_id, "output": output})
            continue
        if message["content"] is not None:
            found.append({"type": "message", "role": message["role"], "content": message["content"]})
        calls = message.get("tool_calls", ())
        found += [{"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls]
    return found


@settings(max_examples=100, deadline=None)
@given(conversations())
def test_there_and_back_keeps_roles_texts_calls_and_ids(conversation: list[dict[str, Any]]) -> None:
    assert messages(*as_items(conversation)) == conversation
