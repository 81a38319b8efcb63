"""A router with ``hpprouter/auto``, and what its answers say of the choice."""

from typing import Any

from rig import KEY, ask, gateway

from hpp_middleware import Gateway
from hpp_middleware.core.auto import AutoPolicy, Tier
from hpp_middleware.testing import FakeUpstream, post

AUTO = "hpprouter/auto"
NANO = {"tool": (1_000, 2_000), "small": (100, 300), "t1": (500, 700), "t2": (5_000, 9_000), "t3": (20_000, 60_000)}
"""Nano-dollars a token in and out."""
POLICY: dict[str, Any] = {
    "rules_version": "2026-11-01",
    "tool": ("fake/tool",),
    "simple": ("fake/small",),
    "simple_keywords": ("summarize", "translate"),
    "simple_max_tokens": 60,
    "margin": 1.1,
    "tiers": {
        "T1": Tier(models=("fake/t1",), max_tokens=500),
        "T2": Tier(models=("fake/t2",), max_tokens=4000),
        "T3": Tier(models=("fake/t3",)),
    },
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
LONG = "word " * 300
HEADERS = ("resolved-model", "basket", "rule-id", "rules-version", "tier")


def models(**known: dict[str, Any]) -> dict[str, Any]:
    return {
        f"fake/{name}": {"input": str(into / 1000), "output": str(out / 1000), **known.get(name, {})}
        for name, (into, out) in NANO.items()
    }


def routing(
    upstream: FakeUpstream, policy: dict[str, Any] | None = None, known: dict[str, Any] | None = None, **settings: Any
) -> Gateway:
    auto = settings.pop("auto", None) or AutoPolicy(**{**POLICY, **(policy or {})})
    return gateway(upstream, models=models(**(known or {})), auto=auto, **settings)


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def answered(found: Gateway, *, key: str = KEY, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Status, what the headers say of the choice, and the body."""
    async with ask(found, key=key, headers=headers, **{"model": AUTO, **fields}) as call:
        status = await call.started()
        body = await call.read()
        await call.returned()
    told = dict(call.headers)
    return status, {name: told.get(f"x-hpp-router-{name}") for name in HEADERS}, body


def told(model: str, basket: str, rule: str, tier: str | None = None) -> dict[str, str | None]:
    return {
        "resolved-model": f"fake/{model}",
        "basket": basket,
        "rule-id": rule,
        "rules-version": "2026-11-01",
        "tier": tier,
    }


async def explained(found: Gateway, key: str | None = KEY, path: str = "/llm/v1/route", **fields: Any) -> Any:
    body = {"model": AUTO, "messages": user("Hi"), **fields}
    async with post(found.app, path, body, headers={"apikey": key} if key else {}) as call:
        return await call.started(), await call.json()


CASES: list[Any] = [
    ({"tools": [TOOL]}, told("tool", "tool", "tool")),
    ({"messages": user(LONG + "Translate!")}, told("small", "simple", "simple-keyword")),
    ({}, told("small", "simple", "simple-tokens")),
    ({"messages": user(LONG)}, told("t1", "complex", "complex-T1", "T1")),
    ({"messages": user(LONG * 3)}, told("t2", "complex", "complex-T2", "T2")),
    ({"messages": user(LONG * 12)}, told("t3", "complex", "complex-T3", "T3")),
]
TALK = [*user("Hi"), {"role": "assistant", "content": "Yes?"}, *user(LONG)]
