"""Parents and budgets, end to end: what does not fit is refused by level, lowered, or asked of a cheaper model."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio
import pytest
from rig import ALICE, BOB_KEY, KEY, MODEL, USAGE_NANO, ask, check_books, gateway, question, read

from hpp_middleware import ConfigurationError, Consumer, Gateway, Provider, RequestError
from hpp_middleware.catalog.genai import GenaiPrices
from hpp_middleware.stages.reserve.ceilings import Ceilings
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.provider import Declared, Limits

pytestmark = pytest.mark.anyio

CHEAP = "fake/cheap"
DOLLAR = 10**9
HELD = 245_000
"""About what a question holds, in nano-dollars: a hundred tokens at $2 a million, and some for the prompt."""


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def grouped(
    upstream: FakeUpstream,
    *,
    team: int = DOLLAR,
    org: int = DOLLAR,
    budgets: Sequence[Budget] = (),
    clock: Clock | None = None,
    declared: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Gateway:
    """Alice and Bob of one team of one organisation, and a cheaper model."""
    consumers = {
        "alice": Declared(quota=DOLLAR, keys=(KEY,), parent="team", **(declared or {})),
        "bob": Declared(quota=DOLLAR, keys=(BOB_KEY,), parent="team"),
    }
    groups = {"team": Group(quota=team, parent="org"), "org": Group(quota=org)}
    found = gateway(
        upstream,
        consumers=consumers,
        accounts=groups,
        budgets=budgets,
        models={
            MODEL: {"input": "1", "output": "2"},
            CHEAP: {"input": "0.1", "output": "0.2"},
            "fake/toolless": {"input": "0.1", "output": "0.2", "tool": False},
        },
        **settings,
    )
    if clock is not None:
        found.setup.ceilings = Ceilings(groups, budgets, consumers, clock=clock)
    return found


async def asked(found: Gateway, *, key: str = KEY, **fields: Any) -> tuple[int, Any, Any]:
    async with ask(found, key=key, **fields) as call:
        status = await call.started()
        body = await call.read()
        await call.returned()
        return status, call.headers, json.loads(body)


# --- parents --------------------------------------------------------------------------------------


async def test_what_is_spent_is_spent_in_every_account_above(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream)
    for key in (KEY, KEY, BOB_KEY):
        assert (await asked(found, key=key))[0] == 200
    for account, times in (("alice", 2), ("bob", 1), ("team", 3), ("org", 3)):
        balance = await found.store.balance(account)
        assert (balance.used, balance.held) == (times * USAGE_NANO, 0)
    lines = await check_books(found)
    assert [line.draft.also for line in lines] == [("team", "org")] * 2
    usage = await read(found, "/api/usage")
    assert (usage["requests"], round(usage["used"] * DOLLAR)) == (2, 2 * USAGE_NANO)


@pytest.mark.parametrize(("short", "team", "org"), [("team", 1000, DOLLAR), ("org", DOLLAR, 1000)])
async def test_a_refusal_names_the_level_and_no_figure(
    short: str, team: int, org: int, fake_upstream: FakeUpstream
) -> None:
    found = grouped(fake_upstream, team=team, org=org)
    status, headers, body = await asked(found)
    assert (status, body["error"]["code"], headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    assert f"{short}, which you belong to" in body["error"]["message"]
    assert "0.00" not in body["error"]["message"]
    assert fake_upstream.log == []
    assert (await read(found, "/api/quota-check"))["available"] == 1
    for account in ("alice", "team", "org"):
        assert (await found.store.balance(account)).held == 0


async def test_a_team_is_never_oversold_by_its_members(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, team=4 * HELD)
    fake_upstream.script = Script(delay_head_s=0.2)
    statuses = []

    async def one(key: str) -> None:
        statuses.append((await asked(found, key=key))[0])

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(one, KEY if number % 2 else BOB_KEY)
    assert set(statuses) == {200, 429}
    team = await found.store.balance("team")
    assert team.used == statuses.count(200) * USAGE_NANO <= team.quota


async def test_a_key_that_was_made_meanwhile_is_in_its_team(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream)
    async with found:
        made = await found.accounts.create_key("carol", quota="1", parent="team")
        assert (await asked(found, key=made.key))[0] == 200
        again = await found.accounts.create_key("carol")
        assert (await asked(found, key=again.key))[0] == 200
        for account in ("carol", "team", "org"):
            assert (await found.store.balance(account)).used == 2 * USAGE_NANO
        more = await found.accounts.create_key("alice")  # the file says whose she is
        assert (await asked(found, key=more.key))[0] == 200
        assert (await found.store.balance("team")).used == 3 * USAGE_NANO


async def test_a_parent_that_cannot_be_kept_is_refused(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream)
    with pytest.raises(RequestError, match=r"consumer\.parents"):
        await found.complete(Consumer(id="alice", parents=("x\0",)), question())


# --- budgets --------------------------------------------------------------------------------------


async def test_a_budget_is_used_up_and_renewed(fake_upstream: FakeUpstream) -> None:
    clock = Clock(at("2026-11-29T23:58:30+01:00"))
    day = Budget(amount=HELD + 20_000, period="day", consumer="*", timezone="Europe/Berlin")
    found = grouped(fake_upstream, budgets=[day], clock=clock)
    statuses = [(await asked(found))[0] for _ in range(3)]
    assert statuses == [200, 200, 429]
    _, headers, body = await asked(found)
    assert body["error"]["message"].endswith("the daily budget of alice. It is renewed at 2026-11-30T00:00:00+01:00.")
    assert (headers["retry-after"], headers["x-should-retry"]) == ("90", "false")
    assert (await asked(found, key=BOB_KEY))[0] == 200, "everybody has one of their own"
    clock.now += 90
    assert (await asked(found))[0] == 200
    for key, times in (("2026-11-29", 2), ("2026-11-30", 1)):
        balance = await found.store.balance(f"alice/~day:{key}")
        assert (balance.quota, balance.used, balance.held) == (day.amount, times * USAGE_NANO, 0)
    assert (await found.store.balance("alice")).used == 3 * USAGE_NANO


async def test_a_hold_is_settled_in_the_period_that_it_was_placed_in(fake_upstream: FakeUpstream) -> None:
    clock = Clock(at("2026-11-30T23:59:59+00:00"))
    month = Budget(amount=DOLLAR, period="month", account="team")
    found = grouped(fake_upstream, budgets=[month], clock=clock)
    fake_upstream.script = Script(delay_head_s=0.3)
    async with ask(found, stream=True) as call:
        assert await call.started() == 200
        clock.now += 2
        assert (await found.store.balance("team/~month:2026-11")).held > 0
        await call.read()
        await call.returned()
    assert (await found.store.balance("team/~month:2026-11")).used == USAGE_NANO
    assert (await found.store.balance("team/~month:2026-12")).used == 0


async def test_a_budget_of_a_model_leaves_the_others_alone(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, budgets=[Budget(amount=0, period="week", consumer="alice", model="fake/fake-*")])
    status, _, body = await asked(found)
    assert status == 429
    assert "the weekly budget for fake/fake-* of alice" in body["error"]["message"]
    assert (await asked(found, model=CHEAP))[0] == 200
    assert (await asked(found, key=BOB_KEY))[0] == 200


# --- downgrade ------------------------------------------------------------------------------------


async def test_over_budget_a_cheaper_model_is_asked(fake_upstream: FakeUpstream) -> None:
    day = Budget(amount=100_000, period="day", consumer="*", downgrade=CHEAP)
    found = grouped(fake_upstream, budgets=[day])
    status, headers, body = await asked(found)
    assert (status, body["model"]) == (200, CHEAP)
    assert headers["x-hpp-router-resolved-model"] == CHEAP
    assert headers["x-hpp-router-downgraded"] == "budget"
    assert json.loads(fake_upstream.log[0].body)["model"] == "cheap"
    (line,) = await check_books(found)
    assert (line.draft.model, line.draft.requested_model) == (CHEAP, MODEL)
    assert (line.draft.downgraded or "").startswith("alice/~day:")
    assert line.amount == USAGE_NANO // 10


async def test_a_stream_is_downgraded_too(fake_upstream: FakeUpstream) -> None:
    day = Budget(amount=0, period="day", consumer="*", model=MODEL, downgrade=CHEAP)
    found = grouped(fake_upstream, budgets=[day])
    async with ask(found, stream=True) as call:
        assert await call.started() == 200
        assert call.headers["x-hpp-router-downgraded"] == "budget"
        assert CHEAP.encode() in await call.read()
        await call.returned()


async def test_what_fits_is_not_downgraded(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, budgets=[Budget(amount=DOLLAR, period="day", consumer="*", downgrade=CHEAP)])
    status, headers, body = await asked(found)
    assert (status, body["model"], headers.get("x-hpp-router-downgraded")) == (200, MODEL, None)
    (line,) = await check_books(found)
    assert line.draft.downgraded is None


@pytest.mark.parametrize(
    ("budgets", "declared", "fields"),
    [
        pytest.param([{"amount": 10, "downgrade": CHEAP}], {}, {}, id="the cheaper one does not fit either"),
        pytest.param([{"amount": 0, "downgrade": CHEAP}], {"models": (MODEL,)}, {}, id="the key may not use it"),
        pytest.param(
            [{"amount": 0, "model": MODEL, "downgrade": "fake/toolless"}],
            {},
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
            id="it cannot call tools",
        ),
        pytest.param(
            [
                {"amount": 0, "model": MODEL, "downgrade": CHEAP},
                {"amount": 0, "model": CHEAP, "downgrade": MODEL},
            ],
            {},
            {},
            id="each says the other",
        ),
    ],
)
async def test_where_no_cheaper_model_can_be_asked_it_is_refused(
    budgets: list[dict[str, Any]], declared: dict[str, Any], fields: dict[str, Any], fake_upstream: FakeUpstream
) -> None:
    given = [Budget(period="day", consumer="*", **each) for each in budgets]
    found = grouped(fake_upstream, budgets=given, declared=declared)
    status, headers, body = await asked(found, **fields)
    assert (status, body["error"]["code"], headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    assert fake_upstream.log == []


async def test_a_quota_that_is_short_downgrades_nothing(fake_upstream: FakeUpstream) -> None:
    day = Budget(amount=DOLLAR, period="day", consumer="*", downgrade=CHEAP)
    found = grouped(fake_upstream, team=100_000, budgets=[day])
    status, _, body = await asked(found)
    assert status == 429
    assert "team, which you belong to" in body["error"]["message"]


async def test_a_downgraded_answer_is_given_again_under_its_key(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, budgets=[Budget(amount=100_000, period="day", consumer="*", downgrade=CHEAP)])
    for replayed in (None, "true"):
        async with ask(found, headers={"idempotency-key": "once"}) as call:
            assert await call.started() == 200
            assert call.headers.get("idempotency-replayed") == replayed
            assert call.headers["x-hpp-router-downgraded"] == "budget"
            await call.read()
            await call.returned()
    assert len(fake_upstream.log) == 1


# --- the affordable clamp -------------------------------------------------------------------------

CLAMPS = Limits(clamp=True, clamp_floor=10)


async def test_a_cap_that_is_not_afforded_is_lowered_and_told(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, team=200_000, limits=CLAMPS)
    status, headers, _ = await asked(found, max_tokens=5000)
    assert status == 200
    cap = int(headers["x-hpp-router-max-tokens"])
    assert json.loads(fake_upstream.log[0].body)["max_tokens"] == cap
    (line,) = await check_books(found)
    assert line.held == 200_000, "all that there is"
    assert 10 <= cap < 100, "a hundred tokens alone would come to it all"


async def test_without_clamp_a_clients_cap_is_never_touched(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, team=200_000)
    assert (await asked(found, max_tokens=5000))[0] == 429


async def test_below_the_floor_it_is_refused(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, team=200_000, limits=Limits(clamp=True, clamp_floor=100))
    assert (await asked(found, max_tokens=5000))[0] == 429
    assert fake_upstream.log == []


async def test_what_fits_is_not_clamped(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, limits=CLAMPS)
    status, headers, _ = await asked(found, max_tokens=5000)
    assert (status, headers.get("x-hpp-router-max-tokens")) == (200, None)
    assert json.loads(fake_upstream.log[0].body)["max_tokens"] == 5000


@pytest.mark.parametrize(("floor", "status"), [(10, 200), (100, 429), (0, 429)])
async def test_a_consumers_own_floor_goes_before(floor: int, status: int, fake_upstream: FakeUpstream) -> None:
    limits = Limits(clamp=True, clamp_floor=10) if floor == 0 else Limits()
    found = grouped(fake_upstream, team=200_000, declared={"clamp_floor": floor}, limits=limits)
    assert (await asked(found, max_tokens=5000))[0] == status


async def test_both_names_of_a_cap_are_lowered(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, team=200_000, limits=CLAMPS)
    status, headers, _ = await asked(found, max_tokens=5000, max_completion_tokens=4000)
    assert status == 200
    sent = json.loads(fake_upstream.log[0].body)
    caps = {sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent}
    assert caps == {int(headers["x-hpp-router-max-tokens"])}


async def test_a_cap_of_ours_is_clamped_to_all_that_is_there(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, team=200_000, limits=CLAMPS)
    async with ask(found, max_tokens=None) as call:
        assert await call.started() == 200
        assert int(call.headers["x-hpp-router-max-tokens"]) == json.loads(fake_upstream.log[0].body)["max_tokens"]
        await call.read()
        await call.returned()
    (line,) = await check_books(found)
    assert line.held == 200_000


async def test_a_clamped_request_is_told_so_without_http_as_well(fake_upstream: FakeUpstream) -> None:
    found = grouped(fake_upstream, team=200_000, limits=CLAMPS)
    reply = await found.complete(ALICE, question(max_tokens=5000))
    assert "X-HPP-Router-Max-Tokens" in dict(reply.headers)


# --- fallbacks ------------------------------------------------------------------------------------


def _falling_back(upstream: FakeUpstream, *budgets: Budget) -> Gateway:
    upstream.next(Script(status=500))
    return grouped(upstream, budgets=budgets, fallbacks={MODEL: (CHEAP,)}, provider={"retries": 0})


async def test_a_fallback_is_charged_in_its_own_models_budget(fake_upstream: FakeUpstream) -> None:
    found = _falling_back(
        fake_upstream,
        Budget(amount=DOLLAR, period="day", consumer="*", model=MODEL),
        Budget(amount=DOLLAR, period="day", consumer="*", model=CHEAP),
    )
    status, headers, _ = await asked(found)
    assert (status, headers["x-hpp-router-resolved-model"]) == (200, CHEAP)
    (line,) = await check_books(found)
    used = {name: (await found.store.balance(name)).used for name in line.draft.also}
    assert used == dict.fromkeys(line.draft.also, line.amount)
    assert any(name.endswith(f":{CHEAP}") for name in used)
    day = next(name for name in used if "/~" in name).rpartition(":")[0]
    left = await found.store.balance(f"{day}:{MODEL}")
    assert (left.quota, left.used, left.held) == (DOLLAR, 0, 0)


async def test_a_fallback_whose_budget_has_no_room_is_passed_over(fake_upstream: FakeUpstream) -> None:
    found = _falling_back(fake_upstream, Budget(amount=0, period="day", consumer="*", model=CHEAP))
    status, _, _ = await asked(found)
    assert status == 502
    assert [json.loads(call.body)["model"] for call in fake_upstream.log] == ["fake-1"]
    assert (await found.store.balance("alice")).held == 0


# --- names ----------------------------------------------------------------------------------------


async def test_a_models_own_price_and_budget_are_kept_in_any_letter_case(fake_upstream: FakeUpstream) -> None:
    budgets = [Budget(consumer="*", period="day", amount=100_000, model="openai/gpt-4.1")]
    models = {"openai/gpt-4o": {"input": "10", "output": "40"}}  # four times the price list's
    providers = {"openai": Provider(base_url=fake_upstream.url)}
    found = gateway(fake_upstream, prices=GenaiPrices(), providers=providers, models=models, budgets=budgets)
    async with found:
        for model, status in (
            ("openai/gpt-4o", 200),
            ("openai/GPT-4o", 400),
            ("openai/gpt-4.1", 429),
            ("openai/GPT-4.1", 429),
            ("openai/GPT-4.1-mini", 200),
        ):
            async with ask(found, model=model) as call:
                assert (model, await call.started()) == (model, status)
                await call.read()
    assert [exchange.json()["model"] for exchange in fake_upstream.log] == ["gpt-4o", "GPT-4.1-mini"]


@pytest.mark.parametrize("model", ["fake-1", "cheap", "gpt-5*", "other/fake-1", "fak", "f/*"])
def test_a_budget_that_no_model_can_be_in_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        gateway("http://127.0.0.1:9/v1", budgets=[Budget(consumer="*", period="day", amount=1, model=model)])
    assert caught.value.param == "budgets[0].model"


@pytest.mark.parametrize(
    "model", [None, "fake/fake-1", "fake/later-*", "fa*", "FAKE/*", "*", "[ef]ake/x", "?ake/*", "fake*"]
)
def test_a_budget_of_models_that_may_come_is_not(model: str | None) -> None:
    gateway("http://127.0.0.1:9/v1", budgets=[Budget(consumer="*", period="day", amount=1, model=model)])
