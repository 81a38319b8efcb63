"""What is read in one step: which requests are, and which of them are plain."""

from typing import Any

import pytest
from parsing import HELLO, LIMITS, accepted, body

from hpp_middleware.core import body as bodies
from hpp_middleware.core import parse, usual
from hpp_middleware.types.completion import Images, Request

PNG = "data:image/png;base64,AAAA"


def at_once(data: bytes, *, plain: bool = False) -> Request | None:
    return usual.request(data, bodies.members(data, LIMITS), LIMITS, plain=plain)


def said(*parts: dict[str, Any], **more: Any) -> bytes:
    return body(messages=[{"role": "user", "content": list(parts), **more}])


def picture(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    "data",
    [
        body(),
        body(messages=[{"role": "user", "content": "hi", "name": "x"}]),
        body(max_tokens=5, temperature=0.5, stream=True, stream_options={"include_usage": True}),
        body(response_format={"type": "json_object"}, metadata={"cache_control": "1h"}),
        said({"type": "text", "text": "hi"}, picture(PNG, detail="low")),
        said(picture("https://example.com/a.png")),
    ],
)
def test_text_and_images_in_the_usual_fields_are_plain(data: bytes) -> None:
    found = accepted(data)
    assert found.plain is found.fields


@pytest.mark.parametrize(
    "data",
    [
        body(tools=[]),
        body(x=1),
        body(reasoning_effort="low"),
        body(models=["p/m"]),
        body(messages=[{"role": "user", "content": "hi", "cache_control": {"ttl": "1h"}}]),
        body(messages=[*HELLO, {"role": "assistant", "content": "hi", "tool_calls": []}]),
        said({"type": "text", "text": "hi", "cache_control": {"ttl": "1h"}}),
        said({"type": "text", "text": "hi", "image_url": {"url": "data:application/pdf;base64,AAAA"}}),
        said({"type": "file", "file": {"file_data": PNG}}),
        said({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        said(picture("data:application/pdf;base64,AAAA")),
        said(picture(PNG, file_data="data:application/pdf;base64,AAAA")),
    ],
)
def test_nothing_else_is(data: bytes) -> None:
    assert accepted(data).plain is None


@pytest.mark.parametrize(
    "message",
    [
        '{"role":"user","content":[{"type":"image_url","image_url":{"url":"URL"}}],"content":"hi"}',
        '{"role":"user","content":[{"type":"image_url","image_url":{"url":"URL"},"image_url":{"url":"https://x"}}]}',
        '{"role":"user","content":[{"type":"image_url","image_url":{"url":"URL","url":"https://x"}}]}',
        '{"role":"user","content":[{"type":"image_url","type":"text","image_url":{"url":"URL"},"image_url":null}]}',
    ],
)
@pytest.mark.parametrize("size", [10, 20_000])
def test_what_is_given_twice_is_plain_only_where_both_are(message: str, size: int) -> None:
    for kind, plain in (("application/pdf", False), ("image/png", True)):
        url = f"data:{kind};base64,{'A' * size}"
        found = accepted(f'{{"model":"p/m","messages":[{message.replace("URL", url)}]}}'.encode())
        assert (found.plain is found.fields) is plain


def test_an_escaped_image_is_as_plain_as_it_says_and_no_longer() -> None:
    data = "A/B" * 10_000
    text = said(picture(f"data:image/png;base64,{data}")).decode().replace("/", "\\/").replace("p\\/m", "p/m")
    found = accepted(text.encode())
    assert found.plain is found.fields
    assert found.images == Images(1, len(f"data:image/png;base64,{data}"))


@pytest.mark.parametrize("escaped", [b"\x7f", b"\\u007f", b"\\u007F"])
def test_no_client_says_itself_how_long_what_was_left_out_is(escaped: bytes) -> None:
    data = said(picture(PNG + "A" * 100_000), picture(PNG + "\x7f1000000")).replace(b"\\u007f", escaped)
    assert accepted(data).images.inline_bytes < len(data) < 1_000_000


def test_what_is_wrong_or_unusual_is_left_to_be_looked_at() -> None:
    for data in (
        body(model="a b"),
        body(n=LIMITS.n + 1),
        body(n=0),
        body(max_tokens=LIMITS.max_tokens + 1),
        body(max_tokens=5, max_completion_tokens=0),
        body(messages=[]),
        body(messages=[{"role": "assistant", "content": None}]),
        body(stream_options=1),
        said(picture("http://example.com/a.png")),
    ):
        assert at_once(data) is None
        assert at_once(data, plain=True) is None


def test_what_the_router_acts_on_is_read() -> None:
    data = body(stream=True, stream_options={"include_usage": True}, n=2, max_tokens=5, max_completion_tokens=7)
    found = at_once(data, plain=True)
    assert found is not None
    assert (found.model, found.stream, found.include_usage, found.n, found.cap) == ("p/m", True, True, 2, 7)
    assert (found.images, found.audio_input, found.plain) == (Images(), False, found.fields)


def test_every_plain_field_is_one_that_needs_no_look_and_asks_for_nothing_special() -> None:
    special = {"tools", "modalities", "audio", "models", "provider", "reasoning", "reasoning_effort"}
    assert parse._NEED_NO_LOOK - special == usual.PLAIN
