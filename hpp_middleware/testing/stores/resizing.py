"""What a quota store promises of a hold that goes on: it can be resized, and its orphan amount raised."""

from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import LEASE_S, Bench, Promise, promise, reserve, resize, settle
from hpp_middleware.types.operations import Checkpoint, Release, Renew, Sweep

__all__ = ["PROMISES"]

QUOTA = 1000


@promise
async def a_hold_can_be_resized(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    for attempt, amount in enumerate((700, 300, 1000, 0, 100), start=1):
        result = await bench.one(resize("hold", amount, attempt=attempt))
        assert (result.status, result.amount) == ("done", amount), "a hold can be made larger and smaller"
        assert (await bench.balance()).held == amount, "and its room with it"
    entries = (await bench.one(settle("hold", 100))).entries
    assert [(entry.amount, entry.held) for entry in entries] == [(100, 100)], "and is settled as it is then"


@promise
async def a_resize_that_does_not_fit_is_refused(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(reserve("hold", 100), reserve("other", 500))
    refused, fits = await bench.apply(resize("hold", 501, attempt=1), resize("hold", 500, attempt=2))
    assert (refused.status, refused.available) == ("refused", 400), "a hold is not made larger than what is there"
    assert (fits.status, fits.amount) == ("done", 500), "all that is there can be taken"
    assert (await bench.balance()).available == 0, "but no more"
    for amount in (-1, MAX_NANO + 1, 2**64):
        assert (await bench.one(resize("hold", amount, attempt=3))).status == "refused", "no store can count that"


@promise
async def a_repeated_resize_changes_nothing(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    for result in await bench.apply(resize("hold", 200), resize("hold", 200), resize("hold", 200)):
        assert (result.status, result.amount) == ("done", 200), "a repeat is done already"
    await bench.one(resize("hold", 300, attempt=2))
    for late in (resize("hold", 200, attempt=1), resize("hold", 400, attempt=2)):
        assert (await bench.one(late)).status == "conflict", "a resize that comes too late changes nothing"
    assert (await bench.balance()).held == 300, "the last attempt counts"
    again = await bench.one(reserve("hold", 100))
    assert (again.status, again.amount) == ("done", 300), "a repeated reserve finds the hold as it is now"


@promise
async def only_a_live_hold_is_resized(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    assert (await bench.one(resize("nothing", 5))).status == "unknown", "what is not held cannot be resized"
    assert (await bench.one(Checkpoint(id="nothing", orphan_amount=5))).status == "unknown", "nor raised"
    await bench.apply(reserve("settled", 10), reserve("released", 10))
    await bench.apply(settle("settled", 10), Release(id="released"), Release(id="tombstone"))
    for hold in ("settled", "released", "tombstone"):
        assert (await bench.one(resize(hold, 20))).status == "conflict", "what was resolved cannot be resized"
        assert (await bench.one(Checkpoint(id=hold, orphan_amount=20))).status == "conflict", "nor raised"


@promise
async def a_resize_must_fit_in_every_account(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.start(300, "team")
    await bench.one(reserve("hold", 100, "alice", "team"))
    assert (await bench.one(resize("hold", 301))).status == "refused", "every account must have the room"
    assert (await bench.one(resize("hold", 300))).status == "done", "and then has it"


@promise
async def a_checkpoint_raises_what_an_orphan_is_charged(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S))
    await bench.apply(*(reserve(name, 100, owner="dying", orphan=30) for name in ("a", "b", "c")))
    told = await bench.apply(
        Checkpoint(id="a", orphan_amount=60),
        Checkpoint(id="b", orphan_amount=10),
        Checkpoint(id="c", orphan_amount=500),
    )
    assert [(result.status, result.amount) for result in told] == [("done", 60), ("done", 30), ("done", 100)], (
        "an orphan amount rises up to the hold, and never falls"
    )
    await bench.wait(LEASE_S)
    entries = (await bench.one(Sweep())).entries
    assert [entry.amount for entry in entries] == [60, 30, 100], "and is what the sweeper charges"


@promise
async def a_resize_raises_what_an_orphan_is_charged_too(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S))
    await bench.apply(*(reserve(name, 100, owner="dying", orphan=30) for name in ("a", "b", "c")))
    await bench.apply(resize("a", 200, orphan=150), resize("b", 200, orphan=10), resize("c", 20, orphan=150))
    await bench.wait(LEASE_S)
    entries = (await bench.one(Sweep())).entries
    assert [entry.amount for entry in entries] == [150, 30, 20], "a resize raises it, within the new hold"


PROMISES: tuple[Promise, ...] = (
    a_hold_can_be_resized,
    a_resize_that_does_not_fit_is_refused,
    a_repeated_resize_changes_nothing,
    only_a_live_hold_is_resized,
    a_resize_must_fit_in_every_account,
    a_checkpoint_raises_what_an_orphan_is_charged,
    a_resize_raises_what_an_orphan_is_charged_too,
)
