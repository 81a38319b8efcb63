"""What a provider gets that is sent a chat completion as it is: nothing that it would refuse for a hint alone."""

import json
from typing import Any

import pytest
from messaging import ID, LIMITS, asking, target

from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.dialects import presets
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Model

CACHED = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
TOOL: dict[str, Any] = {"name": "a", "input_schema": {"type": "object"}, "cache_control": CACHED}
THOUGHTS = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "text", "text": "One."},
        {"type": "text", "text": "Two."},
        {"type": "tool_use", "id": "t", "name": "a", "input": {}},
    ],
}


def call(*turns: Any, to: Target | None = None, **fields: Any) -> HTTPCall:
    request = MESSAGES.request(asking(*turns, **fields), LIMITS)
    dialect = MESSAGES.spoken_by(OpenAI(), request)
    return dialect.call(MESSAGES.as_chat(request, LIMITS), to or target(), cap=None, request_id=ID)


def taking(words: str) -> Target:
    return target(options={"takes": words})


def test_cache_marks_are_left_out_and_text_is_one_string() -> None:
    system = [{"type": "text", "text": "Be brief.", "cache_control": HOUR}, {"type": "text", "text": "Be kind."}]
    made = call(
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": CACHED}]},
        system=system,
        tools=[TOOL],
        cache_control=CACHED,
    )
    body = json.loads(made.body)
    assert b"cache_control" not in made.body
    assert [message["content"] for message in body["messages"]] == ["Be brief.\n\nBe kind.", "Hi"]
    assert made.dropped == ("cache_control",)


def test_a_provider_that_takes_them_gets_them_but_for_the_dearer_lifetime() -> None:
    system = [{"type": "text", "text": "Be brief.", "cache_control": HOUR}, {"type": "text", "text": "Be kind."}]
    made = call(to=taking("cache_control"), system=system, tools=[TOOL], cache_control=CACHED)
    body = json.loads(made.body)
    assert body["messages"][0]["content"] == [{"type": "text", "text": "Be brief.", "cache_control": CACHED}, system[1]]
    assert (body["tools"][0]["cache_control"], body["cache_control"]) == (CACHED, CACHED)
    assert made.dropped == ("cache_control.ttl",)


def test_images_stay_parts() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}, "cache_control": CACHED}
    body = json.loads(call({"role": "user", "content": [{"type": "text", "text": "See"}, image]}).body)
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "https://e.com/a.png"}},
    ]


@pytest.mark.parametrize(
    ("takes", "names"),
    [
        ("", set()),
        ("reasoning_content", {"reasoning_content"}),
        ("cache_control reasoning_details", {"reasoning_details"}),
    ],
)
def test_thoughts_of_earlier_turns_go_to_those_who_take_them(takes: str, names: set[str]) -> None:
    message = json.loads(call(THOUGHTS, to=taking(takes)).body)["messages"][0]
    assert {name for name in message if name.startswith("reasoning")} == names
    assert message["content"] == "One.\n\nTwo."
    assert message["tool_calls"][0]["id"] == "t"


def test_a_turn_that_calls_a_tool_without_a_thought_has_an_empty_one_where_it_is_wanted() -> None:
    turn = {"role": "assistant", "content": THOUGHTS["content"][1:]}
    assert json.loads(call(turn, to=taking("reasoning_content")).body)["messages"][0]["reasoning_content"] == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, "low"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10_000}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 31_999}}, "high"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high"),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "disabled"}}, None),
    ],
)
def test_thinking_is_an_effort(fields: dict[str, Any], expected: str | None) -> None:
    body = json.loads(call(**fields).body)
    assert "reasoning" not in body
    assert body.get("reasoning_effort") == expected


def test_a_model_that_does_not_think_is_not_asked_to() -> None:
    made = call(to=target(model=Model(reasoning=False)), thinking={"type": "enabled", "budget_tokens": 2000})
    assert b"reasoning" not in made.body
    assert made.dropped == ("thinking",)


def test_openrouter_gets_its_own_words() -> None:
    provider = presets.provider("openrouter", api_key="k", options={"more": "x"})
    assert provider.options == {"takes": "cache_control reasoning reasoning_details", "more": "x"}
    made = call(to=target(options=provider.options), thinking={"type": "enabled", "budget_tokens": 2000})
    assert json.loads(made.body)["reasoning"] == {"max_tokens": 2000}


def test_what_is_left_out_is_named_in_anthropic_s_words() -> None:
    made = call(context_management={"edits": [{}]}, metadata={"user_id": "u" * 100}, tools=[TOOL])
    assert made.dropped == ("context_management", "metadata.user_id", "cache_control")


def test_a_refusal_of_the_provider_s_dialect_names_what_the_client_wrote() -> None:
    with pytest.raises(RequestError) as raised:
        call(stop_sequences=["x"], to=target(cost_fields=frozenset({"stop"})))
    assert raised.value.param == "stop_sequences"
    assert "stop_sequences" in raised.value.message


def test_a_request_as_claude_code_makes_it_is_sent() -> None:
    made = call(
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>x</system-reminder>"}]},
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cch=00000;"},
            {"type": "text", "text": "You are Claude Code.", "cache_control": HOUR},
        ],
        tools=[TOOL, {"name": "Bash", "description": "Run", "input_schema": {"type": "object"}}],
        metadata={"user_id": "user_" + "a" * 64 + "_account__session_" + "b" * 36},
        max_tokens=32_000,
        thinking={"type": "adaptive"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "medium"},
        stream=True,
    )
    body = json.loads(made.body)
    assert body.keys() == {"model", "messages", "max_tokens", "stream", "stream_options", "tools", "reasoning_effort"}
    assert body["messages"][0]["content"] == "You are Claude Code."
    assert set(made.dropped) == {"context_management", "metadata.user_id", "cache_control"}
