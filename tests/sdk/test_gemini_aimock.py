"""Gemini and Vertex as a mock speaks them that nobody here wrote, through the router, by OpenAI's SDK."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from aimock import AIMock
from background import BackgroundUpstream
from rig import CANARY
from rig import gateway as make_gateway

from hpp_middleware import Provider
from sdk.served import CONSUMERS, sdk, served

MODEL = "fake/gemini-2.5-pro"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7}
CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Ulm"}}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def asks(text: str) -> Any:
    return [{"role": "user", "content": text}]


@contextmanager
def routed(upstream: BackgroundUpstream, provider: Provider) -> Iterator[openai.OpenAI]:
    found = make_gateway(
        upstream.url,
        providers={"fake": provider},
        models={MODEL: {"input": "1", "output": "2"}},
        consumers=CONSUMERS,
        cost_in="usage",
    )
    with served(upstream, found) as router, sdk(router, max_retries=0) as client:
        yield client


@pytest.fixture(params=["gemini", "vertex"])
def client(
    request: pytest.FixtureRequest, background_upstream: BackgroundUpstream, aimock: AIMock
) -> Iterator[openai.OpenAI]:
    aimock.answer("hello", content="Hello world", usage=USAGE)
    aimock.answer("weather", match={"hasToolResult": False}, toolCalls=[CALL], usage=USAGE)
    aimock.answer("weather", match={"hasToolResult": True}, content="Rain.", usage=USAGE)
    if request.param == "gemini":
        provider = Provider(base_url=f"{aimock.url}/v1beta", api_key=CANARY, dialect="gemini", breaker=None, retries=0)
    else:
        options = {"project": "p", "location": "l"}
        provider = Provider(
            base_url=f"{aimock.url}/v1", api_key=CANARY, dialect="vertex", options=options, breaker=None, retries=0
        )
    with routed(background_upstream, provider) as found:
        yield found


def test_it_answers_and_streams_and_is_billed(client: openai.OpenAI, aimock: AIMock) -> None:
    found = client.chat.completions.create(model=MODEL, messages=asks("hello"))
    assert found.choices[0].message.content == "Hello world"
    assert found.usage is not None
    assert found.usage.model_extra is not None
    assert found.usage.model_extra["cost"] == 0.000025
    stream = client.chat.completions.create(model=MODEL, messages=asks("hello"), stream=True)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello world"
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.model_extra is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.model_extra["cost"]) == (11, 7, 0.000025)
    assert {came.header("x-goog-api-key") for came in aimock.received} == {CANARY}


def test_it_calls_a_tool_and_takes_the_result(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=MODEL, messages=asks("weather"), tools=[TOOL]).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.tool_calls is not None
    (call,) = first.message.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "wet"}
    turns = [*asks("weather"), first.message.model_dump(exclude_none=True), result]
    second = client.chat.completions.create(model=MODEL, messages=turns, tools=[TOOL])
    assert second.choices[0].message.content == "Rain."


def test_an_error_is_told_in_openai_s_words(client: openai.OpenAI, aimock: AIMock) -> None:
    aimock.fail_next(429, message="Slow down", type="RESOURCE_EXHAUSTED")
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model=MODEL, messages=asks("hello"))
