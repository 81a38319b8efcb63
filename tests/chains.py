"""A gateway before two fake upstreams, and what the tests of chains ask of it."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from rig import CANARY, KEY, QUICK, ask, check_books
from servers import free_port

from hpp_middleware import Gateway, MemoryStore, Provider
from hpp_middleware.core import ledger
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.provider import Declared, Timeouts
from hpp_middleware.types.quota import Entry

__all__ = ["A_NANO", "B_NANO", "OTHER", "A", "B", "Pair", "answered", "pair", "the_entry"]

A = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
A_NANO = 9 * 1_000 + 2 * 2_000
"""What the first upstream's unscripted usage costs."""

B = {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}
B_NANO = 31 * 3_000 + 7 * 5_000
"""What the second one's costs."""

OTHER = Script(texts=("From", " the other"), usage=B)
MODELS: Mapping[str, Mapping[str, Any]] = {
    "fake/a": {"input": "1", "output": "2"},
    "fake/cheap": {"input": "0.5", "output": "1"},
    "other/c": {"input": "3", "output": "5"},
    "other/d": {"input": "3", "output": "5"},
    "gone/x": {"input": "1", "output": "1"},
}


class Pair(NamedTuple):
    """A gateway, and its two upstreams."""

    gateway: Gateway
    fake: FakeUpstream
    other: FakeUpstream

    @property
    def asked(self) -> tuple[list[str], list[str]]:
        """The models that each upstream was asked for."""
        return [each.json()["model"] for each in self.fake.log], [each.json()["model"] for each in self.other.log]


@asynccontextmanager
async def pair(
    *,
    fallbacks: Mapping[str, Sequence[str]] | None = None,
    retries: int = 0,
    nano: int = 10 * 10**9,
    timeouts: Timeouts = QUICK,
    provider: Mapping[str, Any] | None = None,
    opened: bool = True,
    **settings: Any,
) -> AsyncGenerator[Pair]:
    """A gateway before ``fake`` and ``other``, and ``gone``, where nobody listens; ``fake/a`` falls back on another."""
    more = {"retries": retries, "breaker": None, **(provider or {})}
    async with FakeUpstream() as fake, FakeUpstream() as other:
        other.script = OTHER
        found = Gateway(
            **{
                "providers": {
                    "fake": Provider(base_url=fake.url, api_key=CANARY, timeouts=timeouts, **more),
                    "other": Provider(base_url=other.url, api_key=CANARY, timeouts=timeouts, **more),
                    "gone": Provider(base_url=f"http://127.0.0.1:{free_port()}/v1", timeouts=timeouts, **more),
                },
                "models": MODELS,
                "consumers": {"alice": Declared(quota=nano, keys=(KEY,))},
                "prices": None,
                "store": MemoryStore(),
                "fallbacks": {"fake/a": ["other/c"]} if fallbacks is None else fallbacks,
                **settings,
            }
        )
        if opened:
            async with found:
                yield Pair(found, fake, other)
        else:
            try:
                yield Pair(found, fake, other)
            finally:
                async with found:  # whoever leaves last closes
                    pass


async def answered(found: Gateway, **fields: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, the router's own headers without their prefix, and the body."""
    headers = fields.pop("headers", None)
    async with ask(found, headers=headers, **{"model": "fake/a", **fields}) as call:
        status = await call.started()
        body = await call.read()
        await call.returned()
    own = {name.removeprefix("x-hpp-router-"): value for name, value in call.headers.items() if "hpp" in name}
    return status, own, body


async def the_entry(found: Gateway) -> Entry:
    """The one entry of Alice's, after an auditor has found nothing wrong with it."""
    lines = await check_books(found)
    walk = ledger.Walk("alice")
    assert [finding for line in lines for finding in walk.feed(line)] + walk.close() == []
    (entry,) = lines
    assert entry.amount == sum(each.cost for each in entry.report.attempts)
    return entry
