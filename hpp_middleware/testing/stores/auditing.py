"""What a store promises whose books can be checked: its statements are what its rows add up to."""

from typing import Any

from hpp_middleware.errors import StoreError
from hpp_middleware.testing.stores.bench import LEASE_S, Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Declare, Grant, Release, Renew, Sweep
from hpp_middleware.types.quota import Account, Seal, Statement

__all__ = ["PROMISES"]


@promise
async def a_statement_is_what_the_rows_add_up_to(bench: Bench[Any]) -> None:
    await bench.start(1000)
    await bench.apply(Grant(id="more", account="alice", amount=-100), Declare(account="alice", quota=50))
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S), reserve("orphan", 40, owner="dying", orphan=7))
    await bench.apply(*(reserve(name, 100) for name in ("a", "b", "c", "d")))
    await bench.apply(settle("a", 130), settle("b", 20), Release(id="c"))
    await bench.wait(LEASE_S)
    await bench.one(Sweep())
    await bench.one(settle("orphan", 3))
    found: Statement = await bench.store.statement("alice")
    assert (found.granted, found.account.quota, found.account.declared) == (900, 950, 50), "grants add up"
    assert (found.held, found.account.held) == (100, 100), "live holds add up"
    assert (found.charged, found.account.settled) == (153, 153), "ledger lines add up"
    assert (found.lines, found.seq, found.account.seq) == (5, 5, 5), "ledger lines are counted"
    assert (found.resolutions, found.account.requests) == (3, 3), "and resolutions too"
    assert found.account.tokens > 0, "and tokens"


@promise
async def a_live_hold_that_should_have_expired_is_counted(bench: Bench[Any]) -> None:
    await bench.start(1000)
    await bench.apply(reserve("stuck", 100, ttl_s=10), reserve("also", 10, ttl_s=10), reserve("live", 100, ttl_s=3000))
    await bench.one(settle("also", 5))
    assert (await bench.store.statement("alice")).overdue == 0, "what is not due is not overdue"
    if not bench.has_clock:
        return  # it would take a minute
    await bench.wait(69)
    assert (await bench.store.statement("alice")).overdue == 0, "nor for a minute after"
    await bench.wait(2)
    assert (await bench.store.statement("alice")).overdue == 1, "then a live hold is overdue, if nobody has swept"
    await bench.one(Sweep())
    assert (await bench.store.statement("alice")).overdue == 0, "and a sweep ends that"


@promise
async def an_unknown_account_reads_as_zeros(bench: Bench[Any]) -> None:
    found: Statement = await bench.store.statement("nobody")
    empty = Statement(account=Account(id="nobody"), granted=0, held=0, charged=0, lines=0, seq=0, resolutions=0)
    assert found == empty, "an unknown account reads as zeros"


@promise
async def accounts_are_listed_in_order(bench: Bench[Any]) -> None:
    for name in ("carol", "alice", "bob", "Zoe", "\N{LATIN SMALL LETTER E WITH ACUTE}lan"):
        await bench.start(10, name)
    everybody = await bench.store.accounts()
    assert everybody == ["Zoe", "alice", "bob", "carol", "\N{LATIN SMALL LETTER E WITH ACUTE}lan"], "by code point"
    assert await bench.store.accounts(most=2) == everybody[:2], "no more than asked for"
    assert await bench.store.accounts(after="alice", most=2) == everybody[2:4], "and from where it was left"


@promise
async def holds_are_read_by_id(bench: Bench[Any]) -> None:
    await bench.start(1000)
    await bench.apply(reserve("a", 100), reserve("b", 100, floor=10), Release(id="tombstone"))
    await bench.one(settle("b", 120))
    found = {hold.id: hold for hold in await bench.store.holds(["b", "a", "nothing", "tombstone"])}
    assert set(found) == {"a", "b", "tombstone"}, "those that are known"
    assert (found["a"].state, found["a"].amount, found["a"].charged) == ("held", 100, 0), "as they are"
    assert (found["b"].state, found["b"].charged) == ("settled", 120), "and with what they were charged"
    assert found["tombstone"].state == "released", "tombstones too"
    assert await bench.store.holds([]) == [], "none of none"


@promise
async def seals_are_appended_and_never_changed(bench: Bench[Any]) -> None:
    seals = [Seal(account="alice", seq=seq, mac=f"{seq:064x}", key="k", created=float(seq)) for seq in (3, 5, 9)]
    await bench.store.add_seals(seals[:2])
    await bench.store.add_seals(seals)
    assert await bench.store.seals("alice") == seals, "a seal is kept once"
    assert await bench.store.seals("alice", after=3, most=1) == seals[1:2], "and read from where it was left"
    assert await bench.store.seals("bob") == [], "an account's own"
    forged = Seal(account="alice", seq=5, mac="f" * 64, key="k", created=5.0)
    try:
        await bench.store.add_seals([forged])
    except StoreError:
        pass
    else:
        raise AssertionError("another seal at the same place is refused")
    assert await bench.store.seals("alice") == seals, "and changes nothing"


PROMISES: tuple[Promise, ...] = (
    a_statement_is_what_the_rows_add_up_to,
    a_live_hold_that_should_have_expired_is_counted,
    an_unknown_account_reads_as_zeros,
    accounts_are_listed_in_order,
    holds_are_read_by_id,
    seals_are_appended_and_never_changed,
)
