"""OpenAI's official SDK for Node: another client than Python's, with a parser and retries of its own."""

from typing import Any

import nodejs
from aimock import AIMock
from background import BackgroundUpstream
from rig import KEY, MODEL
from rig import gateway as make_gateway
from servers import serve

from hpp_middleware.testing import USAGE, Script
from hpp_middleware.testing.script import error_body
from sdk.served import HI, POOR_KEY, Router

TOOL = {
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "result": "Wet",
}


def chat(router: Router, key: str = KEY, *, settings: dict[str, Any] | None = None, **body: Any) -> Any:
    body = {"model": MODEL, "messages": HI, **body}
    return nodejs.run("openai_chat.mjs", url=router.url, key=key, body=body, settings=settings or {})


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def test_a_completion_reads_as_openais(router: Router) -> None:
    found = chat(router)
    completion = found["completion"]
    assert completion["choices"][0]["message"]["content"] == "Hello world"
    assert (completion["model"], completion["usage"]) == (MODEL, USAGE)
    assert found["request_id"] is not None


def test_a_stream_reads_as_openais_and_has_a_usage_where_it_is_asked_for(router: Router) -> None:
    plain = chat(router, stream=True)
    assert text_of(plain["chunks"]) == "Hello world"
    assert not any(chunk.get("usage") for chunk in plain["chunks"])
    *chunks, last = chat(router, stream=True, stream_options={"include_usage": True})["chunks"]
    assert text_of(chunks) == "Hello world"
    assert (last["choices"], last["usage"]) == ([], USAGE)


def test_the_stream_helper_puts_a_completion_together(router: Router) -> None:
    found = nodejs.run("openai_helpers.mjs", url=router.url, key=KEY, body={"model": MODEL, "messages": HI})
    assert found["completion"]["choices"][0]["message"]["content"] == found["text"] == "Hello world"


def test_the_tool_runner_calls_a_tool_and_hands_its_result_to_the_model(aimock: AIMock) -> None:
    call = {"id": "call_1", "name": "weather", "arguments": {"city": "Ulm"}}
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    aimock.answer("umbrella", match={"hasToolResult": False}, toolCalls=[call], usage=usage)
    aimock.answer("umbrella", match={"hasToolResult": True}, content="Take one.", usage=usage)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Do I need an umbrella?"}],
        "stream_options": {"include_usage": True},
    }
    with serve(make_gateway(f"{aimock.url}/v1").app) as url:
        found = nodejs.run("openai_helpers.mjs", url=f"{url}/llm/v1", key=KEY, body=body, tools=[TOOL])
    assert found["called"] == [{"name": "weather", "input": {"city": "Ulm"}}]
    assert found["completion"]["choices"][0]["message"]["content"] == "Take one."
    assert found["usage"]["total_tokens"] == 2 * 11
    assert aimock.last.json()["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "Wet"}


def test_a_wrong_key_is_an_authentication_error(router: Router) -> None:
    error = chat(router, "nobody-shows-this-key-of-his")["error"]
    assert (error["status"], error["code"], error["message"]) == (401, "unauthorized", "401 Invalid API key")
    assert error["requestID"] is not None
    assert router.requests == 1


def test_no_money_is_a_rate_limit_error_that_is_not_tried_again(router: Router) -> None:
    error = chat(router, POOR_KEY)["error"]
    assert (error["status"], error["code"], error["type"]) == (429, "insufficient_quota", "insufficient_quota")
    assert router.requests == 1
    assert router.upstream.log == []


def test_what_may_pass_is_tried_again_and_then_succeeds(router: Router) -> None:
    router.upstream.next(Script(status=429, headers=[("retry-after", "0.01")]))
    assert chat(router)["completion"]["choices"][0]["message"]["content"] == "Hello world"
    assert [exchange.status for exchange in router.upstream.log] == [429, 200]


def test_a_stream_that_fails_in_the_middle_raises_after_what_came_before(
    router: Router, background_upstream: BackgroundUpstream
) -> None:
    background_upstream.next(Script(error_event=error_body(500)))
    found = chat(router, stream=True)
    assert text_of(found["chunks"]) == "Hello world"
    assert found["error"]["body"]["provider"] == "fake"
    assert router.requests == 1
