"""What Prometheus reads agrees with the ledger, and no label is a client's."""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest
from background import BackgroundUpstream
from prometheus_client import CollectorRegistry, generate_latest
from rig import ALICE, BOB_KEY, KEY, MODEL, ask, gateway, question, read_chat
from scraping import Scrape
from servers import serve

from hpp_middleware.asgi.metrics import Metrics
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.observers.prometheus import BUCKETS_S, PrometheusObserver
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.events import Alarm, Settled, Shadowed
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Model
from hpp_middleware.types.quota import Draft, Entry, LineClass, Outcome, Report
from hpp_middleware.types.upstreams import Upstream

TOKEN = "prometheus-shows-this-token"
LISTED = Price(base=Rates(input=10**12, output=2 * 10**12))
SECONDS = 60
FAKE = {"provider": "fake", "model": "fake-1"}


class Patterned:
    """A price list of two names, that takes every other one which begins alike, and does not say for which."""

    def find(self, _provider: str, model: str) -> tuple[Price, Model] | None:
        return (LISTED, Model()) if model.startswith("fake-") else None

    def models(self, _provider: str) -> Sequence[str]:
        return ["fake-1", "fake-2"]


class Served:
    """A gateway on a real server, and what is asked of it over HTTP."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client

    def chat(self, *, key: str = KEY, **fields: Any) -> int:
        answer = self.client.post("/llm/v1/chat/completions", headers={"apikey": key}, json=question(**fields))
        return answer.status_code

    def scraped(self, until: Callable[[Scrape], bool] = lambda _: True) -> Scrape:
        """A scrape, once it is so: an answer has ended a moment before it is settled."""
        give_up = time.monotonic() + SECONDS
        while True:
            answer = self.client.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            found = Scrape(answer.text)
            if until(found):
                return found
            assert time.monotonic() < give_up, answer.text
            time.sleep(0.01)


def test_a_scrape_agrees_with_the_ledger(background_upstream: BackgroundUpstream) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 1}}
    detailed = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, **details}
    breaker = Breaker(failures=4, cooldown=600, longest=600, window=600)
    found = gateway(
        background_upstream.url,
        provider={"retries": 1, "breaker": breaker},
        metrics=Metrics(PrometheusObserver()),
    )
    broken = Script(status=500)
    with serve(found.app) as url, httpx2.Client(base_url=url, trust_env=False, timeout=SECONDS) as client:
        served = Served(client)
        assert served.chat() == 200
        background_upstream.next(Script(usage=detailed))
        assert served.chat(stream=True) == 200
        background_upstream.next(Script(usage=None))
        assert served.chat() == 200  # charged by an estimate
        background_upstream.next(broken)
        assert served.chat() == 200  # by its retry
        background_upstream.next(Script(truncate_after_events=1))
        assert served.chat(stream=True) == 200  # broke off
        assert served.chat(key="a-key-that-nobody-has-given") == 401
        assert served.chat(model="nobody/knows") == 400
        background_upstream.next(*[broken] * 4)
        assert [served.chat(), served.chat()] == [502, 502]
        assert served.chat() == 503  # it is left alone
        scrape = served.scraped(lambda each: each.sum("requests_total") == 7 and each.sum("refusals_total") == 3)
        usage = client.get("/api/usage", headers={"apikey": KEY}).json()

    assert usage["requests"] == 7
    assert scrape.sum("requests_total", outcome="completed", status="200", **FAKE) == 4
    assert scrape.sum("requests_total", outcome="failed", status="500") == 2
    assert scrape.sum("charged_nanodollars_total", **FAKE) == round(usage["used"] * 10**9) > 0
    assert scrape.sum("credited_nanodollars_total") == 0
    assert scrape.sum("tokens_total", **FAKE) == usage["total_tokens"] > 0
    assert scrape.sum("tokens_total", type="input") > scrape.sum("tokens_total", type="output")
    assert scrape.sum("token_details_total", type="cache_read") == 4
    assert scrape.sum("token_details_total", type="reasoning") == 1
    assert scrape.sum("requests_estimated_total") >= 2

    attempts = scrape.sum("attempts_total", upstream="fake")
    assert attempts == len(background_upstream.log) == scrape.sum("requests_total") + scrape.sum("retries_total")
    assert (scrape.sum("attempts_total", status="500"), scrape.sum("attempts_total", status="500", error="")) == (4, 0)
    assert scrape.sum("retries_total") == 2

    assert scrape.sum("refusals_total", code="unauthorized", status="401") == 1
    assert scrape.sum("refusals_total", code="unsupported_model", status="400") == 1
    assert scrape.sum("refusals_total", code="upstream_unavailable", status="503") == 1
    assert scrape.sum("alarms_total", kind="missing_usage") == 1
    assert scrape.sum("upstream_changes_total", upstream="fake", state="open") == 1
    assert scrape.sum("upstream_state", upstream="fake", state="open") == 1
    assert scrape.sum("upstream_state", upstream="fake") == 1

    assert scrape.sum("request_duration_seconds_count", **FAKE) == 7
    assert scrape.sum("time_to_first_chunk_seconds_count", **FAKE) == 2
    assert scrape.values("le") == {*(str(round(bound, 2)) for bound in BUCKETS_S), "+Inf"}
    assert (scrape.sum("in_flight"), scrape.sum("queued"), scrape.sum("held_nanodollars")) == (0, 0, 0)
    for secret in (KEY, "alice", "Hi", "nobody"):
        assert secret not in scrape.text


def scraped(observer: PrometheusObserver) -> Scrape:
    return Scrape(observer.scrape()[0].decode())


@pytest.mark.anyio
async def test_what_a_gateway_is_doing_is_read_when_it_is_asked_for(fake_upstream: FakeUpstream) -> None:
    observer = PrometheusObserver()
    upstreams = (Upstream(name="eu"), Upstream(name="us"))
    async with gateway(fake_upstream, observers=[observer], provider={"upstreams": upstreams}) as found:
        fake_upstream.holding = True
        async with ask(found) as call:
            await fake_upstream.arrived()
            busy = scraped(observer)
            worker = await found.worker()
            (hold,) = [exchange.job.hold for exchange in worker.answering._live]  # type: ignore[attr-defined]
            fake_upstream.holding = False
            assert await call.started() == 200
            await call.read()
            await call.returned()
        idle = scraped(observer)
    assert (busy.sum("in_flight"), busy.sum("held_nanodollars")) == (1, hold)
    assert hold > 0
    assert busy.sum("upstream_in_flight") == 1
    assert (busy.sum("places"), busy.sum("journal_slots"), busy.sum("draining")) == (1000, 1024, 0)
    assert busy.values("upstream") == {"fake#eu", "fake#us"}
    assert busy.sum("upstream_state", state="closed") == 2
    assert (idle.sum("in_flight"), idle.sum("held_nanodollars"), idle.sum("upstream_in_flight")) == (0, 0, 0)
    assert idle.sum("requests_total", outcome="completed") == 1
    assert idle.values("upstream") == {"fake#eu", "fake#us"}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_client_makes_no_label(fake_upstream: FakeUpstream, anyio_backend: str) -> None:
    observer = PrometheusObserver()
    fake_upstream.script = Script(status=404)
    async with gateway(fake_upstream, observers=[observer], prices=Patterned()) as found:
        for name in ("fake-1", "fake-2", "fake-made-up", "fake-and-another"):
            assert (await read_chat(found, model=f"fake/{name}"))[0] == 404
        async with post(found.app, "/a/path/that/is/none", headers={"apikey": BOB_KEY}) as call:
            assert await call.started() == 404
    scrape = scraped(observer)
    assert scrape.values("model") == {"fake-1", "fake-2", "other"}
    assert scrape.sum("requests_total", model="other", status="404") == 2
    assert scrape.sum("refusals_total", code="not_found") == 1


def lines(outcome: Outcome, *amounts: tuple[LineClass, int]) -> tuple[Entry, ...]:
    draft = Draft(consumer="alice", model=MODEL, requested_model=MODEL, price=LISTED)
    report = Report(outcome=outcome, estimated=True, usage=Usage(input=7))
    return tuple(
        Entry(
            id=f"req_1:{line}",
            hold="req_1",
            line=line,
            account="alice",
            seq=seq,
            amount=amount,
            held=100,
            created=0.0,
            draft=draft,
            report=report,
        )
        for seq, (line, amount) in enumerate(amounts, 1)
    )


def test_a_hold_that_expired_and_its_correction_are_one_request(background_upstream: BackgroundUpstream) -> None:
    observer = PrometheusObserver()
    found = gateway(background_upstream.url, observers=[observer])
    ended: tuple[tuple[Outcome, tuple[tuple[LineClass, int], ...]], ...] = (
        ("orphaned", (("resolution", 100),)),
        ("completed", (("correction", -60),)),
        ("completed", (("resolution", 100), ("overage", 5))),
    )
    for outcome, written in ended:
        observer.observe(Settled(entries=lines(outcome, *written), held=0, duration_s=1.0, first_byte_s=None))
    observer.observe(Alarm(kind="overage", request_id="req_1", detail="5 nano-dollars over the hold"))
    scrape = scraped(observer)
    assert scrape.sum("charged_nanodollars_total", **FAKE) - scrape.sum("credited_nanodollars_total", **FAKE) == 145
    assert (scrape.sum("requests_total"), scrape.sum("holds_expired_total")) == (2, 1)
    assert (scrape.sum("tokens_total"), scrape.sum("request_duration_seconds_count")) == (14, 1)
    assert scrape.sum("alarms_total", kind="overage") == 1
    del found


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_one_observer_counts_for_several_gateways_and_keeps_none_alive(
    fake_upstream: FakeUpstream, anyio_backend: str
) -> None:
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    async with (
        gateway(fake_upstream, observers=[observer]) as one,
        gateway(fake_upstream, observers=[observer]) as other,
    ):
        for found in (one, other):
            assert (await found.complete(ALICE, question())).status == 200
        scrape = Scrape(generate_latest(registry).decode())
        assert (scrape.sum("requests_total"), scrape.sum("places")) == (2, 2000)
    del one, other, found
    gc.collect()
    assert list(observer._gateways) == []
    with pytest.raises(ConfigurationError, match="registry has an observer's figures already"):
        PrometheusObserver(registry)


def test_choices_that_a_shadow_would_have_made_too_are_told_from_others() -> None:
    observer = PrometheusObserver()
    for shadow in ("fake/a", "fake/b", None):
        observer.observe(Shadowed(request_id="r", consumer="alice", model="fake/a", rule="r", shadow=shadow))
    scrape = Scrape(observer.scrape()[0].decode())
    assert (scrape.sum("shadowed_total", alike="true"), scrape.sum("shadowed_total", alike="false")) == (1, 2)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'hpp_middleware\[prometheus\]'"):
        PrometheusObserver()
