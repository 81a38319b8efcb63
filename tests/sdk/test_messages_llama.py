"""Anthropic's SDK against llama.cpp's own server by way of its OpenAI API: a model that counts for itself."""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam
from llama import Llama
from rig import KEY
from servers import serve

from hpp_middleware import Gateway, MemoryStore, provider
from hpp_middleware.types.provider import Declared
from sdk.settled import lines

MODEL = "local/tiny-random"
GREEDY = {"temperature": 0}
"""Random weights, but always the same answer."""
HELLO: list[MessageParam] = [{"role": "user", "content": "Hello there, whoever you are."}]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def client(llama: Llama, store: MemoryStore) -> Iterator[anthropic.Anthropic]:
    gateway = Gateway(
        store=store,
        providers={"local": provider("llamacpp", base_url=llama.url, bytes_per_token=1)},
        models={MODEL: {"input": "1", "cache_read": "0.25", "output": "2", "context": 4096}},
        consumers={"alice": Declared(quota=10 * 10**9, keys=(KEY,))},
        prices=None,
    )
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    with (
        serve(gateway.app) as url,
        anthropic.Anthropic(base_url=url, api_key=KEY, http_client=http_client, max_retries=0) as found,
    ):
        yield found


def nano(usage: Any) -> int:
    """What a usage costs at the prices above, by the test's own arithmetic."""
    quarters = 4 * usage.input_tokens + usage.cache_read_input_tokens + 8 * usage.output_tokens
    return int(-(-quarters * 1000 // 4))


def test_a_message_and_a_stream_say_the_same_and_cost_what_they_say(
    client: anthropic.Anthropic, store: MemoryStore
) -> None:
    asks: dict[str, Any] = {
        "model": MODEL,
        "max_tokens": 12,
        "messages": HELLO,
        "system": "the of",
        "extra_body": GREEDY,
    }
    whole = client.messages.with_raw_response.create(**asks, stop_sequences=["###"])
    message = whole.parse()
    assert message.content[0].type == "text"
    assert message.usage.output_tokens <= 12
    with client.messages.stream(**asks) as stream:
        again = stream.get_final_message()
    assert again.stop_reason == message.stop_reason == "max_tokens"
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == (
        again.usage.input_tokens + (again.usage.cache_read_input_tokens or 0)
    )
    assert [line.amount for line in lines(store)] == [nano(message.usage), nano(again.usage)]
    assert all(line.amount <= line.held and not line.report.estimated for line in lines(store))


def test_a_schema_is_kept_by_the_server(client: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"rain": {"type": "boolean"}, "sky": {"enum": ["blue", "grey"]}},
        "required": ["rain", "sky"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model=MODEL,
        max_tokens=200,
        messages=HELLO,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert message.stop_reason == "end_turn"
    (block,) = message.content
    assert block.type == "text"
    assert '"rain"' in block.text


def test_a_history_of_calls_and_results_is_taken(client: anthropic.Anthropic, store: MemoryStore) -> None:
    schema = {"type": "object", "properties": {"rain": {"type": "boolean"}}, "required": ["rain"]}
    tools: Any = [{"name": "tell", "description": "Tell.", "input_schema": schema}]
    called: list[Any] = [
        {"type": "thinking", "thinking": "hello", "signature": ""},
        {"type": "text", "text": "the world"},
        {"type": "tool_use", "id": "t1", "name": "tell", "input": {"rain": True}},
    ]
    result: Any = {"type": "tool_result", "tool_use_id": "t1", "is_error": True, "content": "a world"}
    history: list[MessageParam] = [
        *HELLO,
        {"role": "assistant", "content": called},
        {"role": "user", "content": [result, {"type": "text", "text": "and"}]},
    ]
    message = client.messages.create(model=MODEL, max_tokens=8, messages=history, tools=tools, extra_body=GREEDY)
    assert message.usage.output_tokens <= 8
    assert [line.amount for line in lines(store)] == [nano(message.usage)]


def test_what_the_server_refuses_is_told_and_costs_nothing(client: anthropic.Anthropic, store: MemoryStore) -> None:
    with pytest.raises(anthropic.BadRequestError) as raised:
        client.messages.create(model=MODEL, max_tokens=8, messages=[{"role": "user", "content": "x" * 9000}])
    body: Any = raised.value.body
    assert "exceeds the available context size" in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"
    assert [line.amount for line in lines(store)] == [0]


def test_tokens_are_counted_at_least_roughly(client: anthropic.Anthropic, store: MemoryStore) -> None:
    count = client.messages.count_tokens(model=MODEL, messages=HELLO)
    assert count.input_tokens >= len("Hello there, whoever you are.") // 4
    assert lines(store) == []
