"""An agent's requests through the router to llama.cpp's own Messages API, which takes them as they are."""

from collections.abc import Iterator
from typing import Any

import anthropic
import anyio
import pytest
from llama import Llama
from rig import ALICE, KEY
from servers import serve

from hpp_middleware import Gateway, MemoryStore, provider
from hpp_middleware.types.provider import Declared
from hpp_middleware.types.quota import Entry

MODEL = "local/tiny-random"
CLEARING: Any = {"edits": [{"type": "clear_tool_uses_20250919"}]}
THOUGHT = {"type": "thinking", "thinking": "hello", "signature": ""}
ASK: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 12,
    "system": [{"type": "text", "text": "the of", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
    "messages": [
        {"role": "user", "content": "Hello there, whoever you are."},
        {"role": "assistant", "content": [THOUGHT, {"type": "text", "text": "the world"}]},
        {"role": "user", "content": "and"},
    ],
    "metadata": {"user_id": "u" * 150},
    "context_management": CLEARING,
    "betas": ["context-management-2025-06-27", "interleaved-thinking-2025-05-14"],
    "extra_body": {"temperature": 0},
}


@pytest.fixture
def gateway(llama: Llama) -> Gateway:
    return Gateway(
        store=MemoryStore(),
        providers={
            "local": provider("llamacpp", base_url=llama.url, bytes_per_token=1, native_apis=frozenset({"messages"}))
        },
        models={MODEL: {"input": "1", "cache_read": "0.25", "output": "2", "context": 4096}},
        consumers={"alice": Declared(quota=10 * 10**9, keys=(KEY,))},
        prices=None,
    )


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    with (
        serve(gateway.app) as url,
        anthropic.Anthropic(base_url=url, api_key=KEY, http_client=http_client, max_retries=0) as found,
    ):
        yield found


async def lines(gateway: Gateway) -> list[Entry]:
    while (await gateway.store.balance("alice")).held:  # noqa: ASYNC110  # the server's event loop is another one
        await anyio.sleep(0.01)
    return list(await gateway.store.lines("alice"))


def nano(usage: Any) -> int:
    """What a usage costs at the prices above, by the test's own arithmetic."""
    return int(usage.input_tokens * 1000 + (usage.cache_read_input_tokens or 0) * 250 + usage.output_tokens * 2000)


@pytest.mark.anyio
async def test_a_message_and_a_stream_cost_what_the_server_counts(
    client: anthropic.Anthropic, gateway: Gateway
) -> None:
    raw = client.beta.messages.with_raw_response.create(**ASK)
    message = raw.parse()
    assert set(raw.headers["x-hpp-router-dropped-fields"].split(", ")) == {"betas", "context_management"}
    assert (message.model, message.stop_reason) == (MODEL, "max_tokens")
    with client.beta.messages.stream(**ASK) as stream:
        again = stream.get_final_message()
    assert (again.model, again.stop_reason) == (MODEL, "max_tokens")
    found = await lines(gateway)
    assert [line.amount for line in found] == [nano(message.usage), nano(again.usage)]
    assert all(line.amount <= line.held and not line.report.estimated for line in found)


@pytest.mark.anyio
async def test_a_client_that_leaves_in_mid_stream_leaves_nothing_held(
    client: anthropic.Anthropic, gateway: Gateway
) -> None:
    with client.beta.messages.stream(**{**ASK, "max_tokens": 3_000}) as stream:
        next(event for event in stream if event.type == "content_block_delta")
    with anyio.fail_after(30):
        while not await lines(gateway):  # noqa: ASYNC110  # the server's event loop is another one
            await anyio.sleep(0.01)
    assert (await gateway.balance(ALICE)).held == 0
    (line,) = await lines(gateway)
    assert 0 < line.amount <= line.held


def test_the_tool_runner_s_calls_go_round(client: anthropic.Anthropic) -> None:
    """Random weights call nothing, but the server is handed the tools, and the runner's thread is given up."""

    @anthropic.beta_tool
    def tell(rain: str) -> str:
        """
        Tell.

        Args:
            rain: Whether it rains.
        """
        return rain

    asks = {name: ASK[name] for name in ("model", "max_tokens", "messages")}
    last = client.beta.messages.tool_runner(**asks, tools=[tell]).until_done()
    assert last.usage.output_tokens <= 12


def test_tokens_are_counted_by_the_server(client: anthropic.Anthropic) -> None:
    found = client.messages.count_tokens(model=MODEL, messages=ASK["messages"])
    assert found.input_tokens > 10
    assert not getattr(found, "estimated", False)
