"""Bytes that an upstream or a client chose with care."""

import json
from pathlib import Path

import pytest
from rig import ALICE, USAGE_NANO, check_books, gateway, question, read_chat

from hpp_middleware.core import parse, sse
from hpp_middleware.errors import RequestError
from hpp_middleware.stores.sqlite import SQLiteStore
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.script import Script
from hpp_middleware.types.provider import Limits

GOOD = b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}'
BROKEN = b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"note":"\xff"}'
END = b"\n\ndata: [DONE]\n\n"


def answer(content: bytes, usage: bytes, *, stream: bool) -> bytes:
    if not stream:
        return b'{"choices":[{"message":{"content":"%s"},"finish_reason":"stop"}],%s}' % (content, usage)
    return (
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":"stop"}],%s}' % (content, usage) + END
    )


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("content", "usage"), [(b"cut \xc3", GOOD), (b"whole", BROKEN), (b"\xff", BROKEN)])
async def test_what_is_no_utf_8_is_passed_on_and_charged_by_its_usage(
    content: bytes,
    usage: bytes,
    stream: bool,  # noqa: FBT001  # a parameter of the test
    tmp_path: Path,
) -> None:
    async with FakeUpstream() as upstream:
        media_type = "text/event-stream" if stream else "application/json"
        upstream.script = Script(raw_body=answer(content, usage, stream=stream), content_type=media_type)
        async with gateway(upstream, store=SQLiteStore(tmp_path / "books.db")) as found:
            status, body = await read_chat(found, stream=stream)
            assert (status, content in body) == (200, True)
            (line,) = await check_books(found)
    assert (line.amount, line.report.outcome, line.report.estimated) == (USAGE_NANO, "completed", False)


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b'{"\xff":1}', b'{"choices":[],"\xff":1}', b'{"error":{"message":"\xff"}}'])
@pytest.mark.parametrize("status", [200, 400])
async def test_a_broken_body_is_the_providers_fault_and_not_ours(body: bytes, status: int) -> None:
    async with FakeUpstream() as upstream:
        upstream.script = Script(raw_body=body, status=status, content_type="application/json")
        async with gateway(upstream) as found:
            told, text = await read_chat(found)
            assert told == (502 if status == 200 else 400)
            assert json.loads(text)["error"]["provider"] == "fake"
            await check_books(found)


def test_a_line_in_many_pieces_is_joined_once() -> None:
    framer = sse.Framer(1 << 20)
    pieces = [b"data: ", *[b"x"] * 200_000, b"\n\n"]  # 20 GB of copying, where each piece is added to those before it
    events = [event for piece in pieces for event in framer.feed(piece)]
    assert events == [sse.Event(b"x" * 200_000)]
    assert not framer.pending


@pytest.mark.parametrize(
    "part",
    [
        rb'{"type":"file","file":{"file_id":"file-1"}}',
        rb'{"type":"file","file":{"file\u005fid":"file-1"}}',
        rb'{"type":"file","file":{"\u0066ile_id":"file-1"}}',
        rb'{"type":"file_url","file_url":{"url":"https:\/\/example.org\/x"}}',
        rb'{"type":"video_url","video_url":{"url":"https\u003a//example.org/x"}}',
        rb'{"t\u0079pe":"video_\u0075rl","video_url":{"url":"https:\/\u002fexample.org/x"}}',
    ],
)
def test_no_escape_hides_what_is_only_referred_to(part: bytes) -> None:
    body = b'{"model":"a/b","messages":[{"role":"user","content":[%s]}]}' % part
    with pytest.raises(RequestError, match="inline"):
        parse.completion(body, Limits())


@pytest.mark.anyio
@pytest.mark.parametrize(
    "extra",
    [
        rb'"tools":[{"type":"function","cache\u005fcontrol":{"type":"ephemeral","ttl":"1h"}}]',
        rb'"tools":[{"type":"function","cache_control":{"type":"ephemeral","ttl":"\u0031h"}}]',
        rb'"cache_control":{"type":"ephemeral","ttl":"\u0031\u0068"}',
        rb'"cache_control":{"type":"ephemeral","ttl":"1h"}',
    ],
)
async def test_no_escape_hides_the_dearer_cache(extra: bytes) -> None:
    async with FakeUpstream() as upstream, gateway(upstream) as found:
        body = json.dumps(question()).encode()[:-1] + b"," + extra + b"}"
        with pytest.raises(RequestError, match="1h"):
            await found.complete(ALICE, body)
        assert upstream.log == []


def test_a_number_that_cannot_be_read_is_refused_where_an_escape_is_undone() -> None:
    part = rb'{"type":"file","x":"\u0041","y":1e99999}'
    body = b'{"model":"a/b","messages":[{"role":"user","content":[%s]}]}' % part
    with pytest.raises(RequestError):
        parse.completion(body, Limits())
