"""
Agents that speak Anthropic's Messages, by base URL alone, to a provider that speaks them too: Anthropic's official SDK
in front of the router, and behind it what takes nothing that the vendor's own types do not.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anthropic
import pytest
from anthropic.types import RawMessageStreamEvent
from anthropic.types.beta import message_count_tokens_params, message_create_params
from background import BackgroundUpstream
from pydantic import TypeAdapter
from rig import ALICE, KEY
from servers import serve

from hpp_middleware import Gateway, MemoryStore, provider
from hpp_middleware.testing import Script
from hpp_middleware.types.provider import Declared
from sdk.settled import lines

MODEL = "claude/claude-of-ours"
PRICES = {"input": "3", "output": "15", "cache_read": "0.30", "cache_write": "3.75", "cache_write_1h": "6"}
UPSTREAM_KEY = "sk-ant-upstream-canary"
HI: list[Any] = [{"role": "user", "content": "Hi"}]
ASK: dict[str, Any] = {"model": MODEL, "max_tokens": 2_000, "messages": HI}
USAGE: dict[str, Any] = {
    "input_tokens": 21,
    "cache_read_input_tokens": 1_000,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 40,
    "output_tokens_details": {"thinking_tokens": 25},
}
NANO_IN = 21 * 3_000 + 1_000 * 300 + 200 * 3_750 + 100 * 6_000
NANO = NANO_IN + 40 * 15_000
CLEARING: Any = {"edits": [{"type": "clear_tool_uses_20250919"}]}
SIGNED = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}

_whole: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
_streamed: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParamsStreaming)
_count: TypeAdapter[Any] = TypeAdapter(message_count_tokens_params.MessageCountTokensParams)
_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def gateway(background_upstream: BackgroundUpstream, store: MemoryStore) -> Gateway:
    url = background_upstream.url.removesuffix("/v1")
    return Gateway(
        store=store,
        providers={"claude": provider("anthropic", api_key=UPSTREAM_KEY, base_url=url, on_disconnect="cancel")},
        models={MODEL: {**PRICES, "context": 200_000, "max_output": 64_000, "name": "Sonnet"}},
        consumers={"alice": Declared(quota=100 * 10**9, keys=(KEY,))},
        prices=None,
    )


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    with (
        serve(gateway.app) as url,
        anthropic.Anthropic(base_url=url, api_key=KEY, http_client=http_client, max_retries=0) as found,
    ):
        yield found


def sent(upstream: BackgroundUpstream, kind: TypeAdapter[Any] = _whole) -> Any:
    """The body that the provider got, which the vendor's own type takes."""
    exchange = upstream.last
    assert exchange.header("x-api-key") == UPSTREAM_KEY
    assert not any(KEY in value for _, value in exchange.headers)
    body = exchange.json()
    kind.validate_python(body)
    return body


def message(*blocks: dict[str, Any], reason: str = "end_turn") -> Script:
    body = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(blocks),
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": USAGE,
    }
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


def streaming(*deltas: dict[str, Any], whole: bool = True) -> Script:
    """A stream of one block of thoughts, and what else there is in deltas; broken off where it is not whole."""
    head = {
        **json.loads(message().raw_body or b""),
        "stop_reason": None,
        "usage": {**USAGE, "output_tokens": 1, "output_tokens_details": None},
    }
    found: list[dict[str, Any]] = [
        {"type": "message_start", "message": head},
        {"type": "content_block_start", "index": 0, "content_block": {**SIGNED, "thinking": "", "signature": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
    ]
    if whole:
        last = {"stop_reason": "end_turn", "stop_sequence": None}
        usage = {name: USAGE[name] for name in ("output_tokens", "output_tokens_details")}
        found += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": last, "usage": usage},
            {"type": "message_stop"},
        ]
    for event in found:
        _event.validate_python(event)
    body = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in found)
    return Script(raw_body=body, content_type="text/event-stream")


def thought(text: str) -> dict[str, Any]:
    return {"type": "thinking_delta", "thinking": text}


def test_a_request_of_an_agent_s_passes_with_all_that_it_asks_for(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream, store: MemoryStore
) -> None:
    background_upstream.next(message(SIGNED, {"type": "text", "text": "Yes."}))
    system: Any = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.0;"},
        {"type": "text", "text": "You are.", "cache_control": {"type": "ephemeral", "ttl": "1h", "scope": "global"}},
    ]
    tools: Any = [
        {"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}},
        {"type": "bash_20250124", "name": "bash"},
    ]
    raw = client.beta.messages.with_raw_response.create(
        **ASK,
        system=system,
        tools=tools,
        metadata={"user_id": "user_" + "a" * 150},
        thinking={"type": "enabled", "budget_tokens": 1_024},
        output_config={"effort": "high"},
        context_management=CLEARING,
        betas=[
            "claude-code-20250219",
            "interleaved-thinking-2025-05-14",
            "context-management-2025-06-27",
            "prompt-caching-scope-2026-01-05",
            "context-1m-2025-08-07",
        ],
    )
    answer = raw.parse()
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert (answer.model, answer.usage.output_tokens) == (MODEL, 40)
    body = sent(background_upstream)
    assert body["model"] == "claude-of-ours"
    assert (body["system"], body["tools"], body["context_management"]) == (system, tools, CLEARING)
    assert background_upstream.last.path == "/v1/messages"
    assert background_upstream.last.header("anthropic-beta") == (
        "interleaved-thinking-2025-05-14,context-management-2025-06-27,prompt-caching-scope-2026-01-05"
    )
    assert raw.headers["x-hpp-router-dropped-fields"] == "betas"
    (line,) = lines(store)
    assert (line.amount, line.report.estimated, line.report.usage.reasoning) == (NANO, False, 25)
    assert line.held >= 6 * len(json.dumps(body)) * 1000 // 2  # all of the prompt may be written for an hour


def test_a_conversation_begun_with_another_model_goes_on_here(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream
) -> None:
    background_upstream.next(message({"type": "text", "text": "Yes."}))
    history: Any = [
        *HI,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "redacted_thinking", "data": "hpp1.eyJmb3JtYXQiOiJnb29nbGUtZ2VtaW5pLXYxIn0="},
                SIGNED,
                {"type": "text", "text": "A"},
            ],
        },
        *HI,
    ]
    raw = client.messages.with_raw_response.create(**{**ASK, "messages": history})
    assert raw.headers["x-hpp-router-dropped-fields"] == "messages.thinking"
    assert sent(background_upstream)["messages"][1]["content"] == [SIGNED, {"type": "text", "text": "A"}]


def test_a_stream_and_its_bill(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream, store: MemoryStore
) -> None:
    background_upstream.next(streaming(thought("H"), thought("m"), {"type": "signature_delta", "signature": "EqQB"}))
    with client.beta.messages.stream(
        **ASK, thinking={"type": "adaptive"}, context_management=CLEARING, betas=["context-management-2025-06-27"]
    ) as stream:
        kinds = [event.type for event in stream if event.type == "thinking"]
        answer = stream.get_final_message()
    assert (kinds, answer.content[0].type, answer.usage.output_tokens) == (["thinking"] * 2, "thinking", 40)
    assert sent(background_upstream, _streamed)["stream"] is True
    background_upstream.wait_until_idle()
    assert [(line.amount, line.report.estimated) for line in lines(store)] == [(NANO, False)]


def test_the_tool_runner_goes_round(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream, store: MemoryStore
) -> None:
    @anthropic.beta_tool
    def weather(city: str) -> str:
        """
        How is it?

        Args:
            city: Where.
        """
        return f"rain in {city}"

    called = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}}
    background_upstream.next(message(SIGNED, called, reason="tool_use"), message({"type": "text", "text": "It rains."}))
    last = client.beta.messages.tool_runner(**ASK, tools=[weather]).until_done()
    assert last.content[0].type == "text"
    body = sent(background_upstream)
    assert "thread" not in body  # asked for first, and refused in the way by which the SDK gives it up
    assert body["messages"][1]["content"] == [SIGNED, called]
    assert body["messages"][2]["content"][0]["content"] == "rain in Bern"
    assert [line.amount for line in lines(store)] == [NANO, NANO]


def test_tokens_are_counted_by_the_provider_after_what_is_cleared(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream, store: MemoryStore
) -> None:
    background_upstream.next(Script(raw_body=b'{"input_tokens": 77}', content_type="application/json"))
    found = client.beta.messages.count_tokens(model=MODEL, messages=HI, context_management=CLEARING)
    assert found.input_tokens == 77
    assert sent(background_upstream, _count)["context_management"] == CLEARING
    assert background_upstream.last.path == "/v1/messages/count_tokens"
    assert background_upstream.last.header("anthropic-beta") == "context-management-2025-06-27"
    assert lines(store) == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management.edits[0].type"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2_000}}, "thinking.budget_tokens"),
        ({"compaction": {"type": "summarize"}}, "compaction"),
        ({"fallbacks": [{"model": "claude-opus-4-1", "max_tokens": 9_000}]}, "fallbacks"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ],
)
def test_what_can_cost_more_than_is_held_for_is_refused_before_anything_is_sent(
    client: anthropic.Anthropic,
    background_upstream: BackgroundUpstream,
    store: MemoryStore,
    fields: dict[str, Any],
    named: str,
) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        client.beta.messages.create(**ASK, extra_body=fields)
    body: Any = raised.value.body
    assert (body["error"]["type"], body["error"]["param"]) == ("invalid_request_error", named)
    assert (background_upstream.log, lines(store)) == ([], [])


@pytest.mark.parametrize(("thinking", "whole_hold"), [("adaptive", True), ("disabled", False)])
def test_a_client_that_leaves_in_mid_stream_is_not_settled_by_the_summary_of_thoughts(
    client: anthropic.Anthropic,
    background_upstream: BackgroundUpstream,
    store: MemoryStore,
    thinking: Any,
    *,
    whole_hold: bool,
) -> None:
    whole = streaming(thought("Hm"), thought("never comes"))
    begun = len((whole.raw_body or b"").partition(b"Hm")[0] + b'Hm"}}\n\n')
    background_upstream.next(replace(whole, chunk_size=begun, stall_after_events=1))
    with client.messages.stream(**ASK, thinking={"type": thinking}) as stream:
        next(event for event in stream if event.type == "content_block_delta")
    background_upstream.wait_until_idle()
    (line,) = lines(store)
    assert (line.report.outcome, line.report.estimated) == ("abandoned", True)
    assert line.amount == (line.held if whole_hold else NANO_IN + 15_000)


def test_an_error_in_mid_stream_is_anthropic_s_and_what_came_before_it_is_charged(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream, store: MemoryStore
) -> None:
    begun = streaming(thought("x" * 400), whole=False)
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    background_upstream.next(Script(raw_body=(begun.raw_body or b"") + error, content_type="text/event-stream"))
    got: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as raised, client.messages.stream(**ASK) as stream:
        got.extend(event.thinking for event in stream if event.type == "thinking")
    body: Any = raised.value.body
    assert (body["error"]["type"], body["error"]["code"]) == ("overloaded_error", "provider_overloaded")
    assert got == ["x" * 400]
    background_upstream.wait_until_idle()
    (line,) = lines(store)
    assert (line.report.outcome, line.amount) == ("failed", NANO_IN + 100 * 15_000)


@pytest.mark.anyio
async def test_nothing_stays_held(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream, gateway: Gateway
) -> None:
    background_upstream.next(Script(status=529, raw_body=b"{}", content_type="application/json"))
    with pytest.raises(anthropic.APIStatusError):
        client.messages.create(**ASK)
    assert (await gateway.balance(ALICE)).held == 0


def test_fallbacks_of_the_provider_s_own_choice_are_not_asked_for(
    client: anthropic.Anthropic, background_upstream: BackgroundUpstream, store: MemoryStore
) -> None:
    """It would answer with a model of another price than the one that is held for."""
    background_upstream.next(message({"type": "text", "text": "Hi."}))
    client.beta.messages.create(**ASK, extra_body={"fallbacks": "default"})
    assert "fallbacks" not in sent(background_upstream)
    assert len(lines(store)) == 1


def test_the_models_come_as_anthropic_lists_them(client: anthropic.Anthropic) -> None:
    page = client.models.list(limit=1)
    (model,) = list(page)
    assert (model.id, model.type, model.display_name, model.created_at.year) == (MODEL, "model", "Sonnet", 1970)
    assert (model.lifecycle, model.max_input_tokens, model.max_tokens) == ("active", 200_000, 64_000)
    assert client.models.retrieve(MODEL) == model
    with pytest.raises(anthropic.NotFoundError) as raised:
        client.models.retrieve("claude/none")
    body: Any = raised.value.body
    assert (body["type"], body["error"]["type"], body["request_id"]) == (
        *("error", "not_found_error"),
        raised.value.request_id,
    )
