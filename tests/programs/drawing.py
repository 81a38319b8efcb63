"""Gateways, requests and upstreams drawn at random, of everything that resilience and limits consist of."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any, Literal, NamedTuple

from rig import CANARY, CHAT, KEY, QUICK
from servers import free_port

from hpp_middleware import Gateway, Provider
from hpp_middleware.core.auto import AutoPolicy, Tier
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.provider import Declared, Limits, Timeouts
from hpp_middleware.types.streams import KeepAlive
from hpp_middleware.types.upstreams import Upstream

__all__ = ["AUTO", "MODELS", "SCRIPTS", "Asked", "Made", "Stopped", "asked", "made", "scripts"]

AUTO = "hpprouter/auto"
MODELS: Mapping[str, Mapping[str, Any]] = {
    "fake/a": {"input": "1", "output": "2", "tags": ["eu"]},
    "fake/cheap": {"input": "0.5", "output": "1"},
    "fake/small": {"input": "0.1", "output": "0.3", "tags": ["eu"]},
    "fake/strong": {"input": "20", "output": "60"},
    "other/c": {"input": "3", "output": "5"},
    "other/d": {"input": "3", "output": "5", "tags": ["eu"]},
    "gone/x": {"input": "1", "output": "1"},
}
_FEW = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
_MORE = {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}
_MANY = {"prompt_tokens": 900, "completion_tokens": 700, "total_tokens": 1600}
_PAID = json.dumps({"error": {"message": "no"}, "usage": _FEW}).encode()
SCRIPTS: Mapping[str, Script] = {
    "good": Script(usage=_MORE),
    "doubtful": Script(texts=("I'm not sure.",), usage=_FEW),
    "without usage": Script(usage=None),
    "paid for nothing": Script(status=500, raw_body=_PAID, content_type="application/json"),
    "closed": Script(close_before_head=True),
    "cut after one": Script(truncate_after_events=1),
    "cut after three": Script(truncate_after_events=3),
    "an error at last": Script(error_event={"error": {"message": "x"}}),
    "a page": Script(raw_body=b"<html>", content_type="text/html"),
    "no tokens": Script(usage="zero"),
    "more than was asked for": Script(usage=_MANY),
    "late": Script(delay_head_s=0.25),
    "stalled": Script(stall_after_events=2),
    "comments": Script(raw_events=[b": wait\n\n"] * 4, content_type="text/event-stream", delay_between_s=0.02),
    "slow": Script(delay_between_s=0.03, usage=_MORE),
    **{str(status): Script(status=status) for status in (400, 401, 403, 409, 413, 429, 500)},
}

_BUDGETED = (None, "fake/a", "fake/*", "other/c", "fake/small", "fake/strong", "other/*")
_AMOUNTS = (0, 8_000, 60_000, 250_000, 2_000_000, 10**9, 10**9)
_PREFERENCES: Sequence[Mapping[str, Any]] = (
    {"only": ["fake"]},
    {"order": ["other"]},
    {"sort": "price"},
    {"allow_fallbacks": False},
    {"max_price": {"prompt": 2}},
    {"ignore": ["fake/strong"]},
    {"ignore": ["fake"]},
    {"order": ["other/d", "fake/cheap"]},
    {"require_parameters": True, "sort": "latency"},
)


class Stopped(MemoryLimits):
    """Limits that time does not give back."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())


class Made(NamedTuple):
    """A gateway, and what it goes by."""

    gateway: Gateway
    limits: Stopped
    budgets: Sequence[Budget]
    allowed: Sequence[str]
    requires: Sequence[str]


class Asked(NamedTuple):
    """A request, and when its client leaves: after so many calls to providers; None for never."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    leaves_after: int | None


def made(rng: Random, fake: FakeUpstream, other: FakeUpstream, store: Any) -> Made:
    """A gateway of three providers, one of which is not there, for alice of a team of an organisation."""
    limits, budgets = Stopped(), _budgets(rng)
    allowed = rng.choice([("*",), ("*",), ("fake/*",), ("fake/a", "other/c"), ("fake/small", "fake/a", "fake/cheap")])
    requires = rng.choice([(), (), ("eu",)])
    quota = rng.choice([10**9, 10**9, 400_000, 3_000_000])
    alice = Declared(quota=quota, keys=(KEY,), parent="team", models=allowed, requires=requires)
    team = Group(quota=rng.choice([10**9, 10**9, 300_000, 4_000_000]), parent="org")
    found = Gateway(
        providers=_providers(rng, fake.url, other.url),
        models=MODELS,
        prices=None,
        consumers={"alice": alice},
        accounts={"team": team, "org": Group(quota=rng.choice([10**9, 500_000]))},
        store=store,
        pepper=b"p" * 40,
        budgets=budgets,
        rate_limits=_rate_limits(rng),
        limit_store=limits,
        fallbacks=_fallbacks(rng),
        auto=_policy(rng),
        limits=Limits(clamp=rng.random() < 0.4, clamp_floor=10),
        keep_alive=KeepAlive(after=rng.choice([0.03, 15])),
        cost_in=rng.choice(["header", "usage"]),
    )
    return Made(found, limits, budgets, allowed, requires)


def asked(rng: Random, number: int) -> Asked:
    """A request of alice's, half of them under a key of their own."""
    model = rng.choice(["fake/a", "fake/a", AUTO, AUTO, "other/c", "fake/cheap"])
    words = rng.choice(["Hi", "Hello you " * 20])
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": words}]}
    if rng.random() < 0.8:
        body["max_tokens"] = rng.choice([1, 20, 100, 4000])
    if rng.random() < 0.4:
        body["stream"] = True
        if rng.random() < 0.5:
            body["stream_options"] = {"include_usage": True}
    if rng.random() < 0.3:
        body["models"] = rng.sample(["fake/a", "fake/cheap", "other/c", "other/d", "gone/x"], rng.choice([1, 2]))
    if rng.random() < 0.5:
        body["provider"] = rng.choice(_PREFERENCES)
    path = _spoken(rng, body) if rng.random() < 0.3 else CHAT
    headers = {"apikey": KEY}
    if rng.random() < 0.2:
        headers["x-hpp-router-require"] = "eu"
    if rng.random() < 0.5:
        headers["idempotency-key"] = f"k{number}"
    if rng.random() < 0.3:
        deadline = rng.choice(["timeout", "first-byte-timeout", "idle-timeout"])
        headers[f"x-hpp-router-{deadline}"] = rng.choice(["25", "0.1", "0.03", "0.005"])
    return Asked(path, body, headers, rng.choice([1, 2]) if rng.random() < 0.25 else None)


def scripts(rng: Random) -> list[str]:
    """How six calls are answered, by their names."""
    names = list(SCRIPTS)
    return [rng.choice(names) if rng.random() < 0.65 else rng.choice(["good", "doubtful"]) for _ in range(6)]


def _spoken(rng: Random, body: dict[str, Any]) -> str:
    """Say it in another API's words."""
    body.pop("stream_options", None)
    cap = body.pop("max_tokens", 64)
    path = rng.choice(["/v1/messages", "/v1/responses"])
    if path == "/v1/messages":
        body["max_tokens"] = cap
    else:
        body["input"], body["max_output_tokens"] = body.pop("messages")[0]["content"], max(16, cap)
    return path


def _budgets(rng: Random) -> list[Budget]:
    found: dict[tuple[str, str, str | None], Budget] = {}
    for _ in range(rng.choice([0, 1, 2, 3])):
        model = rng.choice(_BUDGETED)
        period: Literal["day", "month"] = rng.choice(["day", "month"])
        whose = rng.choice([{"consumer": "*"}, {"consumer": "alice"}, {"account": "team"}])
        downgrade = rng.choice([None, None, "fake/cheap", "fake/small", "other/d"])
        budget = Budget(amount=rng.choice(_AMOUNTS), period=period, model=model, downgrade=downgrade, **whose)
        found.setdefault((str(whose), period, model), budget)
    return list(found.values())


def _rate_limits(rng: Random) -> list[RateLimit]:
    found: dict[tuple[str | None, str], RateLimit] = {}
    for _ in range(rng.choice([0, 1, 2, 3])):
        model = rng.choice([None, "fake/a", "fake/*", "other/c", "fake/strong", "other/*"])
        name, figures = rng.choice(
            [("requests_per_day", (1, 3, 50)), ("tokens_per_day", (500, 5000, 10**6)), ("concurrency", (1, 2, 9))]
        )
        figure: dict[str, Any] = {name: rng.choice(figures)}
        found.setdefault((model, name), RateLimit(model=model, **figure))
    return list(found.values())


def _fallbacks(rng: Random) -> dict[str, list[str]]:
    behind = ["fake/a", "fake/cheap", "other/c", "other/d", "gone/x", "fake/strong"]
    drawn = {model: rng.sample(behind, rng.choice([0, 1, 2, 3])) for model in ("fake/a", "fake/cheap", "other/c")}
    found = {model: [each for each in chain if each != model] for model, chain in drawn.items() if rng.random() < 0.7}
    return {model: chain for model, chain in found.items() if chain}


def _providers(rng: Random, fake: str, other: str) -> dict[str, Provider]:
    short = Timeouts(connect=5, first_byte=0.1, idle=0.1, total=rng.choice([0.15, 5]))
    same: dict[str, Any] = {
        "api_key": CANARY,
        "timeouts": short if rng.random() < 0.5 else QUICK,
        "retries": rng.choice([0, 0, 1]),
        "on_disconnect": rng.choice(["cancel", "drain"]),
    }
    if rng.random() < 0.6:
        same["breaker"] = None
    here: dict[str, Any] = {"upstreams": (Upstream(name="v1"), Upstream(name="v2"))} if rng.random() < 0.3 else {}
    there: dict[str, Any] = {}
    if rng.random() < 0.5:
        dear = Upstream(name="u2", price_factor=Decimal(rng.choice([1, 2, 50])))
        how = rng.choice(["weighted", "cheapest", "least_busy", "latency"])
        there = {"upstreams": (Upstream(name="u1"), dear), "choose": how}
    return {
        "fake": Provider(base_url=fake, **same, **here),
        "other": Provider(base_url=other, **same, **there),
        "gone": Provider(base_url=f"http://127.0.0.1:{free_port()}/v1", **same),
    }


def _policy(rng: Random) -> AutoPolicy:
    return AutoPolicy(
        rules_version="v",
        simple=("fake/small",),
        simple_max_tokens=60,
        tiers={"T1": Tier(models=("fake/a",), max_tokens=500), "T3": Tier(models=("fake/strong", "fake/a"))},
        cascade=True,
        cascade_samples=rng.choice([1, 2]),
    )
