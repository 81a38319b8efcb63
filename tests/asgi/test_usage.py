"""``/api/usage``, ``/api/quota-check`` and ``/api/user/audit``: the figures, fresh, and nobody else's."""

import json
from pathlib import Path
from typing import Any

import pytest
from rig import ALICE, BOB_KEY, KEY, MODEL, USAGE_NANO, ask, check_books, gateway, read, read_chat

from hpp_middleware import Consumer, Gateway, MemoryStore, SQLiteStore
from hpp_middleware.core.auth import make_key
from hpp_middleware.ports import Store
from hpp_middleware.testing import FakeUpstream, Script, get
from hpp_middleware.types.provider import Declared

pytestmark = pytest.mark.anyio

UNTOUCHED = {"has_quota": True, "quota": 10, "used": 0, "remaining": 10, "held": 0, "available": 10}


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "hpp.db")


async def completed(found: Gateway, **settings: Any) -> str:
    """Have one request answered; its id."""
    async with ask(found, **settings) as call:
        await call.read()
        request_id = call.headers["x-request-id"]
        await call.returned()
        return request_id


async def audit(found: Gateway, request_id: str, *, key: str = KEY) -> tuple[int, dict[str, Any]]:
    async with get(found.app, f"/api/user/audit/{request_id}", headers={"apikey": key}) as call:
        return await call.started(), await call.json()


async def test_the_figures_of_a_consumer_that_has_asked_twice(fake_upstream: FakeUpstream, store: Store) -> None:
    async with gateway(fake_upstream, store=store) as found:
        assert await read(found, "/api/quota-check") == UNTOUCHED
        await read_chat(found)
        await read_chat(found, stream=True)
        assert await read(found, "/api/usage") == {
            "consumer_id": "alice",
            "username": None,
            "custom_id": None,
            "quota": 10,
            "used": 0.000026,
            "remaining": 9.999974,
            "requests": 2,
            "total_tokens": 22,
            "total_cost": 0.000026,
        }
        reported = fake_upstream.usage_total()
        assert reported.total == 22
        assert reported.prompt * 1_000 + reported.completion * 2_000 == 2 * USAGE_NANO
        quota = await read(found, "/api/quota-check")
        assert quota == {**UNTOUCHED, "used": 0.000026, "remaining": 9.999974, "available": 9.999974}
        assert await read(found, "/api/quota-check", key=BOB_KEY) == UNTOUCHED
        assert len(await check_books(found)) == 2


async def test_money_is_written_exactly_to_the_nano_dollar(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, nano=9 * 10**15) as found:
        await read_chat(found)
        async with get(found.app, "/api/quota-check", headers={"apikey": KEY}) as call:
            assert b'"remaining":8999999.999987' in await call.read()


async def test_what_is_held_is_shown_while_it_is(fake_upstream: FakeUpstream, store: Store) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    async with gateway(fake_upstream, store=store) as found:
        async with ask(found, stream=True) as call:
            await call.event()
            quota = await read(found, "/api/quota-check")
            assert quota["used"] == 0
            assert quota["held"] > 0
            assert round(quota["available"] * 10**9) == round((quota["remaining"] - quota["held"]) * 10**9)
        assert (await read(found, "/api/quota-check"))["held"] == 0


async def test_an_overage_may_take_the_remaining_below_zero_and_then_there_is_no_quota(
    fake_upstream: FakeUpstream, store: Store
) -> None:
    fake_upstream.script = Script(usage={"prompt_tokens": 9, "completion_tokens": 10**6, "total_tokens": 10**6 + 9})
    async with gateway(fake_upstream, store=store, nano=10**9) as found:
        request_id = await completed(found)
        quota = await read(found, "/api/quota-check")
        assert (quota["has_quota"], quota["remaining"]) == (False, -1.000009)
        figures = await read(found, "/api/usage")
        assert (figures["requests"], figures["total_cost"]) == (1, 2.000009)  # an overage is no request
        _, entry = await audit(found, request_id)
        assert [line["line"] for line in entry["lines"]] == ["resolution", "overage"]
        assert entry["cost"] == 2.000009
        async with ask(found) as call:
            assert await call.started() == 429
            assert call.headers["x-should-retry"] == "false"
            assert (await call.json())["error"]["code"] == "insufficient_quota"
        assert len(await check_books(found)) == 2
    assert len(fake_upstream.log) == 1


async def test_a_quota_of_exactly_what_was_used_is_none(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, consumers={"alice": Declared(keys=(KEY,))}) as found:
        assert (await read(found, "/api/quota-check"))["has_quota"] is False
        await found.accounts.add_quota("alice", "0.000000001")
        assert (await read(found, "/api/quota-check"))["has_quota"] is True


async def test_a_consumer_that_nobody_granted_anything_reads_zeros_and_is_refused(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, authenticate=lambda _: Consumer(id="nobody")) as found:
        assert (await read(found, "/api/usage"))["quota"] == 0
        assert (await read_chat(found))[0] == 429
    assert fake_upstream.log == []


async def test_an_audit_entry_has_what_the_contract_names(fake_upstream: FakeUpstream, store: Store) -> None:
    async with gateway(fake_upstream, store=store, model={"cache_read": "0.1"}) as found:
        details = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 1}}
        fake_upstream.script = Script(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, **details})
        request_id = await completed(found, headers={"x-request-id": "mine-1"})
        status, entry = await audit(found, request_id)
        assert status == 200
        assert (entry["id"], entry["client_request_id"], entry["model"]) == (request_id, "mine-1", MODEL)
        assert (entry["outcome"], entry["estimated"]) == ("completed", False)
        assert entry["usage"] == {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "total_tokens": 11,
            "cached_tokens": 4,
            "cache_write_tokens": 0,
            "reasoning_tokens": 1,
            "input_audio_tokens": 0,
            "output_audio_tokens": 0,
        }
        assert (entry["prices"]["input"], entry["prices"]["cache_read"]) == (1e-06, 1e-07)
        assert round(entry["cost"] * 10**9) == 5 * 1_000 + 4 * 100 + 2 * 2_000
        assert entry["attempts"] == [
            {
                "provider": "fake",
                "model": "fake-1",
                "status": 200,
                "error": None,
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "cost": entry["cost"],
            }
        ]
        assert isinstance(entry["created"], float)


async def test_a_failure_is_in_the_audit_too(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(status=503)
    async with gateway(fake_upstream) as found:
        request_id = await completed(found)
        _, entry = await audit(found, request_id)
        assert (entry["outcome"], entry["cost"]) == ("failed", 0)
        assert entry["attempts"][0]["status"] == 503
        assert (await read(found, "/api/usage"))["requests"] == 1


async def test_another_consumers_entry_is_not_there_even_where_they_share_an_account(
    fake_upstream: FakeUpstream, store: Store
) -> None:
    async with gateway(fake_upstream, store=store) as found:
        request_id = await completed(found)
        assert (await audit(found, request_id))[0] == 200
        others = await audit(found, request_id, key=BOB_KEY)
        nobodys = await audit(found, "req_0000", key=BOB_KEY)
        assert others == nobodys
        assert others[0] == 404
        assert others[1]["error"]["code"] == "not_found"
        with pytest.raises(Exception, match="no such entry"):
            await found.entries(Consumer(id="mallory", account="alice"), request_id)
        assert len(await found.entries(ALICE, request_id)) == 1


@pytest.mark.parametrize(
    "log_id", ["%27%20OR%201=1", "%25", "..", "req_%00", "a" * 5000, "%ff", "req_1%2F..%2F..", "\N{SNOWMAN}"]
)
async def test_an_id_that_is_none_is_a_404(log_id: str, fake_upstream: FakeUpstream, store: Store) -> None:
    async with gateway(fake_upstream, store=store) as found:
        await completed(found)
        raw = log_id if log_id.isascii() else "%E2%98%83"
        status, told = await audit(found, raw)
        assert (status, told["error"]["code"]) == (404, "not_found")


async def test_two_keys_of_one_consumer_share_its_account(fake_upstream: FakeUpstream, store: Store) -> None:
    async with gateway(fake_upstream, store=store) as found:
        made = await found.accounts.create_key("alice")
        await completed(found, key=made.key)
        assert (await read(found, "/api/usage"))["requests"] == 1
        (line,) = await found.store.lines("alice")
        assert line.draft.key_id == made.id
        assert made.key not in json.dumps([str(line)])
        assert make_key(bytes(8), bytes(20))[0] != made.key


@pytest.mark.parametrize("path", ["/api/usage", "/api/quota-check", "/api/user/audit/nothing", "/llm/v1/models"])
async def test_no_cache_keeps_what_is_one_consumers(path: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found, get(found.app, path, headers={"apikey": KEY}) as call:
        assert await call.started() in {200, 404}
        assert call.headers["cache-control"] == "no-store"
