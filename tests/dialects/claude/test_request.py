"""A chat completion in Anthropic's words; each request is taken by the vendor's own types."""

import base64
import json
from typing import Any

import pytest

from claude.messages import ID, PDF, PNG, body_of, call_of, chat, target
from hpp_middleware.dialects.anthropic import Anthropic, request
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.provider import Provider

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "Does f.", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def test_a_question_is_said_with_its_model_and_the_cap_that_is_required_there() -> None:
    call = call_of(chat(USER), cap=77)
    assert json.loads(call.body) == {
        "model": "claude-opus-4-5",
        "max_tokens": 77,
        "messages": [{"role": "user", "content": [text("Hi")]}],
    }
    assert call.url == "https://api.anthropic.com/v1/messages"
    sent = dict(call.headers)
    assert (sent["x-api-key"], sent["anthropic-version"]) == ("sk-ant-made-up", "2023-06-01")
    assert (sent["X-Request-Id"], sent["Accept-Encoding"], sent["Accept"]) == (ID, "identity", "application/json")
    assert "Authorization" not in sent
    assert tuple(call.headers[: len(call.shared)]) == call.shared
    assert (call.more_tokens, call.long_cache, call.dropped) == (0, False, ())


def test_calls_to_one_provider_share_their_head() -> None:
    dialect, found = Anthropic(), target()
    first, second = (dialect.call(chat(USER), found, cap=9, request_id=str(number)) for number in range(2))
    assert first.shared is second.shared
    streamed = dialect.call(chat(USER, stream=True), found, cap=9, request_id=ID)
    assert dict(streamed.headers)["Accept"] == "text/event-stream"
    assert json.loads(streamed.body)["stream"] is True


def test_an_operators_version_and_headers_win() -> None:
    found = target(provider={"headers": {"Anthropic-Version": "2024-01-01", "anthropic-beta": "x-1"}, "api_key": None})
    sent = [name.lower() for name, _ in call_of(chat(USER), found).headers]
    assert sent.count("anthropic-version") == sent.count("anthropic-beta") == 1
    assert "x-api-key" not in sent


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_clients_cap_is_sent_and_no_more_than_the_model_can(field: str) -> None:
    assert body_of(chat(USER, **{field: 5}))["max_tokens"] == 5
    assert body_of(chat(USER, **{field: 99_000}), target(max_output=64_000))["max_tokens"] == 64_000


def test_the_systems_part_at_the_head_stands_by_itself() -> None:
    found = body_of(chat({"role": "system", "content": "A"}, {"role": "developer", "content": [text("B")]}, USER))
    assert found["system"] == [text("A"), text("B")]
    assert [each["role"] for each in found["messages"]] == ["user"]


def test_what_the_system_says_later_stays_in_its_place_and_the_client_is_told() -> None:
    call = call_of(
        chat(USER, {"role": "assistant", "content": "Yes?"}, {"role": "system", "content": "Be brief."}, USER)
    )
    found = json.loads(call.body)
    assert "system" not in found
    assert [each["role"] for each in found["messages"]] == ["user", "assistant", "user"]
    assert found["messages"][-1]["content"] == [text("<system>\nBe brief.\n</system>"), text("Hi")]
    assert call.dropped == ("messages.role",)


def test_neighbours_of_one_role_become_one_message_and_what_is_empty_goes() -> None:
    found = body_of(
        chat(
            USER,
            {"role": "user", "content": ""},
            {"role": "user", "content": [text(""), text("there")]},
            {"role": "assistant", "content": ""},
            USER,
        )
    )
    assert found["messages"] == [{"role": "user", "content": [text("Hi"), text("there"), text("Hi")]}]


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "A"}], [{"role": "user", "content": ""}]])
def test_a_request_that_says_nothing_is_refused(messages: list[dict[str, Any]]) -> None:
    refused(chat(*messages), "messages")


def test_an_answer_that_is_to_be_continued_ends_without_white_space() -> None:
    found = body_of(chat(USER, {"role": "assistant", "content": "The answer is "}))
    assert found["messages"][-1]["content"] == [text("The answer is")]
    assert len(body_of(chat(USER, {"role": "assistant", "content": " \n"}))["messages"]) == 1


def test_images_become_blocks() -> None:
    parts = [
        text("What?"),
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}},
        {"type": "image_url", "image_url": {"url": f"DATA:image/JPG;base64,{PNG}"}},
    ]
    assert body_of(chat({"role": "user", "content": parts}))["messages"][0]["content"] == [
        text("What?"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}},
    ]


@pytest.mark.parametrize(
    "url", [f"data:image/svg+xml;base64,{PNG}", "data:image/png,plain", f"data:application/pdf;base64,{PDF}"]
)
def test_an_image_of_another_kind_is_refused_by_name(url: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    refused(chat({"role": "user", "content": parts}), "messages[0].content[0].image_url.url")


@pytest.mark.parametrize(("context", "held"), [(None, 200_000), (1_000_000, 1_000_000)])
def test_a_pdf_becomes_a_document_for_which_all_of_the_context_is_held(context: int | None, held: int) -> None:
    file = {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"}
    call = call_of(chat({"role": "user", "content": [{"type": "file", "file": file}]}), target(context=context))
    assert json.loads(call.body)["messages"][0]["content"] == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
            "title": "a.pdf",
        }
    ]
    assert call.more_tokens == held


def test_plain_text_becomes_a_document_whose_bytes_bound_it() -> None:
    data = base64.b64encode("Grüße".encode()).decode()
    call = call_of(
        chat({"role": "user", "content": [{"type": "file", "file": {"file_data": f"data:text/plain;base64,{data}"}}]})
    )
    (block,) = json.loads(call.body)["messages"][0]["content"]
    assert block == {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}}
    assert call.more_tokens == 0


@pytest.mark.parametrize(
    "file",
    [
        {},
        {"file_data": "plain"},
        {"file_data": "data:text/html;base64,AAAA"},
        {"file_data": "data:text/plain;base64,/w=="},
    ],
)
def test_a_file_that_cannot_be_said_is_refused_by_name(file: dict[str, Any]) -> None:
    refused(
        chat({"role": "user", "content": [{"type": "file", "file": file}]}), "messages[0].content[0].file.file_data"
    )


def test_audio_and_whatever_else_is_refused_by_name() -> None:
    refused(
        chat({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}),
        "messages[0].content[0].type",
    )
    refused(
        chat({"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c"}}]}),
        "messages[0].content[0].type",
    )
    refused(
        chat({"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c"}}]}),
        "messages[0].content[0].type",
    )


def test_tools_and_the_tokens_of_the_apis_own_instructions() -> None:
    bare = {"type": "function", "function": {"name": "g", "strict": True}, "cache_control": {"type": "ephemeral"}}
    call = call_of(chat(USER, tools=[TOOL, bare]))
    assert json.loads(call.body)["tools"] == [
        {"name": "f", "description": "Does f.", "input_schema": {"type": "object"}},
        {"name": "g", "input_schema": {"type": "object"}, "strict": True, "cache_control": {"type": "ephemeral"}},
    ]
    assert call.more_tokens == request.TOOL_TOKENS > 804


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": True}, None),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_tools(fields: dict[str, Any], said: Any) -> None:
    assert body_of(chat(USER, tools=[TOOL], **fields)).get("tool_choice") == said


def test_a_choice_without_tools_is_left_out_or_refused() -> None:
    assert "tool_choice" not in body_of(chat(USER, tool_choice="auto", parallel_tool_calls=False))
    refused(chat(USER, tool_choice="required"), "tool_choice")


def test_calls_and_their_results_in_one_message_in_front_of_what_the_user_says() -> None:
    second = {"id": "functions.g:0", "type": "function", "function": {"name": "g", "arguments": ""}}
    found = body_of(
        chat(
            USER,
            {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL, second]},
            {"role": "tool", "tool_call_id": "call_1", "content": "one"},
            {
                "role": "tool",
                "tool_call_id": "functions.g:0",
                "content": [text("two"), {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}],
            },
            {"role": "user", "content": "Well?"},
            {"role": "tool", "tool_call_id": "call_3", "content": ""},
            tools=[TOOL],
        )
    )
    asked, called, results = found["messages"]
    assert asked["role"] == "user"
    assert called["content"] == [
        text("Let me see."),
        {"type": "tool_use", "id": "call_1", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "functions_2e_g_3a_0", "name": "g", "input": {}},
    ]
    assert results["role"] == "user"
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    assert results["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
        {"type": "tool_result", "tool_use_id": "functions_2e_g_3a_0", "content": [text("two"), image]},
        {"type": "tool_result", "tool_use_id": "call_3"},
        text("Well?"),
    ]


@pytest.mark.parametrize("arguments", ['{"x":', "[1]", "7"])
def test_arguments_that_are_no_object_are_refused_by_name(arguments: str) -> None:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    refused(
        chat(USER, {"role": "assistant", "content": None, "tool_calls": [call]}),
        "messages[1].tool_calls[0].function.arguments",
    )


def test_a_result_without_its_calls_id_is_refused() -> None:
    refused(chat(USER, {"role": "tool", "content": "one"}), "messages[1].tool_call_id")


def test_refusals_and_names_of_earlier_turns() -> None:
    call = call_of(
        chat(
            {"role": "user", "name": "ann", "content": "A"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "user", "name": "bob", "content": "B"},
        )
    )
    assert json.loads(call.body)["messages"][1]["content"] == [text("No.")]
    assert call.dropped == ("messages.name",)


def test_sampling() -> None:
    found = body_of(chat(USER, temperature=0.2, top_p=0.9, top_k=7, stop=["a", "b"]))
    assert (found["temperature"], found["top_p"], found["top_k"]) == (0.2, 0.9, 7)
    assert found["stop_sequences"] == ["a", "b"]
    assert body_of(chat(USER, stop="x", temperature=0))["stop_sequences"] == ["x"]
    assert body_of(chat(USER, temperature=0))["temperature"] == 0
    assert body_of(chat(USER, temperature=1, top_p=1)).keys() == {"model", "max_tokens", "messages"}
    refused(chat(USER, temperature=1.5), "temperature")


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def test_a_schema_becomes_the_outputs_format() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
    call = call_of(chat(USER, response_format=form))
    assert json.loads(call.body)["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert call.more_tokens == request.FORMAT_TOKENS
    assert "output_config" not in body_of(chat(USER, response_format={"type": "text"}))
    refused(chat(USER, response_format={"type": "json_object"}), "response_format")


def test_marks_for_the_cache_are_passed_on_and_an_hour_is_held_for() -> None:
    short, hour = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    call = call_of(
        chat(
            {"role": "system", "content": [text("A", cache_control=short)]},
            {"role": "user", "content": "Hi", "cache_control": {"type": "ephemeral", "ttl": "5m"}},
            cache_control=short,
        )
    )
    found = json.loads(call.body)
    assert found["system"] == [text("A", cache_control=short)]
    assert found["messages"][0]["content"] == [text("Hi", cache_control={"type": "ephemeral", "ttl": "5m"})]
    assert found["cache_control"] == short
    assert not call.long_cache
    part = {"role": "user", "content": [text("A", cache_control=hour)]}
    assert call_of(chat(part)).long_cache
    assert call_of(chat({**USER, "cache_control": hour})).long_cache
    assert call_of(chat({"role": "system", "content": "A", "cache_control": hour}, USER)).long_cache
    assert call_of(chat(USER, tools=[{**TOOL, "cache_control": hour}])).long_cache
    assert call_of(chat(USER, cache_control=hour)).long_cache


@pytest.mark.parametrize(
    ("model", "asked", "said"),
    [
        ("claude-opus-4-5", {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 2000}),
        ("claude-3-7-sonnet-20250219", {"reasoning_effort": "high"}, {"type": "enabled", "budget_tokens": 8000}),
        ("claude-opus-4-20250514", {"reasoning": {"max_tokens": 3000}}, {"type": "enabled", "budget_tokens": 3000}),
        ("claude-haiku-4-5", {"reasoning": {"max_tokens": 9}}, {"type": "enabled", "budget_tokens": 1024}),
        ("claude-haiku-4-5", {"reasoning": {"max_tokens": 99_999}}, {"type": "enabled", "budget_tokens": 9999}),
        ("claude-sonnet-4-6", {"reasoning": {"max_tokens": 3000}}, {"type": "enabled", "budget_tokens": 3000}),
        ("claude-haiku-4-5", {"reasoning": {"enabled": True}}, {"type": "enabled", "budget_tokens": 5000}),
        ("kimi-k2", {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 2000}),
        ("claude-opus-4-5", {"reasoning_effort": "none"}, None),
        ("claude-sonnet-5", {"reasoning_effort": "none"}, {"type": "disabled"}),
        ("claude-sonnet-5", {}, None),
    ],
)
def test_reasoning_by_a_budget_that_is_below_the_cap(model: str, asked: dict[str, Any], said: Any) -> None:
    found = body_of(chat(USER, max_tokens=10_000, **asked), target(model))
    assert found.get("thinking") == said
    assert "output_config" not in found


@pytest.mark.parametrize(
    "model", ["claude-opus-4-6", "claude-opus-4.8", "claude-sonnet-5", "claude-mythos-preview", "claude-fable-5-2"]
)
@pytest.mark.parametrize(("effort", "said"), [("minimal", "low"), ("medium", "medium"), ("xhigh", "xhigh")])
def test_reasoning_by_an_effort_where_the_model_thinks_as_it_sees_fit(model: str, effort: str, said: str) -> None:
    found = body_of(chat(USER, reasoning_effort=effort), target(model), cap=16)
    assert found["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert found["output_config"] == {"effort": said}
    hidden = body_of(chat(USER, reasoning={"effort": effort, "exclude": True}), target(model))
    assert hidden["thinking"] == {"type": "adaptive", "display": "omitted"}


def test_an_effort_and_a_format_go_together() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    found = body_of(chat(USER, response_format=form, reasoning_effort="high"), target("claude-opus-4-6"))
    assert found["output_config"] == {"effort": "high", "format": {"type": "json_schema", "schema": SCHEMA}}


def test_an_option_says_how_a_model_of_another_name_reasons() -> None:
    found = body_of(chat(USER, reasoning_effort="high"), target("m", provider={"options": {"thinking": "adaptive"}}))
    assert found["thinking"]["type"] == "adaptive"


def test_reasoning_that_cannot_be_is_refused_by_name_or_dropped_where_the_cap_is_ours() -> None:
    refused(chat(USER, reasoning_effort="high", max_tokens=1024), "max_tokens")
    refused(chat(USER, reasoning_effort="a lot"), "reasoning_effort")
    call = call_of(chat(USER, reasoning_effort="high"), cap=1024)
    assert "thinking" not in json.loads(call.body)
    assert call.dropped == ("reasoning",)
    with pytest.raises(RequestError) as raised:
        call_of(chat(USER, reasoning={"max_tokens": 3000}), target("claude-opus-4-7"))
    assert raised.value.param == "reasoning.max_tokens"


def test_thoughts_that_are_handed_back_are_sent_again_in_front_of_the_answer() -> None:
    details = [
        {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "ZW5j", "format": "anthropic-claude-v1"},
        {"type": "reasoning.text", "text": "unsigned"},
        {"type": "reasoning.encrypted", "data": "ZW5j", "format": "openai-responses-v1"},
    ]
    answer = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.", "reasoning_details": details}
    found = body_of(chat(USER, answer, USER))
    assert found["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZW5j"},
        text("Yes."),
    ]
    parts = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        text("A"),
    ]
    assert body_of(chat(USER, {"role": "assistant", "content": parts}, USER))["messages"][1]["content"] == parts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("frequency_penalty", 0.5),
        ("min_p", 0.1),
        ("audio", {"voice": "a", "format": "wav"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("thinking", {"type": "disabled"}),
    ],
)
def test_a_field_that_has_no_word_there_is_refused_by_name(name: str, value: Any) -> None:
    refused(chat(USER, **{name: value}), name)


def test_harmless_fields_are_dropped_and_told() -> None:
    call = call_of(chat(USER, user="ann", seed=7, n=1, logprobs=False, service_tier="flex", presence_penalty=0))
    assert set(json.loads(call.body)) == {"model", "max_tokens", "messages"}
    assert set(call.dropped) == {"user", "seed", "service_tier"}


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"base_url": "https://api.anthropic.com/v1/"}, "base_url"),
        ({"base_url": "https://a.b", "options": {"thinking": "much"}}, "options.thinking"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_when_the_gateway_is_made(
    settings: dict[str, Any], param: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Anthropic().check(Provider(dialect="anthropic", **settings))
    assert raised.value.param == param
    Anthropic().check(target().provider)


def refused(request_: Any, param: str) -> None:
    with pytest.raises(RequestError) as raised:
        call_of(request_)
    assert (raised.value.status, raised.value.param) == (400, param)
    assert param in raised.value.message
