"""Anthropic's official SDK against the router, which speaks to a provider of OpenAI's API: the base URL is all."""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam
from background import BackgroundUpstream
from pydantic import BaseModel
from rig import ALICE, BOB_KEY, KEY, MODEL
from rig import gateway as make_gateway

from hpp_middleware import Gateway
from hpp_middleware.testing import Script
from sdk.served import CONSUMERS, POOR_KEY, Router, served

HI: list[MessageParam] = [{"role": "user", "content": "Hi"}]
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 100, "messages": HI}
TOOL: ToolParam = {
    "name": "weather",
    "description": "How is it?",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
def gateway(background_upstream: BackgroundUpstream) -> Gateway:
    return make_gateway(background_upstream.url, consumers=CONSUMERS, model={"cache_read": "0.25"})


@pytest.fixture
def router(background_upstream: BackgroundUpstream, gateway: Gateway) -> Iterator[Router]:
    with served(background_upstream, gateway) as found:
        yield found


def base(router: Router) -> str:
    """What a user sets as the base URL: Anthropic's SDK adds ``/v1/messages`` itself."""
    return router.url.removesuffix("/llm/v1")


def sdk(router: Router, key: str = KEY, **settings: Any) -> anthropic.Anthropic:
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    return anthropic.Anthropic(base_url=base(router), api_key=key, http_client=http_client, **settings)


@pytest.fixture
def client(router: Router) -> Iterator[anthropic.Anthropic]:
    with sdk(router) as found:
        yield found


@pytest.fixture
async def async_client(router: Router) -> AsyncGenerator[anthropic.AsyncAnthropic]:
    http_client = anthropic.DefaultAsyncHttpxClient(trust_env=False)
    async with anthropic.AsyncAnthropic(base_url=base(router), api_key=KEY, http_client=http_client) as found:
        yield found


def chunk(delta: dict[str, Any] | None = None, reason: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    return b"data: " + json.dumps({"id": "c", "created": 1, "choices": choices, **more}).encode() + b"\n\n"


def streamed(*chunks: bytes, done: bool = True) -> Script:
    body = b"".join(chunks) + (b"data: [DONE]\n\n" if done else b"")
    return Script(raw_body=body, content_type="text/event-stream", chunk_size=100)


def completed(message: dict[str, Any], *, reason: str = "stop", usage: dict[str, Any] | None = None) -> Script:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    body = {"id": "c", "choices": [choice], "usage": usage or {"prompt_tokens": 9, "completion_tokens": 2}}
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


CALLS = [
    {"index": 0, "id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}},
    {"index": 1, "id": "c2", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Basel"}'}},
]
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 20},
}


async def amounts(gateway: Gateway) -> list[int]:
    return [line.amount for line in await gateway.store.lines("alice")]


def nano(usage: Any) -> int:
    """What a usage costs at the prices above, by the test's own arithmetic."""
    return int(usage.input_tokens * 1000 + usage.cache_read_input_tokens * 250 + usage.output_tokens * 2000)


def test_a_message_is_created(client: anthropic.Anthropic, router: Router) -> None:
    raw = client.messages.with_raw_response.create(
        **ASK, system="Be brief.", stop_sequences=["END"], extra_body={"temperature": 0.5}
    )
    message = raw.parse()
    assert (message.model, message.stop_reason) == (MODEL, "end_turn")
    assert [block.model_dump(exclude_none=True) for block in message.content] == [
        {"type": "text", "text": "Hello world"}
    ]
    assert message._request_id == raw.headers["x-request-id"]
    assert raw.headers["x-hpp-router-resolved-model"] == MODEL
    assert raw.headers["x-hpp-router-cost"] == "0.000013"
    exchange = router.upstream.last
    assert exchange.path == "/v1/chat/completions"
    assert exchange.json()["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (exchange.json()["stop"], exchange.json()["temperature"]) == (["END"], 0.5)
    assert not any("anthropic" in name or KEY in value for name, value in exchange.headers)


@pytest.mark.anyio
async def test_an_async_client_gets_the_same(async_client: anthropic.AsyncAnthropic) -> None:
    message = await async_client.messages.create(**ASK)
    async with async_client.messages.stream(**ASK) as stream:
        texts = [text async for text in stream.text_stream]
        again = await stream.get_final_message()
    assert texts == ["Hello", " world"]
    assert again.content[0].model_dump(exclude={"parsed_output"}) == message.content[0].model_dump()
    assert again.usage == message.usage


@pytest.mark.anyio
async def test_the_ledger_has_what_the_message_says(
    client: anthropic.Anthropic, router: Router, gateway: Gateway
) -> None:
    router.upstream.next(
        completed({"content": "x"}, usage=USAGE),
        streamed(chunk({"content": "x"}), chunk({}, "stop"), chunk(usage=USAGE)),
    )
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        again = stream.get_final_message()
    router.upstream.wait_until_idle()
    assert whole.usage == again.usage
    assert (whole.usage.input_tokens, whole.usage.cache_read_input_tokens, whole.usage.output_tokens) == (40, 60, 50)
    assert await amounts(gateway) == [nano(whole.usage)] * 2
    assert nano(whole.usage) == 40 * 1000 + 60 * 250 + 50 * 2000


def test_a_stream_has_anthropic_s_events_and_the_sdk_s_helpers(client: anthropic.Anthropic, router: Router) -> None:
    router.upstream.next(
        streamed(
            b": keepalive\n\n",
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "Hm"}),
            chunk({"content": "I "}),
            chunk({"content": "look."}),
            chunk({"tool_calls": CALLS[:1]}),
            chunk({"tool_calls": CALLS[1:]}),
            chunk({}, "tool_calls"),
            chunk(usage=USAGE),
        )
    )
    with client.messages.stream(**ASK, tools=[TOOL], thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert [kind for kind in kinds if kind in {"thinking", "text", "input_json"}] == [
        *("thinking", "text", "text", "input_json", "input_json")
    ]
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert [block.input for block in message.content if block.type == "tool_use"] == [
        {"city": "Bern"},
        {"city": "Basel"},
    ]
    assert message.stop_reason == "tool_use"
    sent = router.upstream.last.json()
    assert sent["reasoning_effort"] == "low"
    assert sent["stream_options"] == {"include_usage": True}


def test_the_raw_stream_can_be_iterated(client: anthropic.Anthropic) -> None:
    with client.messages.create(**ASK, stream=True) as stream:
        kinds = [event.type for event in stream]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 2,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_the_sdk_s_tool_runner_runs_tools(client: anthropic.Anthropic, router: Router) -> None:
    asked: list[str] = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """
        How is it?

        Args:
            city: Where.
        """
        asked.append(city)
        return f"rain in {city}"

    router.upstream.next(
        completed({"content": None, "tool_calls": CALLS}, reason="tool_calls"), completed({"content": "It rains."})
    )
    runner = client.beta.messages.tool_runner(**ASK, tools=[weather])
    last = runner.until_done()
    assert asked == ["Bern", "Basel"]
    assert [block.text for block in last.content if block.type == "text"] == ["It rains."]
    first, second = router.upstream.log[-2].json(), router.upstream.last.json()
    assert first["tools"][0]["function"]["name"] == "weather"
    assert "thread" not in first  # which the SDK asks for first, and gives up where it is refused in Anthropic's way
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in second["messages"][1]["tool_calls"]] == ["c1", "c2"]
    assert [(message["tool_call_id"], message["content"]) for message in second["messages"][2:]] == [
        ("c1", "rain in Bern"),
        ("c2", "rain in Basel"),
    ]


class Weather(BaseModel):
    city: str
    rain: bool


def test_the_sdk_s_structured_output_is_a_schema_at_the_provider(client: anthropic.Anthropic, router: Router) -> None:
    router.upstream.next(completed({"content": '{"city": "Bern", "rain": true}'}))
    message = client.messages.parse(**ASK, output_format=Weather)
    assert message.parsed_output == Weather(city="Bern", rain=True)
    schema = router.upstream.last.json()["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["properties"].keys() == {"city", "rain"}


def test_vision_and_documents_reach_the_provider(client: anthropic.Anthropic, router: Router) -> None:
    content: Any = [
        {"type": "text", "text": "See"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}},
    ]
    client.messages.create(**{**ASK, "messages": [{"role": "user", "content": content}]})
    (message,) = router.upstream.last.json()["messages"]
    assert [part.get("image_url", {}).get("url") for part in message["content"]] == [
        *(None, "data:image/png;base64,iVBO", "https://e.com/a.png")
    ]


def test_a_request_of_an_agent_s_with_beta_headers_and_fields_works(
    client: anthropic.Anthropic, router: Router
) -> None:
    raw = client.beta.messages.with_raw_response.create(
        **ASK,
        system=[{"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        tools=[{**TOOL, "cache_control": {"type": "ephemeral"}}],
        metadata={"user_id": "u" * 150},
        thinking={"type": "adaptive"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        betas=["context-management-2025-06-27", "interleaved-thinking-2025-05-14"],
    )
    assert raw.parse().stop_reason == "end_turn"
    dropped = raw.headers["x-hpp-router-dropped-fields"].split(", ")
    assert set(dropped) == {"metadata.user_id", "context_management", "cache_control", "betas"}
    assert router.upstream.last.json().keys() == {"model", "max_tokens", "messages", "tools"}


def test_a_bearer_token_is_a_key_as_well(router: Router) -> None:
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(base_url=base(router), auth_token=KEY, http_client=http_client) as found:
        assert found.messages.create(**ASK).stop_reason == "end_turn"


def test_tokens_are_counted(client: anthropic.Anthropic, router: Router) -> None:
    count = client.messages.count_tokens(model=MODEL, messages=HI, system="Be brief.", tools=[TOOL])
    assert count.input_tokens > 0
    assert router.upstream.log == []


# --- errors -----------------------------------------------------------------------------------------------------------


def test_errors_are_the_sdk_s_own(router: Router) -> None:
    cases: list[tuple[str, dict[str, Any], type[anthropic.APIStatusError], str]] = [
        ("nobody-shows-this-key", {}, anthropic.AuthenticationError, "authentication_error"),
        (BOB_KEY, {}, anthropic.PermissionDeniedError, "permission_error"),
        (POOR_KEY, {}, anthropic.RateLimitError, "rate_limit_error"),
        (KEY, {"model": "fake/none"}, anthropic.BadRequestError, "invalid_request_error"),
        (
            KEY,
            {"tools": [{"type": "bash_20250124", "name": "bash"}]},
            anthropic.BadRequestError,
            "invalid_request_error",
        ),
        (KEY, {"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
    ]
    for key, fields, kind, name in cases:
        before = router.requests
        with sdk(router, key) as found, pytest.raises(kind) as raised:
            found.messages.create(**{**ASK, **fields})
        assert router.requests == before + 1, "none of them is worth another try"
        body: Any = raised.value.body
        assert (body["type"], body["error"]["type"]) == ("error", name)
        assert body["request_id"] == raised.value.request_id
        assert raised.value.request_id


@pytest.mark.parametrize(
    ("script", "kind", "name"),
    [
        (Script(status=429), anthropic.RateLimitError, "rate_limit_error"),
        (Script(status=503), anthropic.InternalServerError, "overloaded_error"),
        (Script(status=401), anthropic.InternalServerError, "api_error"),
        (Script(status=400), anthropic.BadRequestError, "invalid_request_error"),
    ],
)
def test_a_provider_s_errors_are_told_by_their_status(
    router: Router, script: Script, kind: type[anthropic.APIStatusError], name: str
) -> None:
    router.upstream.next(script)
    with sdk(router, max_retries=0) as found, pytest.raises(kind) as raised:
        found.messages.create(**ASK)
    body: Any = raised.value.body
    assert (body["error"]["type"], body["error"]["provider"]) == (name, "fake")


def test_paths_and_methods_that_are_not_there_say_so_in_the_same_envelope(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as raised:
        client.messages.batches.list()
    body: Any = raised.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")
    with pytest.raises(anthropic.APIStatusError) as wrong:
        client.get("/v1/messages", cast_to=object)
    assert wrong.value.status_code == 405
    body = wrong.value.body
    assert body["error"]["type"] == "invalid_request_error"


@pytest.mark.anyio
async def test_a_stream_that_breaks_raises_and_is_charged_by_an_estimate(
    client: anthropic.Anthropic, router: Router, gateway: Gateway
) -> None:
    router.upstream.next(streamed(chunk({"content": "Hello"}), done=False))
    got: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as raised, client.messages.stream(**ASK) as stream:
        got += stream.text_stream
    body: Any = raised.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "api_error")
    assert got == ["Hello"]
    router.upstream.wait_until_idle()
    (line,) = await gateway.store.lines("alice")
    assert (line.report.outcome, line.report.estimated) == ("failed", True)
    assert 0 < line.amount < line.held


@pytest.mark.anyio
async def test_a_client_that_leaves_in_mid_stream_is_settled(
    client: anthropic.Anthropic, router: Router, gateway: Gateway
) -> None:
    router.upstream.next(Script(texts=("Hello ",), endless=True, delay_between_s=0.01))
    with client.messages.stream(**{**ASK, "max_tokens": 100_000}) as stream:
        for _, text in zip(range(5), stream.text_stream, strict=False):
            assert text == "Hello "
    router.upstream.wait_until_idle()
    assert router.upstream.last.closed_early
    balance = await gateway.balance(ALICE)
    assert balance.held == 0
    (line,) = await gateway.store.lines("alice")
    assert (line.report.outcome, line.report.estimated) == ("abandoned", True)
    assert 0 < line.amount < line.held
