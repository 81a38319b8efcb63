"""The demo's model, asked as the router asks an upstream."""

from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from hpp_middleware.cli.echo import Echo
from hpp_middleware.core.sse import Framer
from hpp_middleware.types.http import HTTPCall

pytestmark = pytest.mark.anyio

USER = {"role": "user", "content": "one two three"}


async def ask(**body: Any) -> tuple[int, str, list[bytes]]:
    return await send(msgspec.json.encode({"model": "echo", "messages": [USER], **body}))


async def send(body: bytes) -> tuple[int, str, list[bytes]]:
    echo = Echo(pause_s=0)
    marks: list[str] = []
    call = HTTPCall(url="http://echo.invalid/chat/completions", headers=[], body=body, connect_s=1.0)
    async with aclosing(echo):
        response = await echo.send(call, provider="demo", sent=lambda: marks.append("sent"))
        assert marks == ["sent"]
        async with aclosing(response):
            pieces = []
            while piece := await response.read():
                pieces.append(piece)
            assert await response.read() == b""
    return response.status, response.headers["content-type"], pieces


async def answer(**body: Any) -> Any:
    status, content_type, pieces = await ask(**body)
    assert (status, content_type) == (200, "application/json")
    return msgspec.json.decode(b"".join(pieces))


async def chunks(**body: Any) -> list[Any]:
    status, content_type, pieces = await ask(stream=True, **body)
    assert (status, content_type) == (200, "text/event-stream")
    *events, last = [event.data for event in Framer(10**6).feed(b"".join(pieces)) if event.data is not None]
    assert last == b"[DONE]"
    return [msgspec.json.decode(event) for event in events]


async def test_it_answers_with_the_last_user_message() -> None:
    said = await answer(
        messages=[{"role": "user", "content": "first"}, USER, {"role": "assistant", "content": "an answer"}]
    )
    assert said["object"] == "chat.completion"
    assert said["model"] == "echo"
    (choice,) = said["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "one two three"},
        "finish_reason": "stop",
    }


async def test_usage_adds_up() -> None:
    usage = (await answer(messages=[{"role": "system", "content": "be an echo"}, USER]))["usage"]
    assert usage["prompt_tokens"] > usage["completion_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


async def test_n_choices_are_counted_n_times() -> None:
    one, three = await answer(), await answer(n=3)
    assert [choice["index"] for choice in three["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in three["choices"]} == {"one two three"}
    assert three["usage"]["completion_tokens"] == 3 * one["usage"]["completion_tokens"]
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_cap_cuts_the_answer(field: str) -> None:
    said = await answer(**{field: 2})
    assert said["choices"][0]["finish_reason"] == "length"
    assert "one two three".startswith(said["choices"][0]["message"]["content"])
    assert said["usage"]["completion_tokens"] == 2


async def test_a_stream_says_the_same_in_several_events() -> None:
    said = await chunks()
    assert {chunk["object"] for chunk in said} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in said}) == 1
    assert said[0]["choices"][0]["delta"]["role"] == "assistant"
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in said) == "one two three"
    assert len(said) > 4
    assert [chunk["choices"][0]["finish_reason"] for chunk in said if chunk["choices"][0]["finish_reason"]] == ["stop"]
    assert not [chunk for chunk in said if "usage" in chunk]


async def test_a_stream_tells_its_usage_where_that_is_asked_for() -> None:
    said = await chunks(stream_options={"include_usage": True}, n=2)
    assert said[-1]["choices"] == []
    assert said[-1]["usage"] == (await answer(n=2))["usage"]
    assert {choice["index"] for chunk in said for choice in chunk["choices"]} == {0, 1}


async def test_parts_of_text_are_echoed_and_others_left_out() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text"}]
    said = await answer(messages=[{"role": "user", "content": parts}])
    assert said["choices"][0]["message"]["content"] == "a"


async def test_nothing_said_is_echoed_as_nothing() -> None:
    said = await answer(messages=[{"role": "system", "content": "quiet"}])
    assert said["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": ""},
        "finish_reason": "stop",
    }
    assert said["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize(
    "text", ["  spaces  inside ", "línea\nnächste\n\n", "日本語のテキスト", "\u2028 \U0001f600\U0001f600"]
)
async def test_text_comes_back_character_for_character(text: str) -> None:
    said = await answer(messages=[{"role": "user", "content": text}])
    assert said["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"model": "echo"}',
        b'{"model": "echo", "messages": []}',
        b'{"model": "echo", "messages": "hi"}',
        b'{"model": "echo", "messages": [{"content": "no role"}]}',
        b'{"model": "echo", "messages": [{"role": "user", "content": 1}]}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "n": "2"}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "x"}], "stream": "yes"}',
        b"[" * 100_000,
    ],
)
async def test_odd_input_is_a_400_in_openais_shape(body: bytes) -> None:
    status, content_type, pieces = await send(body)
    assert (status, content_type) == (400, "application/json")
    error = msgspec.json.decode(b"".join(pieces))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["message"]


async def test_another_model_is_a_404() -> None:
    status, _, pieces = await ask(model="reverb")
    assert status == 404
    assert msgspec.json.decode(b"".join(pieces))["error"]["code"] == "model_not_found"
