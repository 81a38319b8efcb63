"""Vercel's AI SDK with its provider for OpenAI, which asks for Responses: a parser that is not OpenAI's own."""

from collections.abc import Callable, Iterator
from typing import Any

import nodejs
import pytest
from aimock import AIMock
from rig import KEY, MODEL
from rig import gateway as make_gateway
from servers import serve

from hpp_middleware.testing import Script
from sdk.served import Router

TOOL = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "result": "Wet",
}
ONCE = {"maxRetries": 0}
CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Ulm"}}


def ask(url: str, prompt: str = "Hi", **fields: Any) -> Any:
    question = {"url": url, "key": KEY, "model": MODEL, "prompt": prompt, "settings": ONCE}
    return nodejs.run("ai_sdk.mjs", provider="openai", **{**question, **fields})


@pytest.fixture(params=["chat", "responses"])
def mocked(aimock: AIMock, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """The SDK at a router before the protocol mock, which has both APIs."""
    gateway = make_gateway(f"{aimock.url}/v1", provider={"native_apis": frozenset({request.param})})
    with serve(gateway.app) as url:
        yield lambda prompt, **fields: ask(f"{url}/v1", prompt, **fields)


@pytest.mark.parametrize("stream", [False, True])
def test_a_text_comes_with_its_usage(router: Router, *, stream: bool) -> None:
    found = ask(router.url, stream=stream)
    assert (found["text"], found["finishReason"]) == ("Hello world", "stop")
    assert (found["usage"]["inputTokens"], found["usage"]["outputTokens"]) == (9, 2)


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


def test_a_stream_that_breaks_off_is_an_error(router: Router) -> None:
    router.upstream.next(Script(truncate_after_events=3))
    assert "broke" in ask(router.url, stream=True)["error"]["message"]
