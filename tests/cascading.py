"""A gateway whose smaller model is asked first, for the tests of the cascade."""

from typing import Any

from rig import ask, check_books, gateway

from hpp_middleware import Gateway
from hpp_middleware.core import ledger
from hpp_middleware.core.auto import AutoPolicy, Tier
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.quota import Entry

__all__ = [
    "DOUBT",
    "FINE",
    "GOOD",
    "MODELS",
    "POLICY",
    "SMALL_NANO",
    "STRONG_NANO",
    "answered",
    "audited",
    "cascading",
    "the_entry",
]

POLICY = AutoPolicy(
    rules_version="v",
    simple=("fake/small",),
    simple_max_tokens=60,
    tiers={"T1": Tier(models=("fake/t1",), max_tokens=500), "T3": Tier(models=("fake/strong", "fake/t1"))},
    cascade=True,
)
MODELS = {
    "fake/small": {"input": "0.1", "output": "0.3"},
    "fake/t1": {"input": "1", "output": "2"},
    "fake/strong": {"input": "20", "output": "60", "cache_read": "2"},
}
SMALL = {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}
STRONG = {"prompt_tokens": 29, "completion_tokens": 17, "total_tokens": 46}
SMALL_NANO = 31 * 100 + 7 * 300
STRONG_NANO = 29 * 20_000 + 17 * 60_000
DOUBT = Script(texts=("I'm not sure.",), usage=SMALL)
GOOD = Script(texts=("It is Paris.",), usage=STRONG)
FINE = Script(texts=("Paris.",), usage=SMALL)


def cascading(upstream: FakeUpstream, **settings: Any) -> Gateway:
    """A gateway with the policy and models above."""
    return gateway(upstream, **{"models": MODELS, "auto": POLICY, **settings})


async def answered(found: Gateway, **fields: Any) -> tuple[int, dict[str, str], Any]:
    """Status, the router's own headers, and the body of one chat."""
    headers = fields.pop("headers", None)
    async with ask(found, headers=headers, **{"model": "hpprouter/auto", **fields}) as call:
        status = await call.started()
        body = await call.json()
        await call.returned()
    return status, {name: value for name, value in call.headers.items() if name.startswith("x-hpp")}, body


def audited(lines: list[Entry]) -> list[ledger.Finding]:
    """What an auditor finds wrong with Alice's lines."""
    walk = ledger.Walk("alice")
    return [finding for line in lines for finding in walk.feed(line)] + walk.close()


async def the_entry(found: Gateway) -> Entry:
    """The only line of the books, which are right."""
    lines = await check_books(found)
    assert audited(lines) == []
    assert len(lines) == 1
    return lines[0]
