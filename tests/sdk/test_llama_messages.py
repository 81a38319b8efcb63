"""llama.cpp's own Messages API as an upstream: an implementation that nobody here wrote, and that counts for itself."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from llama import Llama
from msgspec import Raw
from servers import serve

from hpp_middleware import Gateway, MemoryStore, Provider, provider
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Declared, Limits, Model
from sdk.settled import lines

KEY = "alice-shows-this-key-of-hers"
MODEL = "local/tiny-random"
HELLO: Any = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "1"}]
SECONDS = 60
SURE: Any = {"temperature": 0}
"""The same answer each time: this server leaves ``message_start`` out where half a character comes first."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def client(llama: Llama, store: MemoryStore) -> Iterator[openai.OpenAI]:
    """OpenAI's SDK before a gateway that speaks Messages to the server."""
    local = Provider(base_url=llama.url.removesuffix("/v1"), dialect="anthropic", bytes_per_token=1)
    gateway = Gateway(
        store=store,
        providers={"local": local},
        models={MODEL: {"input": "1", "cache_read": "0.25", "output": "2", "context": 4096}},
        consumers={"alice": Declared(quota=10 * 10**9, keys=(KEY,))},
        limits=Limits(default_cap=48),
        prices=None,
    )
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with (
        serve(gateway.app) as url,
        openai.OpenAI(base_url=f"{url}/llm/v1", api_key=KEY, http_client=http_client, max_retries=0) as found,
    ):
        yield found


def nano(usage: Any) -> int:
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details is not None else 0
    quarters = 4 * (usage.prompt_tokens - (cached or 0)) + (cached or 0) + 8 * usage.completion_tokens
    return int(-(-quarters * 1000 // 4))


def test_a_completion_and_a_stream_are_charged_as_the_server_counts(client: openai.OpenAI, store: MemoryStore) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, **SURE)
    assert whole.usage is not None
    assert 0 < whole.usage.completion_tokens <= 12
    assert whole.usage.prompt_tokens > 10
    assert whole.choices[0].finish_reason in {"length", "stop"}
    assert whole.choices[0].message.content
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=12, stream=True, stream_options=options, **SURE
        )
    )
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert {chunk.model for chunk in chunks} == {MODEL}
    found = lines(store)
    assert [line.amount for line in found] == [nano(whole.usage), nano(usage)]
    assert not any(line.report.estimated for line in found)
    assert all(line.amount <= line.held for line in found)


def test_what_the_server_refuses_is_refused_in_our_shape(client: openai.OpenAI, store: MemoryStore) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 9000}])
    assert "context" in str(raised.value)
    assert lines(store)[0].amount == 0


def target(llama: Llama) -> Target:
    return Target(
        id=MODEL,
        provider_name="local",
        model_name="tiny-random",
        provider=provider("llamacpp", base_url=llama.url, native_apis={"messages"}),
        model=Model(),
        price=Price(base=Rates(input=1, output=2)),
    )


def native(llama: Llama, **fields: Any) -> tuple[Any, Request, Target, httpx2.Response]:
    """What the server answers to a request in its own words."""
    found = target(llama)
    body = {
        "model": MODEL,
        "max_tokens": 12,
        "messages": [{"role": "user", "content": "1"}],
        **SURE,
        **fields,
    }
    members = {name: Raw(json.dumps(value).encode()) for name, value in body.items()}
    asked = Request(fields=members, model=MODEL, api="messages", stream=bool(fields.get("stream")), cap=12)
    dialect = OpenAI().native("messages", found.provider)
    call = dialect.call(asked, found, cap=None, request_id="req_1")
    assert call.url == f"{llama.url}/messages"
    with httpx2.Client(trust_env=False, timeout=SECONDS) as http:
        answered = http.post(call.url, headers=call.headers, content=call.body)
    assert answered.status_code == 200, answered.text
    return dialect, asked, found, answered


def test_a_message_is_passed_on_but_for_its_model(llama: Llama) -> None:
    dialect, asked, found, answered = native(llama)
    out, seen = dialect.answer(answered.content, asked, found)
    ours = anthropic.types.Message.model_validate_json(out)
    assert json.loads(out) == {**answered.json(), "model": MODEL}
    assert seen.usage is not None
    assert seen.usage.completion == ours.usage.output_tokens > 0
    assert seen.usage.prompt == ours.usage.input_tokens + (ours.usage.cache_read_input_tokens or 0)


def test_a_stream_of_events_is_passed_on_and_read_by_the_vendors_client(llama: Llama) -> None:
    dialect, asked, found, answered = native(llama, stream=True)
    reader = dialect.stream(asked, found, event_bytes=1 << 20, cap=12)
    out = b"".join(reader.feed(answered.content[n : n + 1]) for n in range(len(answered.content))) + reader.close()
    assert (reader.done, reader.cut, reader.seen.finished) == (True, False, True)

    def give(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=out, headers={"content-type": "text/event-stream"})

    http = httpx2.Client(transport=httpx2.MockTransport(give))
    vendor = anthropic.Anthropic(api_key="k", base_url="http://127.0.0.1:9", http_client=http)
    with vendor.messages.stream(model="m", max_tokens=12, messages=[{"role": "user", "content": "Hi"}]) as stream:
        final = stream.get_final_message()
    assert final.model == MODEL
    assert reader.seen.usage is not None
    assert reader.seen.usage.completion == final.usage.output_tokens > 0
    assert not reader.seen.usage_early
