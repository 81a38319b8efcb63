"""pydantic-ai's Anthropic model as a second client of the Messages API: an agent with a tool, whole and streamed."""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anthropic
import pydantic_ai.models.anthropic
import pytest
from background import BackgroundUpstream
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from rig import KEY, MODEL
from rig import gateway as make_gateway

from hpp_middleware.testing import Script
from sdk.served import CONSUMERS, Router, served

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


class Weather(BaseModel):
    """What is asked for."""

    city: str
    rain: bool


@pytest.fixture
def router(background_upstream: BackgroundUpstream) -> Iterator[Router]:
    with served(background_upstream, make_gateway(background_upstream.url, consumers=CONSUMERS)) as found:
        yield found


@pytest.fixture
async def model(router: Router, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[AnthropicModel]:
    # Its version 2.38 calls a type that SDK 2.14 has made a union of dictionaries, which nobody can call.
    monkeypatch.setattr(pydantic_ai.models.anthropic, "BetaMessageParam", dict)
    http_client = anthropic.DefaultAsyncHttpxClient(trust_env=False)
    base_url = router.url.removesuffix("/llm/v1")
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key=KEY, http_client=http_client) as client:
        yield AnthropicModel(MODEL, provider=AnthropicProvider(anthropic_client=client))


def calls(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": function}]}


def whole(message: dict[str, Any], reason: str) -> Script:
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": USAGE}
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


def streamed(delta: dict[str, Any], reason: str) -> Script:
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
        {"choices": [], "usage": USAGE},
    ]
    body = b"".join(b"data: " + json.dumps({"id": "c", **chunk}).encode() + b"\n\n" for chunk in chunks)
    return Script(raw_body=body + b"data: [DONE]\n\n", content_type="text/event-stream")


async def test_an_agent_uses_its_tool(model: AnthropicModel, router: Router) -> None:
    agent = Agent(model, instructions="Be brief.")

    @agent.tool_plain
    def weather(city: str) -> str:
        """How is it?"""
        return f"rain in {city}"

    router.upstream.next(whole(calls("weather", {"city": "Bern"}), "tool_calls"), whole({"content": "Rain."}, "stop"))
    result = await agent.run("How is Bern?")
    assert result.output == "Rain."
    assert (result.usage.input_tokens, result.usage.output_tokens) == (18, 4)
    last = router.upstream.last.json()["messages"]
    assert [message["role"] for message in last] == ["system", "user", "assistant", "tool"]
    assert last[-1]["content"] == "rain in Bern"


async def test_a_stream_of_an_agent_is_read(model: AnthropicModel, router: Router) -> None:
    agent = Agent(model)
    router.upstream.next(streamed({"reasoning_content": "Hm", "content": "Rain."}, "stop"))
    async with agent.run_stream("How is Bern?") as result:
        texts = [text async for text in result.stream_text(delta=True, debounce_by=None)]
    assert "".join(texts) == "Rain."
    assert result.usage.output_tokens == 2


async def test_a_typed_output_is_got(model: AnthropicModel, router: Router) -> None:
    agent = Agent(model, output_type=Weather)
    router.upstream.next(whole(calls("final_result", {"city": "Bern", "rain": True}), "tool_calls"))
    result = await agent.run("How is Bern?")
    assert result.output == Weather(city="Bern", rain=True)
    assert router.upstream.last.json()["tools"][0]["function"]["name"] == "final_result"
