"""A gateway before a fake upstream, and what the tests of the path ask of it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from hpp_middleware import Consumer, Gateway, MemoryStore, Provider
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import Store
from hpp_middleware.testing import FakeUpstream, get, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.events import Alarm, Event, Refused, Settled
from hpp_middleware.types.operations import Operation, Resize, Result
from hpp_middleware.types.provider import Declared, Timeouts
from hpp_middleware.types.quota import Entry

__all__ = [
    "ALICE",
    "BOB_KEY",
    "CANARY",
    "CHAT",
    "KEY",
    "MODEL",
    "USAGE_NANO",
    "Delegate",
    "Lossy",
    "Witness",
    "ask",
    "check_books",
    "chunks",
    "gateway",
    "question",
    "read",
    "read_chat",
]

KEY = "alice-shows-this-key-of-hers"
BOB_KEY = "bob-shows-another-key-of-his"
CANARY = "upstream-canary-f00dfeed"
ALICE = Consumer(id="alice")
CHAT = "/llm/v1/chat/completions"
MODEL = "fake/fake-1"
USAGE_NANO = 9 * 1_000 + 2 * 2_000
"""What the fake's unscripted usage costs at the price below."""
QUICK = Timeouts(connect=5, first_byte=20, idle=20, total=30)


def gateway(
    upstream: FakeUpstream | str,
    *,
    nano: int = 10 * 10**9,
    timeouts: Timeouts = QUICK,
    provider: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **settings: Any,
) -> Gateway:
    """A gateway whose only model costs $1 a million tokens in and $2 out, which asks once, and its consumers."""
    url = upstream if isinstance(upstream, str) else upstream.url
    # No breaker, and no retries: most tests of faults let an upstream fail, once or many times in a row.
    given: dict[str, Any] = {"base_url": url, "api_key": CANARY, "timeouts": timeouts, "breaker": None, "retries": 0}
    defaults: dict[str, Any] = {
        "providers": {"fake": Provider(**{**given, **(provider or {})})},
        "models": {MODEL: {"input": "1", "output": "2", **(model or {})}},
        "consumers": {"alice": Declared(quota=nano, keys=(KEY,)), "bob": Declared(quota=nano, keys=(BOB_KEY,))},
        "prices": None,
    }
    return Gateway(**{**defaults, **settings})


def question(**fields: Any) -> dict[str, Any]:
    """A request for one short answer, with a cap, so that every hold is the same."""
    return {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, **fields}


def ask(found: Gateway, *, key: str = KEY, headers: dict[str, str] | None = None, **fields: Any) -> Call:
    """Post a question to the gateway's app, for ``async with``."""
    return post(found.app, CHAT, question(**fields), headers={"apikey": key, **(headers or {})}, ahead=0)


async def read(found: Gateway, path: str, *, key: str = KEY) -> Any:
    """What a GET answers, parsed, if it is a 200."""
    async with get(found.app, path, headers={"apikey": key}) as call:
        assert await call.started() == 200, await call.read()
        return await call.json()


async def read_chat(found: Gateway, **fields: Any) -> tuple[int, bytes]:
    """Status and body of one whole exchange."""
    async with ask(found, **fields) as call:
        status = await call.started()
        body = await call.read()
        await call.returned()
        return status, body


async def check_books(found: Gateway) -> list[Entry]:
    """Alice's ledger, once nothing is held, and the figures of every reader agree with it."""
    lines = await found.store.lines("alice")
    balance = await found.store.balance("alice")
    assert balance.held == 0
    assert balance.used == sum(line.amount for line in lines)
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    usage = await read(found, "/api/usage")
    assert round(usage["used"] * 10**9) == balance.used
    assert usage["requests"] == sum(line.line == "resolution" for line in lines)
    return lines


def chunks(stream: bytes) -> list[Any]:
    """The data of a stream's events, parsed; ``[DONE]`` as it is."""
    data = [event.removeprefix(b"data: ") for event in stream.split(b"\n\n") if event.startswith(b"data: ")]
    return ["[DONE]" if item == b"[DONE]" else json.loads(item) for item in data]


class Witness:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def observe(self, event: Event) -> None:
        """Remember."""
        self.events.append(event)

    @property
    def alarms(self) -> list[str]:
        """The kinds of the alarms."""
        return [event.kind for event in self.events if isinstance(event, Alarm)]

    @property
    def settled(self) -> list[Settled]:
        """The settlements."""
        return [event for event in self.events if isinstance(event, Settled)]

    @property
    def refused(self) -> list[Refused]:
        """The refusals."""
        return [event for event in self.events if isinstance(event, Refused)]


class Delegate:
    """A store that does what another does, unless ``error``, ``before`` or ``after`` says otherwise."""

    def __init__(self, store: Store | None = None) -> None:
        self.inner: Store = store or MemoryStore()
        self.calls: list[Sequence[Operation]] = []
        self.error: Exception | None = None
        self.before: Callable[[Sequence[Operation]], Any] | None = None
        self.after: Callable[[Sequence[Operation], list[Result]], Any] | None = None

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Fail, or do what the other does, between ``before`` and ``after``."""
        self.calls.append(operations)
        if self.error is not None:
            raise self.error
        if self.before is not None:
            await self.before(operations)
        results = await self.inner.apply(operations)
        if self.after is not None:
            return list(await self.after(operations, results))
        return results

    def asked(self, kind: type[Any]) -> list[Any]:
        """The operations of a kind so far."""
        return [operation for call in self.calls for operation in call if isinstance(operation, kind)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Lossy(Delegate):
    """A store that loses the reply to the first resizes, after it has done them or before."""

    def __init__(self, times: int, *, does: bool) -> None:
        super().__init__()
        self.times = times
        self.does = does

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Fail."""
        if self.times and any(isinstance(each, Resize) for each in operations):
            self.times -= 1
            if self.does:
                await super().apply(operations)
            raise StoreError("lost")
        return await super().apply(operations)
