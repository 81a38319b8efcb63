"""Vercel's AI SDK, with its provider for OpenAI-compatible APIs: a client whose parser is not OpenAI's."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import nodejs
import pytest
from aimock import AIMock
from rig import KEY, MODEL
from rig import gateway as make_gateway
from servers import serve

from hpp_middleware.testing import Script
from sdk.served import POOR_KEY, Router

TOOL = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "result": "Wet",
}
CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Ulm"}}
ONCE = {"maxRetries": 0}


def ask(url: str, prompt: str = "Hi", *, key: str = KEY, **fields: Any) -> Any:
    question = {"provider": "openai-compatible", "url": url, "key": key, "model": MODEL, "prompt": prompt, **fields}
    return nodejs.run("ai_sdk.mjs", **question)


@pytest.fixture
def mocked(aimock: AIMock) -> Iterator[Callable[..., Any]]:
    """The SDK at a router before the protocol mock."""
    with serve(make_gateway(f"{aimock.url}/v1").app) as url:
        yield lambda prompt, **fields: ask(f"{url}/llm/v1", prompt, **fields)


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_comes_with_its_usage(router: Router, *, stream: bool) -> None:
    found = ask(router.url, stream=stream)
    assert (found["text"], found["finishReason"], found["steps"]) == ("Hello world", "stop", ["stop"])
    assert (found["usage"]["inputTokens"], found["usage"]["outputTokens"]) == (9, 2)
    sent = router.upstream.last.json()
    assert sent["model"] == "fake-1"
    assert sent.get("stream_options") == ({"include_usage": True} if stream else None)


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_reaches_the_model(
    mocked: Callable[..., Any], aimock: AIMock, *, stream: bool
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    aimock.answer("umbrella", match={"hasToolResult": False}, toolCalls=[CALL], usage=usage)
    aimock.answer("umbrella", match={"hasToolResult": True}, content="Take one.", usage=usage)
    found = mocked("Do I need an umbrella?", stream=stream, tools=[TOOL])
    assert found["called"] == [{"name": "weather", "input": {"city": "Ulm"}}]
    assert (found["text"], found["steps"]) == ("Take one.", ["tool-calls", "stop"])
    first, second = [came.json() for came in aimock.received]
    assert first["tools"][0]["function"]["name"] == "weather"
    assert second["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "Wet"}


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_passes_through(mocked: Callable[..., Any], aimock: AIMock, *, stream: bool) -> None:
    aimock.answer("think", content="Hello world", reasoning="Let me think")
    found = mocked("think", stream=stream)
    assert (found["reasoning"], found["text"]) == ("Let me think", "Hello world")


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_is_an_error_with_our_words(router: Router, *, stream: bool) -> None:
    error = ask(router.url, key="nobody-shows-this-key-of-his", stream=stream)["error"]
    assert (error["statusCode"], error["isRetryable"], error["message"]) == (401, False, "Invalid API key")
    assert router.requests == 1


def test_no_money_is_an_error_with_our_words(router: Router) -> None:
    # The SDK holds every 429 for one that passes, whatever x-should-retry says: by default it asks three times.
    error = ask(router.url, key=POOR_KEY, settings=ONCE)["error"]
    assert (error["statusCode"], error["isRetryable"]) == (429, True)
    assert json.loads(error["responseBody"])["error"]["code"] == "insufficient_quota"
    assert router.upstream.log == []


def test_what_may_pass_is_tried_again_and_then_succeeds(router: Router) -> None:
    router.upstream.next(Script(status=503, headers=[("retry-after", "0.01")]))
    assert ask(router.url)["text"] == "Hello world"
    assert [exchange.status for exchange in router.upstream.log] == [503, 200]
