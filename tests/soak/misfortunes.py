"""The parts of the chaos soak: a provider that fails at random, clients that do, and the check of the books."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import uuid4

from anyio.from_thread import start_blocking_portal
from chaos.bench import CHAT, Answer, Line
from chaos.upstreams import TEXTS, UPSTREAM

from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.http1 import HTTP1Connection
from hpp_middleware.testing.upstream import Exchange

__all__ = ["CLIENTS", "PLACES", "Asked", "Clients", "Failing", "join", "running_upstream"]

PLACES = ("absent", "nowhere", "tls-fin", "tls-rst", "tls-half", "tls-plain", "tls-untrusted")
CLIENTS = ("ann", "ben", "cid", "dee")
GOOD = Script(texts=TEXTS)
LONG = Script(texts=("word ",) * 40, delay_between_s=0.01)
VAST = Script(texts=("word " * 2_000,) * 1_000)
FAULTS = {fault.id: fault.script for fault in UPSTREAM if fault.provider in {"fake", "hasty"} and not fault.fields}
MOST_BYTES = 1_000_000


class Asked(NamedTuple):
    """A request that arrived at the provider, and what became of it."""

    id: str
    fault: str
    usage: Any
    finished: bool


class Failing(FakeUpstream):
    """
    Draws what it does with each request.

    Attributes:
        witness: What has been asked, and is over.
        done: How often it did what.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.witness: list[Asked] = []
        self.done: Counter[str] = Counter()
        self._rng = random.Random(seed)
        self._drawn: dict[int, str] = {}

    def _script_for(self, exchange: Exchange) -> Script:
        rng, spare = self._rng, "spare" in (exchange.header("authorization") or "")
        name, script = "good", GOOD
        if rng.random() < (0.9 if spare else 0.7):
            name, script = rng.choice([("good", GOOD), ("good", GOOD), ("long", LONG)])
        elif rng.random() < 0.03:
            name, script = "vast", VAST
        else:
            name = rng.choice(sorted(FAULTS))
            script = FAULTS[name]
        self._drawn[id(exchange)] = name
        self.done[f"provider: {name}"] += 1
        return script

    async def _carry_out(self, exchange: Exchange, connection: HTTP1Connection) -> Script:
        try:
            return await super()._carry_out(exchange, connection)
        finally:
            self.log.remove(exchange)  # hours of them would be kept otherwise
            name = self._drawn.pop(id(exchange), "unread")
            number = exchange.header("x-request-id") or ""
            self.witness.append(Asked(number, name, exchange.usage, exchange.finished))


@contextmanager
def running_upstream(seed: int) -> Iterator[Failing]:
    """The provider, in a thread of its own, until the block ends."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(Failing(seed)) as found:
        yield found


class Clients:
    """
    Clients, each in a thread of its own, one request after another.

    Attributes:
        done: What they did, and what they got.
        acknowledged: By the request's id, the cost that a client was told.
        whole: The ids of the streams that came to their end.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.acknowledged: dict[str, str] = {}
        self.whole: list[str] = []
        self._bench: Any = SimpleNamespace(
            url=url, upstream=SimpleNamespace(log=[]), app=SimpleNamespace(begun=0), quiet=lambda: None
        )
        self._seed = seed
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, number: int) -> None:
        """So many of them."""
        for each in range(number):
            rng = random.Random(f"{self._seed}-{each}")
            self._threads.append(threading.Thread(target=self._live, args=(rng,), name=f"client-{each}"))
            self._threads[-1].start()

    def burst(self, number: int) -> None:
        """So many more, with one plain request each, all at once."""
        self._count("load: a burst")
        for each in range(number):
            rng = random.Random(f"{self._seed}-{time.monotonic()}-{each}")
            thread = threading.Thread(target=self._guarded, args=(rng, self._plain))
            self._threads.append(thread)
            thread.start()

    def end(self) -> None:
        """Have them finish, and wait."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _live(self, rng: random.Random) -> None:
        acts = [self._plain] * 12 + [self._leaves] * 5 + [self._half, self._garbage, self._slow, self._twice]
        acts += [self._keyed, self._frozen, self._silent]
        while not self._over.is_set():
            self._guarded(rng, rng.choice(acts))

    def _guarded(self, rng: random.Random, act: Any) -> None:
        try:
            act(rng)
        except (OSError, AssertionError) as error:
            self._count(f"client: {type(error).__name__}")

    def _count(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1

    def _line(self, rng: random.Random, **fields: Any) -> Line:
        provider = rng.choice(PLACES) if rng.random() < 0.05 else "fake"
        body = {
            "model": f"{provider}/m",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": rng.choice([50, 500, 5_000]),
            "stream": rng.random() < 0.6,
            **fields,
        }
        return Line(self._bench, rng.choice(CLIENTS), json.dumps(body).encode(), CHAT)

    def _plain(self, rng: random.Random) -> None:
        with self._line(rng) as line:
            line.send()
            self._told(line.read())

    def _told(self, told: Answer) -> None:
        error = told.error if told.status is not None and told.body else None
        with self._lock:
            what = "answer" if error is None else ("event " if told.is_stream else f"{told.status} ") + error["code"]
            self.done[f"told: {what if told.status is not None else 'nothing'}"] += 1
            if told.status == 200 and error is None and told.whole and "idempotency-replayed" not in told.headers:
                if not told.is_stream:
                    self.acknowledged[told.headers["x-request-id"]] = told.headers["x-hpp-router-cost"]
                elif told.events[-1] == "[DONE]":
                    self.whole.append(told.headers["x-request-id"])

    def _leaves(self, rng: random.Random) -> None:
        with self._line(rng) as line:
            line.send()
            time.sleep(rng.random() ** 3)
            reset = rng.random() < 0.5
            line.leave(reset=reset)
        self._count(f"client: leaves by {'RST' if reset else 'FIN'}")

    def _half(self, rng: random.Random) -> None:
        with self._line(rng) as line:
            line.send(line.head() + line.body[: rng.randrange(len(line.body))])
            line.leave(reset=rng.random() < 0.5)
        self._count("client: leaves within its request")

    def _silent(self, rng: random.Random) -> None:
        with self._line(rng) as line:
            line.send(line.head() + line.body[:-1])
            self._told(line.read())
        self._count("client: never ends its request")

    def _garbage(self, rng: random.Random) -> None:
        with self._line(rng) as line:
            data = rng.randbytes(rng.randrange(1, 500))
            line.send(line.head(Content_Length=str(len(data))) + data)
            self._told(line.read())
        self._count("client: sends garbage")

    def _slow(self, rng: random.Random) -> None:
        with self._line(rng) as line:
            line.send(line.head())
            for number in range(len(line.body)):
                line.send(line.body[number : number + 1])
            self._told(line.read())
        self._count("client: sends byte by byte")

    def _twice(self, rng: random.Random) -> None:
        with self._line(rng) as line:
            line.send(2 * (line.head() + line.body))
            for told in line.reads(2):
                self._told(told)
        self._count("client: asks twice at once")

    def _keyed(self, rng: random.Random) -> None:
        key = uuid4().hex
        with self._line(rng) as line:
            for _ in range(2):
                line.send(line.head(Idempotency_Key=key) + line.body)
                told = line.read()
                self._told(told)
                if told.status is None:
                    break
        self._count("client: repeats itself under a key")

    def _frozen(self, rng: random.Random) -> None:
        with self._line(rng, stream=True, max_tokens=100_000) as line:
            line.send()
            time.sleep(2.5)
        self._count("client: does not read")


def join(lines: list[dict[str, Any]], witness: list[Asked], clients: Clients) -> list[str]:
    """What is wrong with the ledger, by what the provider saw and what clients were told."""
    resolved = {line["hold"]: line for line in lines if line["line"] == "resolution"}
    charged: Counter[str] = Counter()
    for line in lines:
        charged[line["hold"]] += line["amount"]
    twice = Counter(line["hold"] for line in lines if line["line"] == "resolution")
    findings = [f"{hold} was resolved {times} times" for hold, times in twice.items() if times > 1]
    calls: dict[str, list[Asked]] = {}
    for asked in witness:
        calls.setdefault(asked.id, []).append(asked)
    for hold, seen in calls.items():
        if hold not in resolved:
            findings.append(f"{hold} was forwarded, and is not in the ledger")
        elif len(seen) > len(resolved[hold]["report"]["attempts"]):
            findings.append(f"{hold} was forwarded {len(seen)} times, and has fewer attempts")
    for hold, line in resolved.items():
        findings += _entry(hold, line, charged[hold], calls.get(hold, []))
    return findings + _told(resolved, charged, clients)


def _told(resolved: dict[str, dict[str, Any]], charged: Counter[str], clients: Clients) -> list[str]:
    """What clients were told that is not so."""
    findings = [
        f"{hold} was told to cost {cost}, and is in the ledger at {charged[hold]} nano-dollars"
        for hold, cost in clients.acknowledged.items()
        if hold not in resolved or charged[hold] != int(Decimal(cost) * 10**9)
    ]
    completed = {hold for hold, line in resolved.items() if line["report"]["outcome"] == "completed"}
    return findings + [f"{hold} was a whole stream, and is not completed" for hold in set(clients.whole) - completed]


def _entry(hold: str, line: dict[str, Any], charged: int, seen: list[Asked]) -> Iterator[str]:
    """What is wrong with one request."""
    report = line["report"]
    attempts = report["attempts"]
    if sum(attempt.get("cost", 0) for attempt in attempts) != charged:
        yield f"{hold} was charged {charged}, which is not the sum of its attempts"
    if report["outcome"] == "completed" and not report.get("estimated"):
        usage = seen[-1].usage if seen else None
        if usage is None:
            yield f"{hold} is completed, and nobody has seen a usage"
        elif attempts[-1].get("cost", 0) != usage["prompt_tokens"] * 1_000 + usage["completion_tokens"] * 2_000:
            yield f"{hold} did not cost what the provider reported"
