"""What a quota store promises when a hold is resolved by its owner."""

from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import DRAFT, REPORT, Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Release

__all__ = ["PROMISES"]

QUOTA = 1000


@promise
async def a_settlement_swaps_the_hold_for_what_was_used(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    result = await bench.one(settle("hold", 30))
    assert (result.status, result.amount) == ("done", 30), "a settlement says what was charged"
    balance = await bench.balance()
    assert (balance.used, balance.held, balance.available) == (30, 0, QUOTA - 30), "what was not used is free again"


@promise
async def a_settlement_writes_its_ledger_line(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    (entry,) = (await bench.one(settle("hold", 100))).entries
    assert (entry.id, entry.hold, entry.line) == ("hold", "hold", "resolution"), "the line is named after its hold"
    assert (entry.account, entry.seq) == ("alice", 1), "and numbered in its account"
    assert (entry.amount, entry.held) == (100, 100), "and says what was held and what was charged"
    assert entry.draft == DRAFT, "and carries what was known at the reserve"
    assert entry.report == REPORT, "and what was known at the end"


@promise
async def a_settlement_of_zero_is_a_settlement(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    result = await bench.one(settle("hold", 0))
    assert [entry.amount for entry in result.entries] == [0], "what costs nothing has its ledger line too"
    balance = await bench.balance()
    assert (balance.used, balance.held, balance.requests) == (0, 0, 1), "and frees its hold"
    repeat = await bench.one(settle("hold", 0))
    assert (repeat.status, repeat.entries) == ("done", ()), "and its repeat is done already"


@promise
async def a_settlement_may_exceed_its_hold(bench: Bench[QuotaStore]) -> None:
    await bench.start(100)
    await bench.one(reserve("hold", 100))
    result = await bench.one(settle("hold", 250))
    assert (result.status, result.amount) == ("done", 250), "what was used is charged, above the hold too"
    lines = [(entry.line, entry.amount) for entry in result.entries]
    assert lines == [("resolution", 100), ("overage", 150)], "what exceeds the hold is a line of its own"
    assert (await bench.balance()).available == -150, "an account can go below zero by an overage"
    for want in (1, 0):
        refused = await bench.one(reserve("next", want))
        assert (refused.status, refused.available) == ("refused", -150), "and then has no room, for nothing either"


@promise
async def a_repeated_settlement_changes_nothing(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    await bench.one(settle("hold", 130))
    before = await bench.balance()
    for result in await bench.apply(settle("hold", 130), settle("hold", 130)):
        assert (result.status, result.amount, result.entries) == ("done", 130, ()), "a repeat is done already"
    assert await bench.balance() == before, "a repeated settlement changes nothing"


@promise
async def another_settlement_is_a_conflict(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    await bench.one(settle("hold", 30))
    for amount in (0, 31):
        result = await bench.one(settle("hold", amount))
        assert (result.status, result.amount) == ("conflict", 30), "the first settlement wins, and is named"
    assert (await bench.balance()).used == 30, "a conflict charges nothing"


@promise
async def an_unknown_hold_is_not_settled(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    result = await bench.one(settle("nowhere", 5))
    assert result.status == "unknown", "a hold that was never placed is unknown"
    assert (await bench.balance()).used == 0, "and charges nobody"


@promise
async def amounts_that_no_store_can_count_are_not_charged(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    for amount in (-1, MAX_NANO + 1, 2**63):
        result = await bench.one(settle("hold", amount))
        assert result.status == "refused", "a settlement below zero or above the largest amount is refused"
    assert (await bench.balance()).held == 100, "and leaves the hold as it was"
    largest = await bench.one(settle("hold", MAX_NANO))
    assert largest.status == "done", "the largest amount is exact"


@promise
async def a_release_gives_everything_back(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    results = await bench.apply(Release(id="hold"), Release(id="hold"))
    assert [result.status for result in results] == ["done", "done"], "a release can be repeated"
    balance = await bench.balance()
    assert (balance.held, balance.used, balance.requests) == (0, 0, 0), "a release frees the hold and charges nothing"
    assert not bench.lines, "and leaves no ledger line"


@promise
async def a_released_hold_is_not_settled(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    await bench.one(Release(id="hold"))
    for amount in (0, 5):
        result = await bench.one(settle("hold", amount))
        assert result.status == "conflict", "what was released is settled no more"
    assert (await bench.balance()).used == 0, "and charges nothing"


@promise
async def a_settled_hold_is_not_released(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    await bench.one(settle("hold", 5))
    result = await bench.one(Release(id="hold"))
    assert result.status == "conflict", "what was settled is released no more"
    assert (await bench.balance()).used == 5, "and its charge stands"


@promise
async def a_release_of_an_unknown_hold_stops_the_reserve_that_comes_late(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    released, again = await bench.apply(Release(id="hold"), Release(id="hold"))
    assert (released.status, again.status) == ("done", "done"), "releasing an id that is not known is done"
    result = await bench.one(reserve("hold", 100))
    assert result.status == "conflict", "and the reserve that comes late is a conflict"
    assert (await bench.balance()).held == 0, "and takes nothing"


PROMISES: tuple[Promise, ...] = (
    a_settlement_swaps_the_hold_for_what_was_used,
    a_settlement_writes_its_ledger_line,
    a_settlement_of_zero_is_a_settlement,
    a_settlement_may_exceed_its_hold,
    a_repeated_settlement_changes_nothing,
    another_settlement_is_a_conflict,
    an_unknown_hold_is_not_settled,
    amounts_that_no_store_can_count_are_not_charged,
    a_release_gives_everything_back,
    a_released_hold_is_not_settled,
    a_settled_hold_is_not_released,
    a_release_of_an_unknown_hold_stops_the_reserve_that_comes_late,
)
