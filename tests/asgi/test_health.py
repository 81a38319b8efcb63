"""``/healthz``: the process answers; ``/readyz``: every store can be read; ``/openapi.json``: where it is mounted."""

import json
from typing import Any

import pytest
from rig import CANARY, Delegate, gateway

from hpp_middleware import Consumer, MemoryStore
from hpp_middleware.testing import FakeUpstream, get
from hpp_middleware.types.consumer import Credential
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.quota import Entry
from hpp_middleware.types.upstreams import Upstream

pytestmark = pytest.mark.anyio

EMPTY = {"pending": 0, "slots": 1024}
UPSTREAMS = {"upstreams": {"fake": {"state": "closed"}}}


async def test_liveness_needs_no_key_and_no_store(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    store.error = OSError()
    async with get(gateway(fake_upstream, store=store).app, "/healthz") as call:
        assert await call.started() == 200
        assert await call.json() == {"status": "ok"}
        assert "x-request-id" in call.headers
    assert store.calls == []


async def test_readiness_needs_no_key_and_writes_no_account(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        for _ in range(2):
            async with get(found.app, "/readyz") as call:
                assert await call.started() == 200
                assert await call.json() == {"status": "ok", "stores": "reachable", "journal": EMPTY, **UPSTREAMS}
        assert await found.store.lines("readyz") == []


class Keys(MemoryStore):
    async def find(self, digest: bytes) -> Credential | None:
        raise OSError(CANARY)


class Lines(MemoryStore):
    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        raise OSError(CANARY)


@pytest.mark.parametrize("part", ["quota", "credentials", "ledger"])
async def test_one_store_that_cannot_be_read_is_enough_not_to_be_ready(part: str, fake_upstream: FakeUpstream) -> None:
    down = Delegate()
    broken = {"quota": down, "credentials": Keys(), "ledger": Lines()}[part]
    settings: dict[str, Any] = {part: broken, **({"ledger": MemoryStore()} if part == "quota" else {})}
    async with gateway(fake_upstream, **settings) as found:
        down.error = OSError(CANARY)
        lease = (await found.worker()).lease
        lease._swept_at = lease._calm_until = float("-inf")
        async with get(found.app, "/readyz") as call:
            assert await call.started() == 503
            assert await call.json() == {
                "status": "unavailable",
                "stores": "unreachable",
                "journal": EMPTY,
                **UPSTREAMS,
            }


async def test_a_store_that_cannot_be_opened_is_not_ready_and_may_come_back(fake_upstream: FakeUpstream) -> None:
    class Late(MemoryStore):
        up = False

        async def open(self) -> None:
            if not self.up:
                raise OSError(CANARY)

    store = Late()
    found = gateway(fake_upstream, store=store)
    async with get(found.app, "/readyz") as call:
        assert await call.started() == 503
    store.up = True
    async with get(found.app, "/readyz") as call:
        assert await call.started() == 200
    assert (await found.balance(Consumer(id="alice"))).quota > 0
    async with found:
        pass


@pytest.mark.parametrize("root", ["", "/ai", "/deep/down"])
async def test_the_document_says_where_the_app_is_mounted(root: str, fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    async with get(found.app, f"{root}/openapi.json", scope={"root_path": root}) as call:
        assert await call.started() == 200
        document = await call.json()
    assert document["servers"] == [{"url": root or "/"}]
    assert document["openapi"].startswith("3.1")


async def test_upstreams_are_shown_by_provider_as_well_as_the_best_of_them_and_change_nothing(
    fake_upstream: FakeUpstream,
) -> None:
    several = (Upstream(name="eu", api_key=f"{CANARY}-eu"), Upstream(name="us"))
    async with gateway(fake_upstream, provider={"upstreams": several, "breaker": Breaker(failures=1)}) as found:
        health = (await found.worker()).health
        for key, state in (("fake#eu", "closed"), ("fake#us", "open")):
            health.began(key, "fake-1").ended(ok=False, status=500)
            async with get(found.app, "/readyz") as call:
                assert await call.started() == 200
                body = await call.read()
            assert json.loads(body)["upstreams"] == {"fake": {"state": state}}
            assert not any(secret in body for secret in (b"eu", b"127.0.0.1", CANARY.encode()))
        health.began("fake#eu", "fake-1").ended(ok=False, status=429, retry_after_s=9)
        states = found.health()
        assert list(states) == ["fake#eu", "fake#us"]
        assert (states["fake#eu"].state, states["fake#eu"].in_flight) == ("open", 0)
        assert 0 < states["fake#eu"].for_s <= 15
        assert 0 < states["fake#eu"].resting["fake-1"] <= 9
