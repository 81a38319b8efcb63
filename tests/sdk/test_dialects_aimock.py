"""Bedrock, Azure and Ollama as a protocol mock speaks them that nobody here wrote, asked by OpenAI's SDK."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from aimock import AIMock
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam, ChatCompletionToolParam
from rig import KEY
from rig import gateway as make_gateway
from servers import serve

from hpp_middleware.types.provider import Provider
from sdk.served import CONSUMERS

MODEL = "fake/fake-1"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
TOOL: ChatCompletionToolParam = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
NANO = 9 * 1_000 + 2 * 2_000
VENDORS: dict[str, dict[str, Any]] = {
    "bedrock": {
        "dialect": "bedrock",
        "options": {"region": "us-east-1", "access_key_id": "AKIA", "secret_access_key": "secret"},
    },
    "azure": {"dialect": "azure", "api_key": "azure-key", "options": {"api_version": "2024-10-21"}},
    "ollama": {"dialect": "ollama"},
}
every = pytest.mark.parametrize("vendor", VENDORS)


@contextmanager
def asking(mock: AIMock, vendor: str) -> Iterator[openai.OpenAI]:
    provider = Provider(base_url=mock.url, breaker=None, retries=0, **VENDORS[vendor])
    gateway = make_gateway(mock.url, consumers=CONSUMERS, providers={"fake": provider})
    with serve(gateway.app) as url, openai.DefaultHttpxClient(trust_env=False) as http:
        yield openai.OpenAI(base_url=f"{url}/llm/v1", api_key=KEY, http_client=http, max_retries=0)


def used(client: openai.OpenAI) -> int:
    url = str(client.base_url).removesuffix("/llm/v1/")
    with openai.DefaultHttpxClient(trust_env=False) as http:
        usage: dict[str, float] = http.get(f"{url}/api/usage", headers={"apikey": KEY}).json()
    return round(usage["used"] * 10**9)


@every
def test_a_completion_and_a_stream(aimock: AIMock, vendor: str) -> None:
    aimock.answer("hello", content="Hello there, world.", usage=USAGE)
    with asking(aimock, vendor) as client:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50)
        assert answer.choices[0].message.content == "Hello there, world."
        assert answer.choices[0].finish_reason == "stop"
        chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=50, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "Hello there, world."
        if vendor != "ollama":  # of which the mock counts nothing
            assert answer.usage is not None
            assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 2)
            assert used(client) == 2 * NANO
    if vendor == "bedrock":
        assert (aimock.last.header("authorization") or "").startswith("AWS4-HMAC-SHA256 Credential=AKIA/")
        assert aimock.last.path == "/model/fake-1/converse-stream"


@every
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called(aimock: AIMock, vendor: str, stream: bool) -> None:  # noqa: FBT001
    aimock.answer("hello", toolCalls=[{"name": "weather", "arguments": '{"city":"Bonn"}'}], usage=USAGE)
    with asking(aimock, vendor) as client:
        message: ChatCompletionMessage
        if stream:
            with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=[TOOL]) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(model=MODEL, messages=HELLO, tools=[TOOL]).choices[0].message
        assert message.tool_calls is not None
        (call,) = message.tool_calls
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bonn"})
        assert call.id


def test_bedrock_s_thoughts_are_told_apart(aimock: AIMock) -> None:
    aimock.answer("hello", content="Yes.", reasoning="Hm, let me see.", usage=USAGE)
    with asking(aimock, "bedrock") as client:
        message = client.chat.completions.create(model=MODEL, messages=HELLO).choices[0].message
        assert (message.content, getattr(message, "reasoning_content", None)) == ("Yes.", "Hm, let me see.")
        chunks = list(client.chat.completions.create(model=MODEL, messages=HELLO, stream=True))
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
        assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Hm, let me see."
        assert "".join(delta.content or "" for delta in deltas) == "Yes."


@every
def test_a_limit_of_the_provider_s_is_one_that_the_client_may_wait_for(aimock: AIMock, vendor: str) -> None:
    aimock.fail_next(429, message="Slow down", type="rate_limit_error", code="rate_limit_exceeded")
    with asking(aimock, vendor) as client:
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert used(client) == 0
