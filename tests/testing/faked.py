"""Asking a fake upstream, and what came of it."""

import json
import re
from typing import Any

import anyio
import httpx2

from hpp_middleware.testing import FakeUpstream

Body = dict[str, Any]

ASK: Body = {"model": "fake-1", "messages": [{"role": "user", "content": "Hi"}]}
STREAM: Body = {**ASK, "stream": True, "stream_options": {"include_usage": True}}


def client_of(fake_upstream: FakeUpstream) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=fake_upstream.url, trust_env=False, timeout=30)


def events(text: bytes) -> list[Any]:
    """The data of each event; ``[DONE]`` as it is."""
    assert text.endswith(b"\n\n")
    data = [event.removeprefix(b"data: ") for event in text.removesuffix(b"\n\n").split(b"\n\n")]
    return ["[DONE]" if item == b"[DONE]" else json.loads(item) for item in data]


async def post(client: httpx2.AsyncClient, body: Body = ASK) -> httpx2.Response:
    return await client.post("/chat/completions", json=body)


def nameless(body: bytes) -> bytes:
    """A body without what tells two completions apart: their numbers, and the second they were made in."""
    return re.sub(rb'"created":\d+', b'"created":0', re.sub(rb"fake-\d", b"fake-0", body))


async def broken(client: httpx2.AsyncClient, body: Body = STREAM) -> tuple[bytes, httpx2.TransportError]:
    """What came of a response before it broke off, and how it broke."""
    read = b""
    try:
        async with client.stream("POST", "/chat/completions", json=body) as response:
            async for piece in response.aiter_raw():
                read += piece
    except httpx2.TransportError as error:
        return read, error
    raise AssertionError("the response came to its end")


async def leave(client: httpx2.AsyncClient, body: Body, *, after: int) -> int:
    """Leave after at least so many bytes: by cancellation, in which httpx2 closes its inner generators too."""
    read = 0
    with anyio.CancelScope() as scope:
        async with client.stream("POST", "/chat/completions", json=body) as response:
            async for piece in response.aiter_raw():
                read += len(piece)
                if read >= after:
                    scope.cancel()
    return read
