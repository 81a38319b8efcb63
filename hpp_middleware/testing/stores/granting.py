"""What a quota store promises of the quota itself."""

from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Declare, Grant

__all__ = ["PROMISES"]


@promise
async def grants_add_up(bench: Bench[QuotaStore]) -> None:
    first = await bench.one(Grant(id="first", account="alice", amount=100))
    assert (first.status, first.amount) == ("done", 100), "a grant makes its account"
    less = Grant(id="third", account="alice", amount=-30)
    results = await bench.apply(Grant(id="second", account="alice", amount=50), less, less)
    assert [result.amount for result in results] == [50, -30, -30], (
        "a grant says what was granted, and so does a repeat"
    )
    balance = await bench.balance()
    assert (balance.quota, balance.remaining) == (120, 120), "the quota is the sum of its grants, the negative ones too"


@promise
async def a_grant_is_made_once(bench: Bench[QuotaStore]) -> None:
    grant = Grant(id="grant", account="alice", amount=100)
    results = await bench.apply(grant, grant)
    assert [result.status for result in results] == ["done", "done"], "a grant can be repeated"
    other = await bench.one(Grant(id="grant", account="alice", amount=101))
    assert (other.status, other.amount) == ("conflict", 100), "another amount under its id is a conflict"
    assert (await bench.balance()).quota == 100, "it is granted once"
    others = await bench.one(Grant(id="grant", account="alice/other", amount=100))
    assert (others.status, others.amount) == ("conflict", 100), "and so is another account"
    assert (await bench.balance("alice/other")).quota == 0, "to which nothing was granted"


@promise
async def a_grant_can_expect_a_quota(bench: Bench[QuotaStore]) -> None:
    first = await bench.one(Grant(id="first", account="alice", amount=100, expect=0))
    assert first.status == "done", "a new account's quota is zero"
    stale = await bench.one(Grant(id="stale", account="alice", amount=50, expect=99))
    assert (stale.status, stale.amount) == ("conflict", 100), "a grant that expects another quota is a conflict"
    new = await bench.one(Grant(id="new", account="alice", amount=50, expect=0))
    assert new.status == "conflict", "and so is one that expects none"
    exact = await bench.one(Grant(id="stale", account="alice", amount=50, expect=100))
    assert exact.status == "done", "and its id may be used again"
    repeat = await bench.one(Grant(id="stale", account="alice", amount=50, expect=100))
    assert repeat.status == "done", "a repeat is done already, whatever it expects"


@promise
async def a_quota_stays_within_its_bounds(bench: Bench[QuotaStore]) -> None:
    await bench.one(Grant(id="start", account="alice", amount=100))
    for amount in (-101, MAX_NANO, 2**63):
        result = await bench.one(Grant(id=f"grant:{amount}", account="alice", amount=amount))
        assert result.status == "refused", "a quota goes neither below zero nor above the largest amount"
    result = await bench.one(Grant(id="most", account="alice", amount=MAX_NANO - 100))
    assert result.status == "done", "up to the largest amount every quota is exact"
    refused = await bench.one(Grant(id="none", account="nobody", amount=-1))
    assert refused.status == "refused", "an unknown account has nothing to take"


@promise
async def a_lowered_quota_stops_admission_and_no_live_hold(bench: Bench[QuotaStore]) -> None:
    await bench.start(100)
    await bench.one(reserve("live", 80))
    lowered = await bench.one(Grant(id="lower", account="alice", amount=-90))
    assert lowered.status == "done", "a quota can be lowered under its holds"
    refused = await bench.one(reserve("next", 1))
    assert (refused.status, refused.available) == ("refused", -70), "which stops admission"
    settled = await bench.one(settle("live", 80))
    assert settled.status == "done", "and leaves live holds alone"


@promise
async def a_declared_quota_moves_by_its_change(bench: Bench[QuotaStore]) -> None:
    results = await bench.apply(Declare(account="alice", quota=100), Declare(account="alice", quota=100))
    assert [result.status for result in results] == ["done", "done"], "a declaration can be repeated"
    assert (await bench.balance()).quota == 100, "which changes nothing"
    await bench.apply(Grant(id="more", account="alice", amount=7), Declare(account="alice", quota=60))
    assert (await bench.balance()).quota == 67, "what was granted besides is kept"


@promise
async def the_largest_declaration_is_exact(bench: Bench[QuotaStore]) -> None:
    largest = Declare(account="alice", quota=MAX_NANO)
    results = await bench.apply(largest, Grant(id="less", account="alice", amount=-1), largest)
    assert [result.amount for result in results] == [MAX_NANO, -1, 0], "a declaration that is repeated moves nothing"
    assert (await bench.balance()).quota == MAX_NANO - 1, "however large it is"


@promise
async def a_declaration_keeps_within_bounds(bench: Bench[QuotaStore]) -> None:
    await bench.apply(Declare(account="alice", quota=100), Grant(id="less", account="alice", amount=-60))
    for quota in (10, -1, MAX_NANO + 1):
        result = await bench.one(Declare(account="alice", quota=quota))
        assert result.status == "refused", "a declaration never moves a quota out of its bounds"
    assert (await bench.balance()).quota == 40, "a refused one changes nothing"


PROMISES: tuple[Promise, ...] = (
    grants_add_up,
    a_grant_is_made_once,
    a_grant_can_expect_a_quota,
    a_quota_stays_within_its_bounds,
    a_lowered_quota_stops_admission_and_no_live_hold,
    a_declared_quota_moves_by_its_change,
    the_largest_declaration_is_exact,
    a_declaration_keeps_within_bounds,
)
