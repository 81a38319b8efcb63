"""Requests to Bedrock's Converse: each is held to Amazon's own client."""

import base64
import json
from typing import Any

import pytest
from converse import accept

from hpp_middleware.core import parse
from hpp_middleware.core.bound import bound
from hpp_middleware.dialects.bedrock import Bedrock, region_of
from hpp_middleware.dialects.bedrock.models import claude_version
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.completion import Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n-not-really-_").decode()
PDF = base64.b64encode(b"%PDF-1.7").decode()
HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLED: list[dict[str, Any]] = [
    *HI,
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bonn"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]


def target(model: str = CLAUDE, **provider: Any) -> Target:
    settings = {"base_url": "https://bedrock-runtime.us-east-1.amazonaws.com", "dialect": "bedrock", **provider}
    return Target(
        id=f"bedrock/{model}",
        provider_name="bedrock",
        model_name=model,
        provider=Provider(**settings),
        model=Model(),
        price=Price(base=Rates(input=1, output=1)),
    )


def call(model: str = CLAUDE, cap: int | None = 4096, **fields: Any) -> HTTPCall:
    body = {"model": f"bedrock/{model}", "messages": HI, **fields}
    request = parse.completion(json.dumps(body).encode(), Limits())
    return Bedrock().call(request, target(model), cap=cap, request_id="req_1")


def said(model: str = CLAUDE, cap: int | None = 4096, **fields: Any) -> dict[str, Any]:
    made = call(model, cap, **fields)
    return accept(made.url, made.body, model=model)


def refused(model: str = CLAUDE, cap: int | None = 4096, **fields: Any) -> str | None:
    with pytest.raises(RequestError) as caught:
        call(model, cap, **fields)
    assert caught.value.status == 400
    assert (caught.value.param or "?") in caught.value.message
    return caught.value.param


@pytest.mark.parametrize(
    "model",
    [
        CLAUDE,
        "amazon.nova-lite-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-6-v1",
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_goes_where_amazon_s_client_sends_it(model: str, stream: bool) -> None:  # noqa: FBT001
    made = call(model, stream=stream)
    sent = accept(made.url, made.body, model=model)
    assert sent == {"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": {"maxTokens": 4096}}
    assert made.url.endswith("/converse-stream" if stream else "/converse")
    assert made.stream_type == "application/vnd.amazon.eventstream"
    assert "Authorization" not in dict(made.headers)


def test_an_api_key_of_bedrock_s_is_a_bearer_token() -> None:
    request = parse.completion(json.dumps({"model": "bedrock/m", "messages": HI}).encode(), Limits())
    made = Bedrock().call(request, target(api_key="bedrock-api-key"), cap=1, request_id="r")
    assert dict(made.headers)["Authorization"] == "Bearer bedrock-api-key"


def test_messages_are_said_in_turns_and_instructions_apart() -> None:
    sent = said(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "content": "One"},
            {"role": "user", "content": [{"type": "text", "text": "Two"}, {"type": "text", "text": " "}]},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": "Three"},
        ]
    )
    assert sent["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert sent["messages"] == [
        {"role": "user", "content": [{"text": "One"}, {"text": "Two"}]},
        {"role": "assistant", "content": [{"text": "Yes"}]},
        {"role": "user", "content": [{"text": "Three"}]},
    ]


def test_what_steers_the_output_has_other_names() -> None:
    sent = said(temperature=0.5, top_p=0.25, stop=["END"], max_tokens=7)
    assert sent["inferenceConfig"] == {"maxTokens": 7, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]}
    assert said(stop="END", cap=None)["inferenceConfig"] == {"stopSequences": ["END"]}


def test_images_and_documents_go_as_their_bytes() -> None:
    sent = said(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "See"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
                    {
                        "type": "file",
                        "file": {"filename": "Q3_report (v2).pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                    },
                ],
            }
        ]
    )
    assert sent["messages"][0]["content"] == [
        {"text": "See"},
        {"image": {"format": "png", "source": {"bytes": PNG}}},
        {"document": {"format": "pdf", "name": "Q3 report (v2)", "source": {"bytes": PDF}}},
    ]


def test_the_hold_covers_images_packed_documents_and_what_explains_tools() -> None:
    def held(**fields: Any) -> int:
        request = parse.completion(json.dumps({"model": "bedrock/m", "messages": HI, **fields}).encode(), Limits())
        made = Bedrock().call(request, target(), cap=1, request_id="r")
        return bound(request, target(), sent_bytes=len(made.body), limits=Limits(), more_tokens=made.more_tokens).prompt

    pdf = {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}}
    text = {"type": "file", "file": {"file_data": f"data:text/plain;base64,{PDF}"}}
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    see = {"type": "text", "text": "See"}
    assert held(messages=[{"role": "user", "content": [see, pdf]}]) > 1_000_000
    assert held(messages=[{"role": "user", "content": [see, text]}]) < 1_000
    assert held(messages=[{"role": "user", "content": [image] * 2}]) > 2 * 5_000
    assert held(tools=[TOOL]) > held() + 1_000


def test_tools_their_calls_and_their_results() -> None:
    sent = said(messages=CALLED, tools=[TOOL], tool_choice="auto")
    assert sent["messages"][1:] == [
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Bonn"}}}],
        },
        {"role": "user", "content": [{"toolResult": {"toolUseId": "call_1", "content": [{"text": "sunny"}]}}]},
    ]
    function: dict[str, Any] = TOOL["function"]  # type: ignore[assignment]  # a dict in a dict
    spec = {"name": "weather", "description": "The weather.", "inputSchema": {"json": function["parameters"]}}
    assert sent["toolConfig"] == {"tools": [{"toolSpec": spec}], "toolChoice": {"auto": {}}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", {"auto": {}}),
        ("required", {"any": {}}),
        ({"type": "function", "function": {"name": "weather"}}, {"tool": {"name": "weather"}}),
    ],
)
def test_a_tool_may_be_chosen(choice: Any, expected: Any) -> None:
    assert said(tools=[TOOL], tool_choice=choice)["toolConfig"]["toolChoice"] == expected


def test_no_tool_is_chosen_by_giving_none() -> None:
    assert "toolConfig" not in said(tools=[TOOL], tool_choice="none")


def test_calls_without_their_tools_are_refused_since_converse_refuses_them() -> None:
    assert refused(messages=CALLED) == "tools"
    assert refused(messages=CALLED, tools=[TOOL], tool_choice="none") == "tool_choice"


def test_several_results_are_one_message_and_an_empty_one_says_so() -> None:
    two = [
        {"id": name, "type": "function", "function": {"name": "weather", "arguments": ""}} for name in ("a b", "a_b")
    ]
    sent = said(
        messages=[
            *HI,
            {"role": "assistant", "content": "Let me see.", "tool_calls": two},
            {"role": "tool", "tool_call_id": "a b", "content": ""},
            {"role": "tool", "tool_call_id": "a_b", "content": "rain"},
            {"role": "user", "content": "So?"},
        ],
        tools=[TOOL],
    )
    _, spoken, answered = sent["messages"]
    first, second = (block["toolUse"]["toolUseId"] for block in spoken["content"][1:])
    assert first != second == "a_b"
    assert answered["content"] == [
        {"toolResult": {"toolUseId": first, "content": [{"text": "(no output)"}]}},
        {"toolResult": {"toolUseId": "a_b", "content": [{"text": "rain"}]}},
        {"text": "So?"},
    ]


def test_what_is_to_be_cached_ends_at_a_cache_point() -> None:
    soon, long = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    asked: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Long.", "cache_control": soon}]},
            {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": soon}]},
        ],
        "tools": [{**TOOL, "cache_control": soon}],
    }
    sent = said(**asked)
    point = {"cachePoint": {"type": "default"}}
    assert sent["system"] == [{"text": "Long."}, point]
    assert sent["messages"][0]["content"] == [{"text": "Hi"}, point]
    assert sent["toolConfig"]["tools"][1] == point
    assert not call(**asked).long_cache
    hour = call(cache_control=long)
    assert json.loads(hour.body)["messages"][0]["content"][-1] == {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert hour.long_cache
    assert refused(cache_control={"type": "ephemeral", "ttl": "1d"}) == "cache_control"


def test_a_schema_is_said_as_json_text() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    structure = said(response_format=form)["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (structure["name"], json.loads(structure["schema"])) == ("answer", schema)
    assert refused(response_format={"type": "json_object"}) == "response_format.type"


@pytest.mark.parametrize(
    ("model", "version"),
    [
        (CLAUDE, (4, 5)),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", (3, 7)),
        ("anthropic.claude-3-haiku-20240307-v1:0", (3, 0)),
        ("global.anthropic.claude-opus-4-6-v1", (4, 6)),
        ("anthropic.claude-sonnet-4-20250514-v1:0", (4, 0)),
        ("anthropic.claude-fable-5", (5, 0)),
        ("anthropic.claude-opus-4-7", (4, 7)),
        ("anthropic.claude-instant-v1", (0, 0)),
        ("amazon.nova-pro-v1:0", None),
    ],
)
def test_a_claude_is_known_by_its_number(model: str, version: tuple[int, int] | None) -> None:
    assert claude_version(model) == version


@pytest.mark.parametrize(
    ("effort", "budget"), [("minimal", 1024), ("low", 2000), ("medium", 5000), ("high", 8000), ("xhigh", 9500)]
)
def test_an_older_claude_thinks_within_a_share_of_the_cap(effort: str, budget: int) -> None:
    more = said(reasoning_effort=effort, max_tokens=10_000)["additionalModelRequestFields"]
    assert more == {"thinking": {"type": "enabled", "budget_tokens": budget}}


def test_a_newer_claude_decides_itself_how_much_to_think() -> None:
    sent = said("anthropic.claude-opus-4-7", reasoning_effort="high")
    assert sent["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
    assert sent["outputConfig"] == {"effort": "high"}
    assert refused("anthropic.claude-opus-4-7", reasoning={"max_tokens": 2000}) == "reasoning.max_tokens"


def test_thoughts_that_do_not_fit_the_cap_are_refused() -> None:
    assert said(reasoning={"max_tokens": 2000})["additionalModelRequestFields"]["thinking"]["budget_tokens"] == 2000
    assert refused(reasoning={"max_tokens": 5000}) == "reasoning.max_tokens"
    assert refused(reasoning={"max_tokens": 5}) == "reasoning.max_tokens"
    assert refused(reasoning_effort="low", max_tokens=1024) == "reasoning_effort"
    assert refused(reasoning_effort="utmost") == "reasoning_effort"


def test_other_makers_have_words_of_their_own_for_effort() -> None:
    gpt, nova = "openai.gpt-oss-120b-1:0", "us.amazon.nova-2-lite-v1:0"
    assert said(gpt, reasoning_effort="low")["additionalModelRequestFields"] == {"reasoning_effort": "low"}
    thinking = said(nova, reasoning_effort="medium", top_k=5)["additionalModelRequestFields"]
    assert thinking["reasoningConfig"] == {"type": "enabled", "maxReasoningEffort": "medium"}
    assert thinking["inferenceConfig"] == {"topK": 5}
    assert refused(nova, reasoning_effort="high") == "reasoning_effort"  # it would know no cap
    budget = {"max_tokens": 20_000}
    assert said(gpt, reasoning=budget)["additionalModelRequestFields"] == {"reasoning_effort": "high"}
    most = said(nova, reasoning=budget)["additionalModelRequestFields"]["reasoningConfig"]
    assert most == {"type": "enabled", "maxReasoningEffort": "medium"}
    assert refused("meta.llama3-3-70b-instruct-v1:0", reasoning=budget) == "reasoning"
    assert refused("meta.llama3-3-70b-instruct-v1:0", reasoning_effort="low") == "reasoning_effort"
    assert refused("meta.llama3-3-70b-instruct-v1:0", top_k=5) == "top_k"


def test_one_call_at_a_time_is_asked_of_claude_only() -> None:
    more = said(tools=[TOOL], parallel_tool_calls=False, top_k=3)["additionalModelRequestFields"]
    assert more == {"top_k": 3, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    sent = said(tools=[TOOL], parallel_tool_calls=False, tool_choice="auto")
    assert "toolChoice" not in sent["toolConfig"]  # which would be said twice
    assert refused(tools=[TOOL], parallel_tool_calls=False, tool_choice="required") == "parallel_tool_calls"
    assert refused("amazon.nova-pro-v1:0", tools=[TOOL], parallel_tool_calls=False) == "parallel_tool_calls"


def test_thoughts_go_back_with_what_proves_them() -> None:
    blob = base64.b64encode(b"secret").decode()
    details = [
        {"type": "reasoning.text", "text": "Hm", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": blob, "format": "anthropic-claude-v1", "index": 1},
        {"type": "reasoning.text", "text": "unproven"},
        {"type": "reasoning.encrypted", "data": blob, "format": "google-gemini-v1", "id": "call_1"},
    ]
    spoken = {"role": "assistant", "content": "Yes", "reasoning_content": "Hm", "reasoning_details": details}
    sent = said(messages=[*HI, spoken, *HI])
    assert sent["messages"][1]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "Hm", "signature": "sig"}}},
        {"reasoningContent": {"redactedContent": blob}},
        {"text": "Yes"},
    ]
    parts = [{"type": "thinking", "thinking": "Hm", "signature": "sig"}, {"type": "text", "text": "Yes"}]
    again = said(messages=[*HI, {"role": "assistant", "content": parts}, *HI])
    assert again["messages"][1]["content"] == [sent["messages"][1]["content"][0], {"text": "Yes"}]


def one(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "See"}, part]}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"temperature": 1.5}, "temperature"),
        ({"guardrailConfig": {}}, "guardrailConfig"),
        ({"additionalModelRequestFields": {"max_tokens": 9}}, "additionalModelRequestFields"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        (
            {"messages": one({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}})},
            "messages[0].content[1].image_url.url",
        ),
        (
            {"messages": one({"type": "image_url", "image_url": {"url": f"data:image/tiff;base64,{PNG}"}})},
            "messages[0].content[1].image_url.url",
        ),
        ({"messages": one({"type": "input_audio", "input_audio": {}})}, "messages[0].content[1].type"),
        (
            {"messages": one({"type": "file", "file": {"file_data": f"data:video/mp4;base64,{PDF}"}})},
            "messages[0].content[1].file.file_data",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}}],
                    }
                ]
            },
            "messages[0].content",
        ),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content"),
        ({"messages": [*HI, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        (
            {"messages": [*HI, {"role": "assistant", "content": [{"type": "image_url", "image_url": "https://x.y"}]}]},
            "messages[1].content[0].type",
        ),
        (
            {
                "messages": [
                    *HI,
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "[1]"}}],
                    },
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields) == param


def test_what_is_harmless_is_left_out_and_told() -> None:
    assert call(seed=1, user="u", metadata={"a": "b"}, logprobs=False, temperature=1).dropped == (
        "seed",
        "user",
        "metadata",
    )


@pytest.mark.parametrize(
    ("url", "options", "region"),
    [
        ("https://bedrock-runtime.eu-central-1.amazonaws.com", {}, "eu-central-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com", {}, "us-gov-west-1"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", {}, "cn-north-1"),
        ("https://vpce-1.example", {"region": "us-west-2"}, "us-west-2"),
    ],
)
def test_the_region_is_in_the_url_or_the_options(url: str, options: dict[str, str], region: str) -> None:
    provider = Provider(base_url=url, dialect="bedrock", options=options)
    Bedrock().check(provider)
    assert region_of(provider) == region


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"base_url": "https://vpce-1.example"}, "options.region"),
        ({"options": {"regoin": "us-east-1"}}, "options.regoin"),
        ({"options": {"access_key_id": "AKIA"}}, "options.secret_access_key"),
        ({"options": {"secret_access_key": "s"}}, "options.access_key_id"),
    ],
)
def test_settings_that_cannot_sign_are_refused_when_the_gateway_is_built(settings: Any, param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Bedrock().check(target(**settings).provider)
    assert caught.value.param == param
    Bedrock().check(target(base_url="https://vpce-1.example", api_key="key").provider)


def test_without_botocore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "botocore.eventstream", None)
    with pytest.raises(ConfigurationError, match=r"pip install hpp_middleware\[bedrock\]"):
        Bedrock().check(target().provider)
