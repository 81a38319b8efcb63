"""llama.cpp's own server behind the router: an upstream that nobody here wrote, and that counts for itself."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import httpx2
import openai
import pytest
from llama import Llama
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import BaseModel
from servers import serve

from hpp_middleware import Gateway, MemoryStore, provider
from hpp_middleware.types.provider import Declared, Limits
from hpp_middleware.types.quota import Entry

KEY = "alice-shows-this-key-of-hers"
MODEL = "local/tiny-random"
CAP = 48
SECONDS = 60
"""A bound on waiting for what must happen; nothing is measured by it."""
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there, whoever you are."}]
ENDLESS: dict[str, Any] = {"ignore_eos": True}


class Upstream:
    """What the server says of itself, asked directly."""

    def __init__(self, server: Llama) -> None:
        self._http = httpx2.Client(base_url=server.url.removesuffix("/v1"), trust_env=False, timeout=SECONDS)

    def close(self) -> None:
        self._http.close()

    def counter(self, name: str) -> int:
        """One figure of its metrics."""
        lines = self._http.get("/metrics").text.split("\n")
        (figure,) = [line.split()[1] for line in lines if line.startswith(f"llamacpp:{name} ")]
        return int(figure)

    def counted(self) -> tuple[int, int, int]:
        """Tokens since its start: of prompts that it computed, of prompts that it had cached, and of answers."""
        return (
            self.counter("prompt_tokens_total"),
            self.counter("prompt_tokens_cached_total"),
            self.counter("tokens_predicted_total"),
        )

    def last_cap(self) -> Any:
        """The output cap of the request that it served last."""
        slots = [slot for slot in self._http.get("/slots").json() if "id_task" in slot]
        return max(slots, key=lambda slot: int(slot["id_task"]))["params"]["max_tokens"]

    def post(self, body: dict[str, Any]) -> httpx2.Response:
        """Ask it for a completion, past the router."""
        return self._http.post("/v1/chat/completions", json=body)


class Books:
    """The router's accounts, from inside."""

    def __init__(self, gateway: Gateway, store: MemoryStore) -> None:
        self.gateway = gateway
        self._store = store

    @property
    def lines(self) -> list[Entry]:
        return list(self._store._books.lines("alice"))

    @property
    def held(self) -> int:
        account = self._store._books.account("alice")
        assert account is not None
        return account.held


@pytest.fixture
def upstream(llama: Llama) -> Iterator[Upstream]:
    found = Upstream(llama)
    yield found
    found.close()


@pytest.fixture
def books(llama: Llama) -> Books:
    store = MemoryStore()
    # Its tokenizer knows bytes and a few words, so that a prompt may have as many tokens as bytes.
    local = provider("llamacpp", base_url=llama.url, bytes_per_token=1)
    gateway = Gateway(
        store=store,
        providers={"local": local},
        models={MODEL: {"input": "1", "cache_read": "0.25", "output": "2", "context": 4096}},
        consumers={"alice": Declared(quota=10 * 10**9, keys=(KEY,))},
        limits=Limits(default_cap=CAP),
        prices=None,
    )
    return Books(gateway, store)


@pytest.fixture
def url(books: Books) -> Iterator[str]:
    with serve(books.gateway.app) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{url}/llm/v1", api_key=KEY, http_client=http_client, max_retries=0) as found:
        yield found


@pytest.fixture
def api(url: str) -> Iterator[Callable[[str], Any]]:
    """GET of the router's own endpoints."""
    with httpx2.Client(base_url=url, headers={"apikey": KEY}, trust_env=False, timeout=SECONDS) as http:
        yield lambda path: http.get(path).json()


def wait_until(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


def nano(completion_usage: openai.types.CompletionUsage) -> int:
    """What a usage costs at the prices above, by the test's own arithmetic."""
    details = completion_usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    quarters = 4 * (completion_usage.prompt_tokens - cached) + cached + 8 * completion_usage.completion_tokens
    return -(-quarters * 1000 // 4)


def test_a_completion_is_what_the_server_says_but_for_the_models_name(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    ours = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, temperature=0, seed=1)
    body = {"model": "tiny-random", "messages": HELLO, "max_tokens": 12, "temperature": 0, "seed": 1}
    theirs = ChatCompletion.model_validate(upstream.post(body).json())
    assert ours.model == MODEL
    assert ours.choices == theirs.choices
    assert ours.usage is not None
    assert theirs.usage is not None
    assert ours.usage.completion_tokens == theirs.usage.completion_tokens
    assert ours.usage.prompt_tokens == theirs.usage.prompt_tokens
    assert ours.model_extra is not None
    assert "timings" in ours.model_extra  # the server's own


def test_a_stream_says_the_same_as_a_completion(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0, "seed": 1}
    grammar = {"grammar": "root ::= [a-z]+"}  # whole letters, which no cut between bytes can change
    whole = client.chat.completions.create(**fields, extra_body=grammar)
    chunks = list(client.chat.completions.create(**fields, extra_body=grammar, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert whole.choices[0].message.content
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_the_usage_of_a_stream_is_delivered_where_it_is_asked_for_and_charged_in_any_case(
    client: openai.OpenAI, books: Books
) -> None:
    options: Any = {"include_usage": True}
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 9, "stream": True, "extra_body": ENDLESS}
    asked = list(client.chat.completions.create(**fields, stream_options=options))
    list(client.chat.completions.create(**fields))
    usage = asked[-1].usage
    assert asked[-1].choices == []
    assert usage is not None
    assert usage.completion_tokens == 9
    wait_until(lambda: len(books.lines) == 2)
    assert books.lines[0].amount == nano(usage)
    assert [line.report.usage.completion for line in books.lines] == [9, 9]
    assert not any(line.report.estimated for line in books.lines)


class Weather(BaseModel):
    """A schema that even random weights can only fulfil."""

    rain: bool
    sky: Literal["blue", "grey"]


def test_a_json_schema_reaches_the_server_which_keeps_it(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL, messages=HELLO, response_format=Weather, max_tokens=200, temperature=0, seed=1
    )
    assert completion.choices[0].finish_reason == "stop"
    assert isinstance(completion.choices[0].message.parsed, Weather)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": [{"role": "user", "content": "x" * 9000}]}, "exceeds the available context size"),
        ({"extra_body": {"grammar": "root ::= ["}}, "failed to parse grammar"),
    ],
    ids=["too long a prompt", "a grammar that is none"],
)
def test_what_the_server_refuses_is_refused_in_our_shape_and_costs_nothing(
    client: openai.OpenAI, books: Books, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **fields})
    body = raised.value.body
    assert isinstance(body, dict)
    assert words in body["message"]
    assert (body["type"], body["provider"], body["upstream_status"]) == ("upstream_error", "local", 400)
    assert body["retryable"] is False
    assert {"message", "type", "code", "param"} <= set(body)
    wait_until(lambda: len(books.lines) == 1)
    assert (books.lines[0].amount, books.lines[0].report.outcome, books.held) == (0, "failed", 0)


def test_the_cap_of_ours_reaches_the_server_where_the_client_gave_none(
    client: openai.OpenAI, upstream: Upstream
) -> None:
    capped = client.chat.completions.create(model=MODEL, messages=HELLO, extra_body=ENDLESS)
    assert upstream.last_cap() == CAP
    assert capped.usage is not None
    assert capped.usage.completion_tokens == CAP
    assert capped.choices[0].finish_reason == "length"
    own = client.chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=7, extra_body=ENDLESS)
    assert own.usage is not None
    assert own.usage.completion_tokens == 7


def test_every_hold_covers_what_the_server_then_counts(client: openai.OpenAI, books: Books) -> None:
    odd = ["a", "äöü" * 20, "日本語のとても長い文章。" * 10, '\n\t{}[]"\\' * 30, "\U0001f600" * 25]
    for text in odd:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], extra_body=ENDLESS)
    wait_until(lambda: len(books.lines) == len(odd))
    assert {line.line for line in books.lines} == {"resolution"}  # none has an overage
    assert all(line.amount <= line.held for line in books.lines)


def test_a_client_that_leaves_in_mid_stream_stops_the_server_and_is_settled(
    client: openai.OpenAI, books: Books, upstream: Upstream, api: Callable[[str], Any]
) -> None:
    before = upstream.counter("tokens_predicted_total")
    long: dict[str, Any] = {"max_tokens": 3900, "extra_body": ENDLESS}
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, stream=True, **long)
    with raw.parse() as stream:
        read = [chunk for _, chunk in zip(range(5), stream, strict=False)]
    assert len(read) == 5
    wait_until(lambda: upstream.counter("requests_processing") == 0)
    assert upstream.counter("tokens_predicted_total") - before < 3900  # it was told to stop
    wait_until(lambda: len(books.lines) == 1)
    (line,) = books.lines
    assert (line.report.outcome, line.report.estimated, books.held) == ("abandoned", True, 0)
    assert 0 < line.amount < line.held
    entry = api(f"/api/user/audit/{raw.headers['x-request-id']}")
    assert entry["outcome"] == "abandoned"
    assert round(entry["cost"] * 10**9) == line.amount


def test_the_routers_usage_is_the_ledgers_sum_and_the_servers_own_count(
    client: openai.OpenAI, books: Books, upstream: Upstream, api: Callable[[str], Any]
) -> None:
    before = upstream.counted()
    reported: list[openai.types.CompletionUsage] = []
    for number in range(3):
        fields: dict[str, Any] = {"model": MODEL, "max_tokens": 5 + number}
        asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"{number} is a number. " * 10}]
        for _ in range(2):  # the second time from the server's cache
            answer = client.chat.completions.create(**fields, messages=asked)
            assert answer.usage is not None
            reported.append(answer.usage)
        options: Any = {"include_usage": True}
        chunks = list(client.chat.completions.create(**fields, messages=asked, stream=True, stream_options=options))
        assert chunks[-1].usage is not None
        reported.append(chunks[-1].usage)
        client.chat.completions.create(**fields, messages=asked, n=1, user="nobody")
        list(client.chat.completions.create(**fields, messages=asked, stream=True))
    usage = api("/api/usage")
    computed, cached, predicted = (after - earlier for after, earlier in zip(upstream.counted(), before, strict=True))
    tokens = [line.report.usage for line in books.lines]

    assert cached > 0
    assert sum(each.input for each in tokens) == computed
    assert sum(each.cache_read for each in tokens) == cached
    assert sum(each.completion for each in tokens) == predicted
    assert usage["total_tokens"] == computed + cached + predicted
    assert usage["requests"] == len(books.lines) == 15
    assert round(usage["total_cost"] * 10**9) == sum(line.amount for line in books.lines)
    assert usage["used"] == usage["total_cost"]
    told = [line.amount for line in books.lines]
    for each in reported:
        told.remove(nano(each))  # what the client was told is what the ledger has
    assert len(told) == 6
    assert books.held == 0
