"""Several keys, regions or deployments of a provider: who is asked, who takes over, and what each costs."""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import anyio
import pytest
from rig import CANARY, USAGE_NANO, Witness, ask, check_books, gateway, read_chat

from hpp_middleware import Provider
from hpp_middleware.asgi.app import Gateway
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.observers.logging import LoggingObserver
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.upstreams import Upstream

pytestmark = pytest.mark.anyio

NAMES = ("eu-1", "us-2", "asia")
BREAKER = Breaker(failures=3, cooldown=600, window=600, longest=600)


class Upstreams:
    """Fake upstreams, and one gateway whose provider has them all."""

    def __init__(self, fakes: Sequence[FakeUpstream]) -> None:
        self.fakes = dict(zip(NAMES, fakes, strict=False))

    def gateway(
        self, *, choose: str = "weighted", each: dict[str, dict[str, Any]] | None = None, **more: Any
    ) -> Gateway:
        ups = tuple(
            Upstream(name=name, **{"base_url": fake.url, "api_key": f"key-of-{name}", **(each or {}).get(name, {})})
            for name, fake in self.fakes.items()
        )
        provider = {"upstreams": ups, "choose": choose, "breaker": BREAKER, **more.pop("provider", {})}
        return gateway("http://127.0.0.1:9/v1", provider=provider, **more)

    @property
    def asked(self) -> Counter[str]:
        return Counter({name: len(fake.log) for name, fake in self.fakes.items()})


@pytest.fixture
async def two(fake_upstream: FakeUpstream) -> Any:
    async with AsyncExitStack() as stack:
        yield Upstreams([fake_upstream, await stack.enter_async_context(FakeUpstream())])


async def attempts(found: Gateway) -> list[tuple[str | None, int | None]]:
    """Upstream and status of each attempt of the last entry."""
    lines = await check_books(found)
    return [(each.upstream, each.status) for each in lines[-1].report.attempts]


async def test_each_is_sent_its_own_key_and_the_ledger_says_which_it_was(two: Upstreams) -> None:
    found = two.gateway(each={"us-2": {"headers": {"X-Region": "us"}}}, provider={"headers": {"X-Team": "ours"}})
    for _ in range(16):
        assert (await read_chat(found))[0] == 200
    for name, fake in two.fakes.items():
        assert {each.header("authorization") for each in fake.log} == {f"Bearer key-of-{name}"}
        assert {each.header("x-team") for each in fake.log} == {"ours"}
    assert {each.header("x-region") for each in two.fakes["us-2"].log} == {"us"}
    lines = await check_books(found)
    assert Counter(line.report.attempts[0].upstream for line in lines) == two.asked
    assert {line.report.attempts[0].provider for line in lines} == {"fake"}


async def test_one_that_fails_before_its_answer_is_replaced_by_another(two: Upstreams) -> None:
    found = two.gateway(choose="cheapest", each={"us-2": {"price_factor": Decimal("1.1")}})
    page = Script(raw_body=b"<html>", content_type="text/html")
    for script in (Script(status=500), Script(status=429), page, Script(status=502), Script(status=503)):
        two.fakes["eu-1"].next(script)
        async with ask(found) as call:
            assert await call.started() == 200
            body = await call.read()
        assert b"us-2" not in body.replace(b"usage", b"")
        (worker := await found.worker()).health._watched["fake#eu-1"].rests.clear()
        assert [upstream for upstream, _ in await attempts(found)] == ["eu-1", "us-2"]
    assert two.asked == {"eu-1": 5, "us-2": 5}
    assert worker.health.admits("fake#eu-1") > 0, "three failures in a row"
    lines = await check_books(found)
    assert [line.amount for line in lines] == [USAGE_NANO * 11 // 10] * 5


async def test_what_costs_more_there_is_held_for_and_billed_so(two: Upstreams) -> None:
    dear = {"price_factor": Decimal("2.5")}
    found = two.gateway(each={"eu-1": dear, "us-2": dear}, nano=10**9)
    plain = gateway(two.fakes["eu-1"], nano=10**9)
    assert (await read_chat(found))[0] == (await read_chat(plain))[0] == 200
    (line,), (other,) = await check_books(found), await check_books(plain)
    assert line.amount * 2 == USAGE_NANO * 5
    assert other.amount == USAGE_NANO
    assert line.held > 2 * other.held
    assert line.draft.price.base.output == 5 * 10**12


async def test_a_key_over_its_limit_rests_and_the_other_serves(two: Upstreams) -> None:
    found = two.gateway(choose="cheapest", each={"us-2": {"price_factor": Decimal(2)}})
    two.fakes["eu-1"].next(Script(status=429, headers=[("Retry-After", "500")]))
    for _ in range(5):
        assert (await read_chat(found))[0] == 200
    assert two.asked == {"eu-1": 1, "us-2": 5}


async def test_one_that_is_left_alone_gets_nothing_and_all_of_them_are_a_503(two: Upstreams) -> None:
    witness = Witness()
    found = two.gateway(observers=[witness], each={"us-2": {"weight": 1e-9}})
    health = (await found.worker()).health
    for _ in range(3):
        health.began("fake#eu-1").ended(ok=False, status=500)
    for _ in range(5):
        assert (await read_chat(found))[0] == 200
    assert two.asked == {"eu-1": 0, "us-2": 5}
    for _ in range(3):
        health.began("fake#us-2").ended(ok=False, status=500)
    async with ask(found) as call:
        assert await call.started() == 503
        assert int(call.headers["retry-after"]) <= 600
        body = await call.read()
    assert b"upstream_unavailable" in body
    assert b"#" not in body
    assert two.asked == {"eu-1": 0, "us-2": 5}
    assert len(await check_books(found)) == 5


async def test_a_refusal_that_every_key_would_get_is_not_asked_of_the_next(two: Upstreams) -> None:
    found = two.gateway()
    for fake in two.fakes.values():
        fake.script = Script(status=400)
    assert (await read_chat(found))[0] == 400
    assert sum(two.asked.values()) == 1


async def test_no_upstreams_words_show_its_key(two: Upstreams) -> None:
    found = two.gateway(choose="cheapest", each={"us-2": {"price_factor": Decimal(2)}})
    two.fakes["eu-1"].next(Script(status=400, error={"error": {"message": "key-of-eu-1 at your service"}}))
    status, body = await read_chat(found)
    assert status == 400
    assert b"key-of-eu-1" not in body
    assert b"at your service" in body


async def test_slow_streams_are_shared_out_by_who_is_less_busy(two: Upstreams) -> None:
    found = two.gateway(choose="least_busy")
    for fake in two.fakes.values():
        fake.script = Script(stall_after_events=1)
    calls = []
    async with AsyncExitStack() as stack:
        for _ in range(8):
            call = await stack.enter_async_context(ask(found, stream=True))
            assert await call.started() == 200
            calls.append(call)
        assert two.asked == {"eu-1": 4, "us-2": 4}
        for call in calls:
            call.disconnect()
            await call.returned()
    health = (await found.worker()).health
    assert [health._watched[f"fake#{name}"].in_flight for name in ("eu-1", "us-2")] == [0, 0]


async def test_the_one_that_answers_sooner_is_asked_for_streams(two: Upstreams) -> None:
    found = two.gateway(choose="latency")
    health = (await found.worker()).health
    health._chance = lambda: 0.5  # nobody explores
    for name, seconds in (("eu-1", 3.0), ("us-2", 0.1)):
        health.began(f"fake#{name}", "fake-1").answering(seconds)
    for _ in range(6):
        assert (await read_chat(found, stream=True))[0] == 200
    assert two.asked == {"eu-1": 0, "us-2": 6}
    assert health._watched["fake#us-2"].paces["fake-1", True][0] != 0.1


async def test_no_request_is_lost_while_upstreams_fail_and_recover(two: Upstreams) -> None:
    found = two.gateway(provider={"breaker": Breaker(failures=2, cooldown=0.05, longest=0.05, rest=0.01)})
    for number in range(6):
        two.fakes["eu-1"].next(*[Script(status=503)] * number, Script())
        statuses: list[int] = []

        async def one() -> None:
            statuses.append((await read_chat(found))[0])  # noqa: B023  # it ends within the turn

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(one)
        assert statuses == [200] * 4
    lines = await check_books(found)
    assert [line.amount for line in lines] == [USAGE_NANO] * 24
    made = [each for line in lines for each in line.report.attempts if each.error != "upstream_unavailable"]
    sent = Counter(each.upstream for each in made)
    assert sent == two.asked


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a", "weight": 0}, "weight"),
        ({"name": "a", "weight": float("nan")}, "weight"),
        ({"name": "a", "price_factor": Decimal(-1)}, "price_factor"),
        ({"name": "a", "price_factor": Decimal("NaN")}, "price_factor"),
        ({"name": "a", "price_factor": Decimal("1.0000000001")}, "price_factor"),
    ],
)
def test_an_upstream_that_cannot_be_is_refused_by_its_field(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Upstream(**wrong)
    assert error.value.param == param


@pytest.mark.parametrize(
    ("upstreams", "more", "param"),
    [
        ([{"name": "a"}, {"name": "a"}], {}, "upstreams[1].name"),
        ([{"name": "a", "base_url": "ftp://x"}], {}, "upstreams[0].base_url"),
        ([{"name": "a"}, {"name": "b", "api_key": "é"}], {}, "upstreams[1].api_key"),
        ([{"name": "a"}], {"choose": "best"}, "choose"),
    ],
)
def test_a_providers_upstreams_are_checked_each(upstreams: Any, more: Any, param: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Provider(base_url="https://p.test", upstreams=tuple(Upstream(**each) for each in upstreams), **more)
    assert error.value.param == param


def test_what_an_upstream_lacks_for_its_dialect_is_named_with_its_place() -> None:
    upstreams = (Upstream(name="a", options={"region": "eu-west-1"}), Upstream(name="b", options={"rigeon": "x"}))
    provider = Provider(base_url="https://b.test", dialect="bedrock", api_key=CANARY, upstreams=upstreams)
    with pytest.raises(ConfigurationError, match=r"providers\.aws\.upstreams\[1\]\.options\.rigeon"):
        Gateway(providers={"aws": provider}, prices=None)


async def test_the_log_says_which_it_was(two: Upstreams, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hpp_middleware")
    found = two.gateway(observers=[LoggingObserver()], each={"us-2": {"weight": 1e-9}})
    await read_chat(found)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "hpp_middleware"]
    assert " fake/fake-1 at eu-1 11 tokens " in line
