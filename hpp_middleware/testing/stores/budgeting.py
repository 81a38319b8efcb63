"""
What a quota store promises of holds in several accounts: parents, and budgets that a reserve declares itself.

They all have one root, the part before the first ``/``, since a store may keep what has one root in one place.
"""

import anyio

from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import LEASE_S, Bench, Promise, promise, reserve, resize, settle
from hpp_middleware.types.operations import Declare, Grant, Release, Renew, Result, Sweep
from hpp_middleware.types.quota import Balance

__all__ = ["PROMISES"]

QUOTA = 1000
BUDGET = "alice/~month:2026-11"
NEXT = "alice/~month:2026-12"


@promise
async def every_account_of_a_hold_is_charged(bench: Bench[QuotaStore]) -> None:
    for account in ("alice", "alice/team", "alice/org"):
        await bench.start(QUOTA, account)
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S))
    everybody = ("alice", "alice/team", "alice/org")
    await bench.apply(*(reserve(name, 100, *everybody) for name in ("within", "above", "back")))
    orphans = ("late", "unsent", "never")
    await bench.apply(*(reserve(name, 100, *everybody, owner="dying", orphan=30) for name in orphans))
    await bench.apply(settle("within", 40), settle("above", 130), Release(id="back"))
    await bench.wait(LEASE_S)
    assert (await bench.one(Sweep())).amount == 3, "an orphan in several accounts is swept once"
    await bench.apply(settle("late", 10), Release(id="unsent"))
    for account in everybody:
        balance = await bench.balance(account)
        assert balance.used == 40 + 130 + 10 + 30, "overages, orphans and corrections are charged in every account"
        assert balance.held == 0, "and nothing stays held in any"
    for account in ("alice/team", "alice/org"):
        balance = await bench.balance(account)
        assert (balance.requests, balance.tokens) == (0, 0), "lines, and what is counted by them, are the payer's alone"


@promise
async def an_account_may_be_spared_a_part_of_what_the_payer_is_charged(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.start(QUOTA, "alice/team")
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S))
    limits = {BUDGET: 500, NEXT: 500}
    await bench.apply(*(reserve(name, 100, "alice", "alice/team", limits=limits) for name in ("within", "above")))
    await bench.apply(reserve("late", 100, "alice", "alice/team", owner="dying", orphan=30, limits=limits))
    await bench.one(settle("within", 40, spared={BUDGET: 15, NEXT: 40}))
    await bench.one(settle("above", 130, spared={BUDGET: 120, "alice": 130, "alice/nobody": 130}))
    again = await bench.one(settle("above", 130, spared={BUDGET: 120}))
    assert again.status == "done", "a repeat changes nothing"
    await bench.wait(LEASE_S)
    await bench.one(Sweep())
    await bench.one(settle("late", 50, spared={NEXT: 50}))
    for account, used in (("alice", 220), ("alice/team", 220), (BUDGET, 25 + 10 + 50), (NEXT, 0 + 130 + 0)):
        balance = await bench.balance(account)
        assert (balance.used, balance.held) == (used, 0), "what a settlement spares an account is not charged there"


@promise
async def a_refusal_says_which_account_was_short(bench: Bench[QuotaStore]) -> None:
    await bench.start(300)
    await bench.start(200, "alice/team")
    await bench.start(200, "alice/org")
    refused = await bench.one(reserve("hold", 250, "alice", "alice/team", "alice/org"))
    assert (refused.short, refused.available) == ("alice/team", 200), (
        "a refusal names the first of those with the least"
    )
    assert (await bench.one(reserve("hold", 301))).short == "alice", "be it the payer"
    assert (await bench.one(reserve("hold", 50, "alice", "alice/nobody"))).short == "alice/nobody", (
        "or an account that is none"
    )
    done = await bench.one(reserve("hold", 150, "alice", "alice/team"))
    assert (done.status, done.short) == ("done", ""), "what is placed names none"
    refused = await bench.one(resize("hold", 201))
    assert (refused.status, refused.short, refused.available) == ("refused", "alice/team", 50), (
        "so does that of a resize"
    )
    assert (await bench.one(reserve("much", MAX_NANO + 1))).short == "", "an amount that is none falls short nowhere"


@promise
async def the_rest_is_granted_where_it_is_asked_for(bench: Bench[QuotaStore]) -> None:
    await bench.start(101)
    await bench.start(81, "alice/team")
    whole = await bench.one(reserve("whole", 10, "alice", "alice/team", floor=1, rest=True))
    assert (whole.status, whole.amount) == ("done", 10), "what fits is granted as it is"
    rest = await bench.one(reserve("rest", 1000, "alice", "alice/team", floor=1, rest=True))
    assert (rest.status, rest.amount) == ("done", 71), "else all that is available in each"
    below = await bench.one(reserve("below", 1000, floor=21, rest=True))
    assert (below.status, below.available) == ("refused", 20), "but not less than the floor"
    firm = await bench.one(reserve("firm", 21, rest=True))
    assert firm.status == "refused", "and nothing where there is no floor"


@promise
async def a_reserve_declares_its_budgets(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    first = await bench.one(reserve("first", 60, limits={BUDGET: 100}))
    assert (first.status, first.amount) == ("done", 60), "a budget is there when it is first used"
    assert await bench.balance(BUDGET) == Balance(account=BUDGET, quota=100, held=60), "and has its amount"
    refused = await bench.one(reserve("second", 41, limits={BUDGET: 100}))
    assert (refused.status, refused.short, refused.available) == ("refused", BUDGET, 40), "and no more"
    assert (await bench.balance()).held == 60, "what a budget refuses is held nowhere"
    await bench.one(settle("first", 70))
    assert (await bench.one(reserve("third", 31, limits={BUDGET: 100}))).status == "refused", "what was used stays used"
    assert (await bench.one(reserve("third", 30, limits={BUDGET: 100}))).status == "done", "the rest can be had"
    assert (await bench.one(reserve("next", 100, limits={NEXT: 100}))).status == "done", "the next period is another"
    assert (await bench.balance()).held == 130, "and the payer's account is the same"


@promise
async def a_budget_moves_by_the_change_in_what_is_declared(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("first", 60, limits={BUDGET: 100}))
    await bench.one(Grant(id="more", account=BUDGET, amount=25))
    assert (await bench.one(reserve("second", 66, limits={BUDGET: 100}))).status == "refused", "a grant adds to it"
    assert (await bench.one(reserve("second", 65, limits={BUDGET: 100}))).status == "done", "and is kept"
    refused = await bench.one(reserve("third", 1, limits={BUDGET: 90}))
    assert (refused.status, refused.available) == ("refused", -10), "a lower amount stops admission"
    assert (await bench.balance(BUDGET)).quota == 125, "but is written only with a hold"
    assert (await bench.one(reserve("third", 10, limits={BUDGET: 110}))).status == "done", "a higher one admits more"
    assert (await bench.balance(BUDGET)).quota == 135, "at once"
    for amount in (-1, MAX_NANO, MAX_NANO + 1, 2**64):
        result = await bench.one(reserve(f"none-{amount}", 0, limits={BUDGET: amount}))
        assert result.status == "done", "what could not be declared"
        assert (await bench.balance(BUDGET)).quota == 135, "changes nothing"
    await bench.one(Declare(account=BUDGET, quota=0))
    assert (await bench.balance(BUDGET)).quota == 25, "the declaration is one like any other"


@promise
async def the_largest_budget_is_exact(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    largest = {BUDGET: MAX_NANO}
    await bench.apply(reserve("first", 1, limits=largest), Grant(id="less", account=BUDGET, amount=-1))
    await bench.one(reserve("second", 1, limits=largest))
    assert (await bench.balance(BUDGET)).quota == MAX_NANO - 1, "a declaration that is repeated moves nothing"


@promise
async def a_refused_reserve_makes_no_budget(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    refused = await bench.one(reserve("hold", QUOTA + 1, limits={BUDGET: 10**6}))
    assert (refused.status, refused.short) == ("refused", "alice"), "a budget does not make up for a quota"
    assert await bench.balance(BUDGET) == Balance(account=BUDGET), "and a refused reserve leaves none behind"
    assert (await bench.one(reserve("other", 1, limits={NEXT: 0}))).short == NEXT, "a budget of nothing has no room"
    assert await bench.balance(NEXT) == Balance(account=NEXT), "and is not made either"


@promise
async def a_repeat_declares_nothing_again(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    operation = reserve("hold", 60, limits={BUDGET: 100})
    await bench.apply(operation, operation)
    await bench.one(reserve("other", 60, limits={BUDGET: 200}))
    again = await bench.one(operation)
    assert (again.status, again.amount) == ("done", 60), "a repeat returns the stored grant"
    assert await bench.balance(BUDGET) == Balance(account=BUDGET, quota=200, held=120), "and changes nothing"
    assert (await bench.one(reserve("hold", 60))).status == "conflict", "without its budget it is another reserve"


@promise
async def budgets_of_a_race_are_never_oversold(bench: Bench[QuotaStore]) -> None:
    for name in ("alice/ann", "alice/ben", "alice/cid", "alice/dan"):
        await bench.start(QUOTA, name)
    results: dict[str, Result] = {}

    async def take(number: int) -> None:
        who = ("alice/ann", "alice/ben", "alice/cid", "alice/dan")[number % 4]
        # Half of them name the accounts the other way round: who waits for whom must not go by that.
        limits = {"alice/team/~day:1": 700, "alice/org/~day:1": 500}
        names = limits if number % 8 < 4 else dict(reversed(limits.items()))
        operation = reserve(f"hold-{number}", 50, who, limits=names)
        (results[operation.id],) = await bench.store.apply([operation])
        bench.note(operation, results[operation.id])

    async with anyio.create_task_group() as group:
        for number in range(32):
            group.start_soon(take, number)
    await bench.compare()
    statuses = [result.status for result in results.values()]
    assert (statuses.count("done"), statuses.count("refused")) == (10, 22), "a race grants what fits in every account"
    assert {result.short for result in results.values() if result.status == "refused"} == {"alice/org/~day:1"}, (
        "and says why"
    )
    assert (await bench.balance("alice/team/~day:1")).held == 500, "what did not fit in one is held in none"


@promise
async def a_resize_moves_a_hold_to_other_accounts(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.start(300, "alice/team")
    await bench.one(reserve("hold", 100, "alice", "alice/team", limits={BUDGET: 150}))
    refused = await bench.one(resize("hold", 60, "alice", "alice/team", limits={NEXT: 59}))
    assert (refused.status, refused.short) == ("refused", NEXT), "a hold must fit in the accounts it moves to"
    assert (await bench.balance(BUDGET)).held == 100, "else it stays where it is"
    moved = await bench.one(resize("hold", 60, "alice", "alice/team", limits={NEXT: 60}))
    assert (moved.status, moved.amount) == ("done", 60), "where it fits it is moved"
    for account, held in (("alice", 60), ("alice/team", 60), (NEXT, 60), (BUDGET, 0)):
        assert (await bench.balance(account)).held == held, "it leaves the one, and is held in the other"
    assert (await bench.one(resize("hold", 60, "alice", "alice/team", limits={NEXT: 60}))).status == "done", (
        "repeats do"
    )
    assert (await bench.one(resize("hold", 60, "alice/team", "alice", attempt=2))).status == "conflict", (
        "the payer stays"
    )
    await bench.one(settle("hold", 70))
    for account, used in (("alice", 70), ("alice/team", 70), (NEXT, 70), (BUDGET, 0)):
        assert (await bench.balance(account)).used == used, "and it is charged where it is in the end"


@promise
async def what_is_given_back_always_fits(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.start(100, "alice/team")
    await bench.one(reserve("hold", 100, "alice", "alice/team"))
    await bench.one(Grant(id="less", account="alice/team", amount=-60))
    assert (await bench.one(resize("hold", 90))).status == "done", "a hold is made smaller in an account overdrawn"
    moved = await bench.one(resize("hold", 80, "alice", "alice/team", attempt=2, limits={BUDGET: 80}))
    assert (moved.status, moved.amount) == ("done", 80), "and moved besides"
    refused = await bench.one(resize("hold", 81, attempt=3))
    assert (refused.status, refused.short, refused.available) == ("refused", "alice/team", -40), "but not made larger"


PROMISES: tuple[Promise, ...] = (
    every_account_of_a_hold_is_charged,
    an_account_may_be_spared_a_part_of_what_the_payer_is_charged,
    a_refusal_says_which_account_was_short,
    the_rest_is_granted_where_it_is_asked_for,
    a_reserve_declares_its_budgets,
    a_budget_moves_by_the_change_in_what_is_declared,
    the_largest_budget_is_exact,
    a_refused_reserve_makes_no_budget,
    a_repeat_declares_nothing_again,
    budgets_of_a_race_are_never_oversold,
    a_resize_moves_a_hold_to_other_accounts,
    what_is_given_back_always_fits,
)
