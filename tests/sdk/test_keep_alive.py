"""Official SDKs read streams that say something while their provider is silent: comments, chunks and pings."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx2
import nodejs
import pytest
from background import BackgroundUpstream
from rig import KEY, MODEL, question
from rig import gateway as make_gateway

from hpp_middleware.testing import USAGE, Script
from hpp_middleware.types.streams import KeepAlive
from sdk.served import CONSUMERS, HI, Router, sdk, served

TEXTS = ("Hello", " world")
SLOW = Script(texts=TEXTS, delay_between_s=0.3)
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1}
CHUNKS: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello world"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
]
EARLY = Script(
    raw_body=b": wait\n\n: still\n\n"
    + b"".join(b"data: " + json.dumps({**HEAD, **chunk}).encode() + b"\n\n" for chunk in CHUNKS)
    + b"data: [DONE]\n\n",
    content_type="text/event-stream",
    chunk_size=18,
    delay_between_s=0.06,
)
"""Comments before the first event; where a failed start is not tried again, the client has the head by then."""

WAYS = [(kind, script, retries) for kind in ("comment", "chunk") for script, retries in ((SLOW, 1), (EARLY, 0))]
every_way = pytest.mark.parametrize(("kind", "script", "retries"), WAYS)


@contextmanager
def routed(upstream: BackgroundUpstream, kind: Any, script: Script, retries: int) -> Iterator[Router]:
    upstream.fake.script = script
    gateway = make_gateway(
        upstream.url,
        consumers=CONSUMERS,
        provider={"retries": retries},
        keep_alive=KeepAlive(after=0.05, kind=kind),
    )
    with served(upstream, gateway) as router:
        yield router


def raw(router: Router, path: str, body: dict[str, Any]) -> bytes:
    """The stream as it goes over the wire."""
    url = f"{router.url}/{path}"
    answer = httpx2.post(url, json={**body, "stream": True}, headers={"apikey": KEY}, trust_env=False, timeout=60)
    return answer.content


def said(kind: str, path: str) -> Callable[[bytes], bool]:
    """Whether a stream has what it is to say."""
    if path == "messages":
        return lambda stream: b"event: ping\n" in stream
    if path == "responses" or kind == "comment":
        return lambda stream: b": keep-alive\n\n" in stream
    return lambda stream: b'"choices":[{"index":0,"delta":{},"finish_reason":null}]}\n\n' in stream


@every_way
def test_openais_reads_chat_completions(
    background_upstream: BackgroundUpstream, kind: str, script: Script, retries: int
) -> None:
    with routed(background_upstream, kind, script, retries) as router, sdk(router) as client:
        assert said(kind, "chat")(raw(router, "chat/completions", question()))
        chunks = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
        texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        assert "".join(texts) == "Hello world"
        with client.chat.completions.stream(model=MODEL, messages=HI) as stream:
            for _ in stream:
                pass
            message = stream.get_final_completion().choices[0].message
        assert (message.role, message.content) == ("assistant", "Hello world")


@every_way
def test_openais_reads_responses(
    background_upstream: BackgroundUpstream, kind: str, script: Script, retries: int
) -> None:
    with routed(background_upstream, kind, script, retries) as router, sdk(router) as client:
        body = {"model": MODEL, "input": "Hi", "max_output_tokens": 100}
        assert said(kind, "responses")(raw(router, "responses", body))
        with client.responses.stream(model=MODEL, input="Hi") as stream:
            for _ in stream:
                pass
            assert stream.get_final_response().output_text == "Hello world"


@every_way
def test_anthropics_reads_messages(
    background_upstream: BackgroundUpstream, kind: str, script: Script, retries: int
) -> None:
    with routed(background_upstream, kind, script, retries) as router:
        assert said(kind, "messages")(raw(router, "messages", question()))
        http_client = anthropic.DefaultHttpxClient(trust_env=False)
        url = router.url.removesuffix("/llm/v1")
        with anthropic.Anthropic(base_url=url, api_key=KEY, http_client=http_client) as client:
            messages: Any = HI
            with client.messages.stream(model=MODEL, max_tokens=100, messages=messages) as stream:
                assert "".join(stream.text_stream) == "Hello world"
                assert stream.get_final_message().stop_reason == "end_turn"


@every_way
def test_those_for_node_read_chat_completions(
    background_upstream: BackgroundUpstream, kind: str, script: Script, retries: int
) -> None:
    with routed(background_upstream, kind, script, retries) as router:
        body = {"model": MODEL, "messages": HI}
        found = nodejs.run("openai_helpers.mjs", url=router.url, key=KEY, body=body)
        assert found["completion"]["choices"][0]["message"]["content"] == found["text"] == "Hello world"
        asked = {"provider": "openai-compatible", "url": router.url, "key": KEY, "model": MODEL, "prompt": "Hi"}
        assert nodejs.run("ai_sdk.mjs", **asked, stream=True)["text"] == "Hello world"
