"""What a ledger promises: it reads back what the quota store reported, whole and in order."""

from typing import Protocol

from hpp_middleware.ports import Ledger, QuotaStore
from hpp_middleware.testing.stores.bench import LEASE_S, Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Release, Renew, Sweep

__all__ = ["PROMISES"]


class LedgerStore(QuotaStore, Ledger, Protocol):
    """A quota store whose ledger can be read."""


@promise
async def what_nobody_wrote_reads_as_empty(bench: Bench[LedgerStore]) -> None:
    assert await bench.store.lines("nobody") == [], "an unknown account has no lines"
    assert await bench.store.entries("nobody", "nowhere") == [], "an unknown request has no lines"


@promise
async def a_line_reads_back_whole(bench: Bench[LedgerStore]) -> None:
    await _some_of_everything(bench)
    assert await bench.store.lines("alice") == bench.lines["alice"], "lines read back as they were reported"


@promise
async def lines_are_read_page_by_page(bench: Bench[LedgerStore]) -> None:
    await _some_of_everything(bench)
    pages, after = [], 0
    while page := await bench.store.lines("alice", after=after, most=2):
        assert len(page) <= 2, "a page has no more lines than were asked for"
        pages += page
        after = page[-1].seq
    assert pages == bench.lines["alice"], "page by page, each line comes once and in order"


@promise
async def a_request_has_its_resolution_first(bench: Bench[LedgerStore]) -> None:
    await _some_of_everything(bench)
    over = await bench.store.entries("alice", "over")
    assert [(entry.line, entry.amount) for entry in over] == [("resolution", 100), ("overage", 50)], (
        "a request's resolution comes first, then its overage"
    )
    late = await bench.store.entries("alice", "late")
    assert [(entry.line, entry.amount) for entry in late] == [("resolution", 30), ("correction", 15)], (
        "a request's resolution comes first, then its correction"
    )


@promise
async def what_charged_nothing_and_nobody_has_no_line(bench: Bench[LedgerStore]) -> None:
    await _some_of_everything(bench)
    for hold in ("released", "refused", "live"):
        assert await bench.store.entries("alice", hold) == [], "only what was resolved has lines"


@promise
async def one_account_does_not_see_another(bench: Bench[LedgerStore]) -> None:
    await _some_of_everything(bench)
    assert await bench.store.entries("bob", "over") == [], "another account's request reads as none"
    assert {entry.account for entry in await bench.store.lines("bob")} == {"bob"}, "an account lists its own lines"


async def _some_of_everything(bench: Bench[LedgerStore]) -> None:
    """Every way a hold can end, in two accounts; the witness knows the lines."""
    await bench.start(1000)
    await bench.start(1000, "bob")
    await bench.apply(Renew(owner="sleeper", ttl_s=LEASE_S), reserve("late", 100, owner="sleeper", orphan=30))
    await bench.wait(LEASE_S)
    await bench.apply(reserve("under", 100), settle("under", 40), reserve("bobs", 10, "bob"), settle("bobs", 10))
    await bench.apply(reserve("over", 100), settle("over", 150), Sweep(), settle("late", 45))
    await bench.apply(reserve("released", 100), Release(id="released"), reserve("refused", 5000), reserve("live", 1))


PROMISES: tuple[Promise, ...] = (
    what_nobody_wrote_reads_as_empty,
    a_line_reads_back_whole,
    lines_are_read_page_by_page,
    a_request_has_its_resolution_first,
    what_charged_nothing_and_nobody_has_no_line,
    one_account_does_not_see_another,
)
