"""What a quota store promises when the owner of a hold is gone, or late."""

import anyio

from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import LEASE_S, Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Operation, Release, Renew, Sweep

__all__ = ["PROMISES"]

QUOTA = 1000


@promise
async def a_sweep_leaves_live_holds_alone(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100, orphan=30))
    result = await bench.one(Sweep())
    assert (result.status, result.amount, result.entries) == ("done", 0, ()), "a hold under a lease is not swept"
    assert (await bench.balance()).held == 100, "and keeps its room"


@promise
async def a_hold_whose_owner_died_is_charged_its_orphan_amount(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=30)
    result = await bench.one(Sweep())
    assert (result.status, result.amount) == ("done", 1), "a sweep says how many holds it expired"
    (entry,) = result.entries
    assert (entry.id, entry.line, entry.amount) == ("hold", "resolution", 30), "an orphan is charged its orphan amount"
    assert (entry.report.outcome, entry.report.estimated) == ("orphaned", True), "and the ledger says so"
    balance = await bench.balance()
    assert (balance.used, balance.held) == (30, 0), "and the rest is free again"


@promise
async def an_orphan_amount_is_never_above_its_hold(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=5000)
    (entry,) = (await bench.one(Sweep())).entries
    assert (entry.line, entry.amount) == ("resolution", 100), "an orphan is charged its hold at most"


@promise
async def a_hold_has_a_deadline_of_its_own(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(reserve("short", 100, ttl_s=LEASE_S, orphan=30), reserve("long", 200))
    await bench.wait(LEASE_S)
    result = await bench.one(Sweep())
    assert [entry.hold for entry in result.entries] == ["short"], "a hold past its deadline expires under a live lease"


@promise
async def a_renewed_lease_keeps_its_holds(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(Renew(owner="other", ttl_s=2 * LEASE_S), reserve("hold", 100, owner="other"))
    await bench.wait(LEASE_S)
    await bench.apply(Renew(owner="other", ttl_s=3600), Renew(owner="other", ttl_s=LEASE_S / 10))
    await bench.wait(LEASE_S)
    result = await bench.one(Sweep())
    assert result.amount == 0, "a renewed lease covers the holds placed before, and is never shortened"


@promise
async def a_lapsed_lease_expires_its_own_holds_only(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=30)
    await bench.one(reserve("other", 100))
    result = await bench.one(Sweep())
    assert [entry.hold for entry in result.entries] == ["hold"], "the holds of other workers stay"


@promise
async def a_sweep_charges_once(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=30)
    first, second = await bench.apply(Sweep(), Sweep())
    assert (first.amount, second.amount) == (1, 0), "what was swept is swept no more"


@promise
async def a_late_settlement_posts_one_correction(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=30)
    await bench.one(Sweep())
    late = await bench.one(settle("hold", 80))
    assert (late.status, late.amount) == ("done", 80), "a late settlement wins over the estimate"
    lines = [(entry.id, entry.line, entry.amount) for entry in late.entries]
    assert lines == [("hold:correction", "correction", 50)], "by one line of the difference"
    repeat, other = await bench.apply(settle("hold", 80), settle("hold", 81))
    assert (repeat.status, repeat.entries) == ("done", ()), "its repeat changes nothing"
    assert (other.status, other.amount) == ("conflict", 80), "and another amount is a conflict"
    assert (await bench.balance()).used == 80, "so that what was used is what is charged"


@promise
async def a_correction_is_signed(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=30)
    await bench.one(Sweep())
    (entry,) = (await bench.one(settle("hold", 10))).entries
    assert (entry.line, entry.amount) == ("correction", -20), "a correction goes down too"
    assert (await bench.balance()).requests == 1, "and is no request of its own"


@promise
async def a_late_release_posts_a_correction_down_to_nothing(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=30)
    await bench.one(Sweep())
    result, repeat = await bench.apply(Release(id="hold"), Release(id="hold"))
    assert [entry.amount for entry in result.entries] == [-30], "a late release gives back what the sweep charged"
    assert (repeat.status, repeat.entries) == ("done", ()), "once"
    assert (await bench.balance()).used == 0, "so that nothing is charged"


@promise
async def a_late_reserve_finds_its_hold_expired(bench: Bench[QuotaStore]) -> None:
    await _orphan(bench, want=100, orphan=30)
    await bench.apply(Sweep(), Renew(owner="sleeper", ttl_s=3600))
    result = await bench.one(reserve("hold", 100, owner="sleeper", orphan=30))
    assert result.status == "conflict", "a hold that expired is not placed again"


@promise
async def a_sweep_and_a_settlement_at_once_charge_what_was_used(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    holds = [f"hold-{number}" for number in range(8)]
    renew = Renew(owner="sleeper", ttl_s=LEASE_S)
    await bench.apply(renew, *(reserve(hold, 100, owner="sleeper", orphan=30) for hold in holds))
    await bench.wait(LEASE_S)

    async def apply(operation: Operation) -> None:
        (result,) = await bench.store.apply([operation])
        assert result.status == "done", "sweeper and settler both come through"
        bench.note(operation, result)

    async with anyio.create_task_group() as group:
        for number, hold in enumerate(holds):
            group.start_soon(apply, settle(hold, 50 + number))
            group.start_soon(apply, Sweep())
    await bench.compare()
    assert (await bench.balance()).used == sum(range(50, 58)), "whoever comes first, what was used is charged"


async def _orphan(bench: Bench[QuotaStore], *, want: int, orphan: int) -> None:
    """A hold whose owner's lease has run out."""
    await bench.start(QUOTA)
    await bench.apply(Renew(owner="sleeper", ttl_s=LEASE_S), reserve("hold", want, owner="sleeper", orphan=orphan))
    await bench.wait(LEASE_S)


PROMISES: tuple[Promise, ...] = (
    a_sweep_leaves_live_holds_alone,
    a_hold_whose_owner_died_is_charged_its_orphan_amount,
    an_orphan_amount_is_never_above_its_hold,
    a_hold_has_a_deadline_of_its_own,
    a_renewed_lease_keeps_its_holds,
    a_lapsed_lease_expires_its_own_holds_only,
    a_sweep_charges_once,
    a_late_settlement_posts_one_correction,
    a_correction_is_signed,
    a_late_release_posts_a_correction_down_to_nothing,
    a_late_reserve_finds_its_hold_expired,
    a_sweep_and_a_settlement_at_once_charge_what_was_used,
)
