"""Whether a cascade's stronger model may be asked, and which of its upstreams is."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from cascading import DOUBT, FINE, GOOD, MODELS, POLICY, SMALL_NANO, STRONG_NANO, answered, cascading, the_entry
from rig import CANARY

from hpp_middleware import Provider
from hpp_middleware.core.auto import Tier
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.upstreams import Upstream

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "provider",
    [
        {"ignore": ["fake/strong"]},
        {"only": ["fake/small"]},
        {"max_price": {"prompt": 1}},
        {"max_price": {"completion": "1.5"}},
        {"allow_fallbacks": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("fails", [False, True])
async def test_a_stronger_model_that_the_client_does_not_want_is_not_asked(
    fake_upstream: FakeUpstream, provider: dict[str, Any], *, fails: bool
) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(Script(status=400) if fails else DOUBT)
        status, headers, body = await answered(found, provider=provider)
        assert "strong" not in [each.json()["model"] for each in fake_upstream.log]
        if not fails:
            assert (status, body["model"], len(fake_upstream.log)) == (200, "fake/small", 1)
            assert (await the_entry(found)).amount == SMALL_NANO == round(float(headers["x-hpp-router-cost"]) * 10**9)


async def test_one_that_the_client_does_want_is(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(DOUBT, GOOD)
        wanted = {"order": ["fake"], "max_price": {"prompt": 20, "completion": 60}}
        assert (await answered(found, provider=wanted))[2]["model"] == "fake/strong"


@pytest.mark.parametrize("first", [DOUBT, Script(status=500)])
async def test_a_stronger_model_with_several_upstreams_is_asked_at_one_of_them(
    fake_upstream: FakeUpstream, first: Script
) -> None:
    upstreams = tuple(Upstream(name=name, price_factor=Decimal(2)) for name in ("north", "south"))
    common: dict[str, Any] = {"base_url": fake_upstream.url, "api_key": CANARY, "breaker": None, "retries": 0}
    async with cascading(
        fake_upstream,
        providers={"fake": Provider(**common), "other": Provider(**common, upstreams=upstreams)},
        models={**MODELS, "other/strong": MODELS["fake/strong"]},
        auto=replace(POLICY, tiers={**POLICY.tiers, "T3": Tier(models=("other/strong",))}),
    ) as found:
        fake_upstream.next(first, GOOD)
        status, _, body = await answered(found)
        assert (status, body["model"]) == (200, "other/strong")
        entry = await the_entry(found)
        assert entry.amount == (SMALL_NANO if first is DOUBT else 0) + 2 * STRONG_NANO
        assert entry.report.attempts[1].upstream in {"north", "south"}


@pytest.mark.parametrize(
    ("scripts", "status", "model"),
    [
        ((FINE,), 200, "fake/small"),
        ((DOUBT, GOOD), 200, "fake/strong"),
        ((DOUBT, Script(status=500)), 200, "fake/small"),
        ((Script(status=500), GOOD), 200, "fake/strong"),
        ((Script(status=500), Script(status=500)), 502, "fake/strong"),
    ],
)
async def test_answers_and_errors_tell_how_many_calls_it_took(
    fake_upstream: FakeUpstream, scripts: Sequence[Script], status: int, model: str
) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(*scripts)
        for _ in range(2):  # the second time it is given again, or run anew
            got, headers, _ = await answered(found, headers={"Idempotency-Key": "k"})
            assert (got, headers["x-hpp-router-resolved-model"]) == (status, model)
            assert headers["x-hpp-router-attempts"] == str(len(scripts))
            fake_upstream.next(*(scripts if status != 200 else ()))
