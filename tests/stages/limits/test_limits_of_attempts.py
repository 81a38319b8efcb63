"""Limits of a model's own, where one request is asked of several: each counts what came to it, and is told."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from cascading import DOUBT, GOOD, cascading
from cascading import answered as asked_auto
from chains import A, B, answered, pair
from rig import ALICE, CANARY, MODEL, ask, gateway

from hpp_middleware import Provider
from hpp_middleware.core import windows
from hpp_middleware.core.bound import Bound
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.stages.limits.admission import Admission
from hpp_middleware.stages.settle.settling import Ending, Pending
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.price import Usage
from hpp_middleware.types.upstreams import Upstream
from stages.limiting import Counted, asked, limited

pytestmark = pytest.mark.anyio

FAILS = Script(status=500)
COSTS = Script(status=500, raw_body=b'{"error":{"message":"no"},"usage":{"prompt_tokens":9,"completion_tokens":2}}')


def of_models(*models: str, **figures: Any) -> list[RateLimit]:
    return [RateLimit(model=each, **figures) for each in models]


class Stopped(MemoryLimits):
    """Limits that time does not give back."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())

    def used(self, figure: int) -> Mapping[str, int]:
        """What is missing of each model's window of so many a day."""
        size = windows.size(figure, 86_400, None)
        assert size is not None
        return {name[1].rpartition(":")[2]: level.used // size.each for name, (level, _) in self._levels.items()}


DAY = 10_000


@pytest.mark.parametrize(("first", "tokens"), [(FAILS, 0), (COSTS, A["total_tokens"])])
async def test_the_tokens_of_a_fallback_are_drawn_from_its_own_window_alone(first: Script, tokens: int) -> None:
    store = Stopped()
    limits = [*of_models("fake/a", "other/c", tokens_per_day=DAY), RateLimit(tokens_per_day=DAY)]
    async with pair(rate_limits=limits, limit_store=store) as found:
        found.fake.script = first
        assert (await answered(found.gateway))[0] == 200
    assert store.used(DAY) == {"fake/a": tokens, "other/c": B["total_tokens"], "": tokens + B["total_tokens"]}


async def test_a_cascades_tokens_are_each_models_own(fake_upstream: FakeUpstream) -> None:
    store = Stopped()
    limits = [*of_models("fake/small", "fake/strong", tokens_per_day=DAY), RateLimit(tokens_per_day=DAY)]
    async with cascading(fake_upstream, rate_limits=limits, limit_store=store) as found:
        fake_upstream.next(DOUBT, GOOD)
        assert (await asked_auto(found))[0] == 200
    assert store.used(DAY) == {"fake/small": 38, "fake/strong": 46, "": 84}


async def test_a_model_that_was_asked_keeps_its_request_where_its_other_upstream_is_not() -> None:
    async with FakeUpstream() as fake, FakeUpstream() as other:
        upstreams = (Upstream(name="near"), Upstream(name="dear", price_factor=Decimal(1000)))
        common: dict[str, Any] = {"api_key": CANARY, "retries": 0, "breaker": None}
        providers = {
            "fake": Provider(base_url=fake.url, **common),
            "other": Provider(base_url=other.url, upstreams=upstreams, choose="cheapest", **common),
        }
        limits = of_models("other/c", requests_per_day=1)
        models = {each: {"input": "1", "output": "2"} for each in ("fake/a", "other/c")}
        fake.script = other.script = FAILS
        given: dict[str, Any] = {"providers": providers, "models": models, "nano": 10**7}
        async with pair(rate_limits=limits, limit_store=Stopped(), **given) as found:
            for _ in range(2):
                assert (await answered(found.gateway))[0] == 502
            assert (len(fake.log), len(other.log)) == (2, 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_answers_and_errors_of_a_fallback_tell_of_its_windows(*, stream: bool, fails: bool) -> None:
    limits = [RateLimit(requests_per_day=9), *of_models("other/c", requests_per_day=3, tokens_per_day=DAY)]
    async with pair(rate_limits=limits, limit_store=Stopped()) as found:
        found.fake.script = FAILS
        found.other.script = FAILS if fails else found.other.script
        async with ask(found.gateway, model="fake/a", stream=stream) as call:
            assert await call.started() == (502 if fails else 200)
            await call.read()
            await call.returned()
        told = {name.removeprefix("x-ratelimit-"): value for name, value in call.headers.items() if "ratelimit" in name}
        assert (told["limit-requests"], told["remaining-requests"]) == ("3", "2")
        assert told["limit-tokens"] == str(DAY)


async def test_a_fallback_takes_its_own_limits_or_is_passed_over(fake_upstream: FakeUpstream) -> None:
    store = Counted()
    price = {"input": "1", "output": "2"}
    models = {MODEL: price, "fake/fake-2": price}
    async with limited(
        *(
            fake_upstream,
            RateLimit(concurrency=9),
            RateLimit(model="fake/fake-2", concurrency=1, requests_per_minute=9),
        ),
        store=store,
        models=models,
        model=None,
    ) as found:
        worker = await found.worker()
        assert worker.limiter is not None
        bound = Bound(want=1, floor=1, prompt=1, out_rate=1, cap=5, n=1, ours=False, prompt_estimate=1, orphan_amount=0)
        seen: list[bool] = []

        class Client:
            patient = started = False

        def admission(number: int) -> Admission:
            client: Any = Client()
            assert worker.limiter is not None
            return Admission(worker.limiter, ALICE, MODEL, bound, client, request_id=f"r{number}", api="chat")

        class Ended:
            ending, error, exchanges = Ending(Pending(), ALICE.account), None, ("the only one",)

        async def work(mine: Admission) -> Any:
            seen.append(await mine.also("fake/fake-2", bound))
            seen.append(await mine.also("fake/fake-2", bound))  # what it has is not taken twice
            other = admission(2)
            seen.append(await other.also("fake/fake-2", bound))
            assert store.places == 2
            return Settlement(1, "completed", estimated=False, usage=Usage(input=1))

        mine, exchange = admission(1), Ended()
        ended: Any = exchange
        await mine.around(ended, lambda: work(mine))
        assert seen == [True, True, False]
        assert store.places == 0


async def test_a_fallback_whose_own_limit_is_reached_is_not_asked(fake_upstream: FakeUpstream) -> None:
    store, price = Counted(), {"input": "1", "output": "2"}
    own = RateLimit(model="other/c", requests_per_minute=1, concurrency=1)
    fake_upstream.script = Script(status=500)
    async with FakeUpstream() as other:
        places = {"fake": fake_upstream.url, "other": other.url}
        async with gateway(
            fake_upstream,
            providers={name: Provider(base_url=url, retries=0) for name, url in places.items()},
            models={MODEL: price, "other/c": price},
            fallbacks={MODEL: ["other/c"]},
            rate_limits=[own],
            limit_store=store,
        ) as found:
            status, headers, _ = await asked(found)
            assert (status, headers["x-hpp-router-resolved-model"]) == (200, "other/c")
            assert store.places == 0
            status, headers, _ = await asked(found)
            assert (status, headers["x-hpp-router-resolved-model"]) == (502, MODEL)
            assert len(other.log) == 1
            store.clock.now += 60
            assert (await asked(found))[0] == 200


async def test_a_fallback_that_there_is_no_quota_for_has_its_limits_back(fake_upstream: FakeUpstream) -> None:
    store, price, dear = Counted(), {"input": "1", "output": "2"}, {"input": "1000", "output": "2000"}
    own = RateLimit(model="other/c", requests_per_minute=1, tokens_per_minute=1000, concurrency=1)
    fake_upstream.script = Script(status=500)
    async with FakeUpstream() as other:
        places = {"fake": fake_upstream.url, "other": other.url}
        async with gateway(
            fake_upstream,
            nano=10**7,
            providers={name: Provider(base_url=url, retries=0) for name, url in places.items()},
            models={MODEL: price, "other/c": dear},
            fallbacks={MODEL: ["other/c"]},
            rate_limits=[own],
            limit_store=store,
        ) as found:
            for _ in range(2):
                assert (await asked(found))[0] == 502
            assert (len(other.log), store.places) == (0, 0)
            assert all(level.used == 0 for level, _ in store._levels.values())
            assert len(store._levels) == 2
