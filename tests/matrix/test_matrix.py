"""Every client before every dialect: it does what it is asked, and is charged what was reported, to the nano-dollar."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from servers import serve

from hpp_middleware import Gateway, MemoryStore, Provider
from hpp_middleware.types.provider import Declared, Timeouts
from hpp_middleware.types.quota import Entry
from matrix import declared, nodes
from matrix.clients import CLIENTS, llm_models
from matrix.declared import CELLS, NO, NO_BEFORE, Cell
from matrix.features import ARGUMENTS, CITY, Ask, Counts, Told
from matrix.vendors import VENDORS, Provided, Vendors

PRICE = {"input": "1", "cache_read": "0.25", "output": "2", "reasoning": "3"}
PROMPTS = {"reasoning": "Think! What follows?", "structured": "A city, please.", "vision": "What is it?"}
WHOLE, STREAM = (False,), (True,)
BOTH = (False, True)
WAYS = {"json": WHOLE, "stream": STREAM, "tools": BOTH, "vision": WHOLE, "reasoning": BOTH, "structured": WHOLE}
WAYS |= {"usage": BOTH}
IN_ONE_WAY = {
    **{("instructor", feature): WHOLE for feature in ("tools", "reasoning", "usage")},  # partials are objects alone
}
KINDS = {"tools": "result", "vision": "image", "reasoning": "effort", "structured": "schema"}
"""What a provider must have been sent at last."""
PATHS = {
    "openai": "/v1/chat/completions",
    "responses": "/v1/chat/completions",
    "azure": "/openai/deployments/some-model/chat/completions",
    "anthropic": "/v1/messages",
    "messages": "/v1/chat/completions",
    "gemini": "/v1beta/models/gemini-2.5-flash:",
    "vertex": "/v1/publishers/google/models/gemini-2.5-flash:",
    "bedrock": "/model/anthropic.claude-sonnet-4-5-20250929-v1:0/converse",
    "ollama": "/api/chat",
}
PASSED_ON = {("responses", "Responses"): "/v1/responses", ("messages", "Messages"): "/v1/messages"}
"""By provider and the client's API, where that is another one."""


def nano(counts: Counts) -> int:
    """What a report costs at the price above, by the test's own arithmetic."""
    fresh, said = counts.prompt - counts.cached, counts.completion - counts.reasoning
    return fresh * 1_000 + counts.cached * 250 + said * 2_000 + counts.reasoning * 3_000


class Matrix:
    """The gateway before all the providers, its books, and what the scripts of Node have told."""

    def __init__(self, url: str, store: MemoryStore, vendors: Vendors, http: httpx2.Client) -> None:
        self.url = url
        self.vendors = vendors
        self._store = store
        self._http = http
        self._nodes: dict[str, dict[int, list[Any]]] = {}

    def ways(self, cell: Cell) -> tuple[bool, ...]:
        """Whole, streamed, or both."""
        return IN_ONE_WAY.get((cell.client, cell.feature), WAYS[cell.feature])

    def ask(self, cell: Cell, *, stream: bool) -> Ask:
        """What the client of a cell is to do."""
        prompt = f"{PROMPTS.get(cell.feature, 'Hello.')} cell-{cell.number}-end"
        model = f"{cell.vendor}/{VENDORS[cell.vendor].model}"
        return Ask(self.url, key(cell), model, cell.feature, stream, prompt)

    def told(self, cell: Cell) -> list[Told]:
        """What its client has been told, in each way."""
        if cell.client in CLIENTS:
            return [CLIENTS[cell.client](self.ask(cell, stream=stream)) for stream in self.ways(cell)]
        if cell.client not in self._nodes:
            cells = [each for each in CELLS if each.client == cell.client]
            asks = [(each.number, self.ask(each, stream=stream)) for each in cells for stream in self.ways(each)]
            self._nodes[cell.client] = nodes.told(cell.client, asks)
        return [found.told() for found in self._nodes[cell.client][cell.number]]

    def lines(self, cell: Cell) -> list[Entry]:
        """The ledger of a cell's consumer, when nothing is held any more."""
        # Which waits for settlements.
        self._http.get(f"{self.url}/api/usage", headers={"apikey": key(cell)}).raise_for_status()
        account = self._store._books.account(consumer(cell))
        assert account is not None
        assert account.held == 0
        return list(self._store._books.lines(consumer(cell)))


def consumer(cell: Cell) -> str:
    """Each cell has a consumer of its own: what it is charged is its own as well."""
    return f"cell-{cell.number}"


def key(cell: Cell) -> str:
    """The consumer's."""
    return f"the-key-that-cell-{cell.number:04}-shows"


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    vendors, store = Vendors(), MemoryStore()
    timeouts = Timeouts(connect=5, first_byte=20, idle=20, total=30)
    with serve(vendors) as upstream:
        providers = {
            name: Provider(
                base_url=f"{upstream}/{name}{vendor.base}",
                api_key="the-operator-s-own-key",
                timeouts=timeouts,
                breaker=None,
                retries=0,
                **vendor.settings,
            )
            for name, vendor in VENDORS.items()
        }
        models = [f"{name}/{vendor.model}" for name, vendor in VENDORS.items()]
        gateway = Gateway(
            store=store,
            providers=providers,
            models=dict.fromkeys(models, PRICE),
            consumers={consumer(cell): Declared(quota=10**9, keys=(key(cell),)) for cell in CELLS},
            prices=None,
        )
        with serve(gateway.app) as url, httpx2.Client(trust_env=False) as http, pytest.MonkeyPatch.context() as patch:
            folder = tmp_path_factory.mktemp("llm")
            (folder / "extra-openai-models.yaml").write_text(llm_models(url, models), "utf-8")
            patch.setenv("LLM_USER_PATH", str(folder))
            patch.setenv("NO_PROXY", "127.0.0.1")
            yield Matrix(url, store, vendors, http)


def check(cell: Cell, told: Told, counts: Counts, *, stream: bool) -> None:
    """Hold what a client was told to what the model said."""
    objects = cell.client == "instructor"
    if objects:
        assert told.value == CITY.model_dump()
    match cell.feature:
        case "json" | "stream" | "usage":
            assert objects or told.text == "Hello world"
        case "tools":
            assert told.called == [("City", CITY.model_dump()) if objects else ("weather", ARGUMENTS)]
            assert objects or told.text == "It rains."
        case "vision":
            assert objects or told.text == "A picture."
        case "reasoning":
            assert told.thoughts == "Hm."
            assert objects or told.text == "Yes."
        case "structured":
            assert told.value == CITY.model_dump()
    if cell.feature == "stream":
        assert told.pieces > 1
    if cell.feature == "usage":
        assert told.counts is not None
        assert told.counts == tuple(counts), f"stream={stream}"


def check_sent(cell: Cell, journal: list[Provided], ways: int) -> None:
    """The provider was sent what the feature is about, in its own words, at its own address."""
    assert len(journal) == ways * (2 if cell.feature == "tools" and cell.client != "instructor" else 1)
    path = PASSED_ON.get((cell.vendor, declared.CLIENTS[cell.client].api), PATHS[cell.vendor])
    assert all(each.path.startswith(path) for each in journal)
    wanted = KINDS.get(cell.feature)
    if wanted is not None and (cell.client, cell.feature) not in {("instructor", "tools"), ("llm-chat", "reasoning")}:
        assert wanted in journal[-1].kinds


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_a_cell(matrix: Matrix, cell: Cell) -> None:
    if (cell.client, cell.vendor, cell.feature) in NO_BEFORE:
        with pytest.raises(Exception, match="tool_choice cannot name a function with this model's provider"):
            matrix.told(cell)
        assert matrix.lines(cell) == []
        return
    ways, told = matrix.ways(cell), matrix.told(cell)
    journal, counts, lines = matrix.vendors.journal[cell.number], VENDORS[cell.vendor].counts, matrix.lines(cell)
    assert [line.amount for line in lines] == [nano(counts)] * len(journal)
    assert {(line.report.outcome, line.report.estimated) for line in lines} == {("completed", False)}
    assert all(line.amount <= line.held for line in lines)
    check_sent(cell, journal, len(ways))
    for stream, each in zip(ways, told, strict=True):
        if (cell.client, cell.feature) in NO:
            assert (each.text, each.thoughts) == ("Yes.", "")
        else:
            check(cell, each, counts, stream=stream)
