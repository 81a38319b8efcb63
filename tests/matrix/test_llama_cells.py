"""The vendors' own SDKs before llama.cpp's own server, by each of the three APIs that it has: it counts for itself."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from llama import Llama
from servers import serve

from hpp_middleware import Gateway, MemoryStore, provider
from hpp_middleware.types.provider import Declared
from hpp_middleware.types.quota import Entry
from matrix.clients import CLIENTS
from matrix.declared import LLAMA, Real
from matrix.features import Ask, Told

NATIVE: dict[str, frozenset[str]] = {
    "chat": frozenset(),
    "responses": frozenset({"responses"}),
    "messages": frozenset({"messages"}),
}
SURE: dict[str, Any] = {"temperature": 0}
"""The same answer each time: random weights begin some others with half a character, which it tells wrongly."""
SETTINGS: dict[str, dict[str, Any]] = {
    "openai-chat": {**SURE, "max_tokens": 12, "stop": [","]},  # the SDK raises on what was cut at its cap
    "openai-responses": {**SURE, "max_output_tokens": 16},
    "anthropic": {"extra_body": SURE, "max_tokens": 12},
}


class Books:
    """The gateway's address, and its ledger."""

    def __init__(self, url: str, store: MemoryStore) -> None:
        self.url = url
        self._store = store

    def lines(self, cell: Real) -> list[Entry]:
        """Of a cell's consumer, when nothing is held any more."""
        with httpx2.Client(headers={"apikey": key(cell)}, trust_env=False) as http:
            http.get(f"{self.url}/api/usage").raise_for_status()  # waits for settlements
        return list(self._store._books.lines(cell.id))


def key(cell: Real) -> str:
    """Each cell has a consumer of its own."""
    return f"the-key-of-{cell.id}"


@pytest.fixture(scope="module")
def books(llama: Llama) -> Iterator[Books]:
    store = MemoryStore()
    price = {"input": "1", "cache_read": "0.25", "output": "2", "context": 4096}
    settings: dict[str, Any] = {"base_url": llama.url, "bytes_per_token": 1}
    gateway = Gateway(
        store=store,
        providers={name: provider("llamacpp", native_apis=apis, **settings) for name, apis in NATIVE.items()},
        models={f"{name}/{llama.model}": price for name in NATIVE},
        consumers={cell.id: Declared(quota=10**9, keys=(key(cell),)) for cell in LLAMA},
        prices=None,
    )
    with serve(gateway.app) as url:
        yield Books(url, store)


def nano(told: Told) -> int:
    """What the client was told of its tokens costs, by the test's own arithmetic."""
    assert told.counts is not None
    prompt, cached, completion, _ = (count or 0 for count in told.counts)
    quarters = 4 * (prompt - cached) + cached + 8 * completion
    return -(-quarters * 1000 // 4)


@pytest.mark.parametrize("cell", LLAMA, ids=lambda cell: cell.id)
def test_a_real_model_answers_and_is_charged_as_it_counts(books: Books, llama: Llama, cell: Real) -> None:
    model, stream = f"{cell.api}/{llama.model}", cell.feature == "stream"
    settings = SETTINGS[cell.client]
    told = CLIENTS[cell.client](Ask(books.url, key(cell), model, cell.feature, stream, "1", settings))
    assert told.text
    if stream:
        assert told.pieces > 1
    (line,) = books.lines(cell)
    assert (line.amount, line.report.outcome, line.report.estimated) == (nano(told), "completed", False)
    assert 0 < line.amount <= line.held
