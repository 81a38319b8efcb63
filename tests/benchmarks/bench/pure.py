"""
The pure functions of the hot path, each repeated so that callgrind can count their instructions.

    valgrind --tool=callgrind --dump-before=getloadavg python -m bench.pure

``os.getloadavg()`` is the mark: callgrind writes down what was counted between two calls of it. Each function is run
N times, and then 2 N times; the difference is N runs of it, and of nothing else.
"""

import gc
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

if not __package__:  # started by its path, under valgrind
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench import wire
from hpp_middleware.core import auth, parse, price, route, sse
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stores.books import carry_out
from hpp_middleware.stores.memory.books import MemoryBooks
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.operations import Grant, Renew
from hpp_middleware.types.price import Price, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

__all__ = ["cases"]

NOW = 1_750_000_000.0
CONSUMER = Consumer(id="benchmark")
LIMITS = Limits()
DIALECT = OpenAI()
_ids = itertools.count()

Case = tuple[str, int, Callable[[], object]]


def cases() -> list[Case]:
    """Names, how often each is repeated, and what it is."""
    body, large = wire.json_question(), wire.json_question(image_bytes=1_000_000)
    streamed = parse.completion(wire.stream_question(100, 0), LIMITS)
    request, target = parse.completion(body, LIMITS), _target(streamed)
    agents = wire.agent_question()
    asked = parse.completion(agents, LIMITS)
    headers = [(b"host", b"x"), (b"authorization", b"Bearer " + wire.KEYS[0].encode())]
    peppers, books = auth.Peppers(bytes(range(32))), _books()
    chunk = wire.event({"content": "token"})
    stream = DIALECT.stream(streamed, target, event_bytes=LIMITS.event_bytes, cap=10**9)
    framer, usage = sse.Framer(LIMITS.event_bytes), Usage(input=200, cache_read=10, output=96)
    return [
        ("auth: the key, and its digest", 200, lambda: peppers.digests(auth.secret_from(auth.shown_in(headers)))),
        ("parse: 1 KB", 100, lambda: parse.completion(body, LIMITS)),
        ("parse: 1 MB", 3, lambda: parse.completion(large, LIMITS)),
        ("parse: 230 KB of an agent", 10, lambda: parse.completion(agents, LIMITS)),
        ("route", 200, lambda: route.resolve(request, CONSUMER, _CATALOG)),
        ("plan: call, bound and reserve", 100, lambda: _planned(request, target)),
        ("plan: 230 KB of an agent", 20, lambda: _planned(asked, target)),
        ("quota: reserve and settle, in memory", 100, lambda: _reserve_and_settle(books)),
        ("price: cost", 300, lambda: price.cost(usage, target.price)),
        ("answer: JSON", 100, lambda: DIALECT.answer(wire.ANSWER, request, target)),
        ("sse: frame a chunk", 200, lambda: framer.feed(chunk)),
        ("relay: feed a chunk", 200, lambda: stream.feed(chunk)),
        ("relay: feed 64 chunks at once", 10, lambda: stream.feed(chunk * 64)),
    ]


def _target(request: Request) -> Target:
    return route.resolve(request, CONSUMER, _CATALOG)


def _planned(request: Request, target: Target) -> object:
    plan = Plan(request, target, DIALECT, request_id="req_benchmark", limits=LIMITS, orphan="estimate")
    return plan.reserve(CONSUMER, "benchmark", client_request_id=None)


def _books() -> MemoryBooks:
    books = MemoryBooks()
    for operation in (Renew(owner="worker", ttl_s=1e9), Grant(id="start", account="alice", amount=10**15)):
        carry_out(books, operation, now=NOW)
    return books


def _reserve_and_settle(books: MemoryBooks) -> None:
    hold = f"req_{next(_ids):026}"
    done = carry_out(books, reserve(hold, 1000), now=NOW).status, carry_out(books, settle(hold, 600), now=NOW).status
    if done != ("done", "done"):
        raise RuntimeError(f"reserve and settle were {done}")


_RATES = price.rates_from_usd({"input": "1.25", "output": "10"}, "benchmark")
_CATALOG = route.Catalog(
    providers={"fake": Provider(base_url="http://127.0.0.1:1/v1", api_key="of-the-operator")},
    models={wire.MODEL: Model(price=Price(base=_RATES))},
    aliases={},
    prices=None,
)


def main() -> None:
    """Run all of them, with marks between."""
    gc.disable()
    for _, times, run in cases():
        for repeated in (times, times, 2 * times):  # the first is warming up
            for _ in range(repeated):
                run()
            os.getloadavg()
    print(json.dumps([[name, times] for name, times, _ in cases()]))


if __name__ == "__main__":
    main()
