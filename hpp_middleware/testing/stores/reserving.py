"""What a quota store promises when room is taken."""

import anyio

from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import LEASE_S, Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Grant, Operation, Release, Renew, Result
from hpp_middleware.types.quota import Balance

__all__ = ["PROMISES"]

QUOTA = 1_000_000


@promise
async def an_unknown_account_reads_as_zeros(bench: Bench[QuotaStore]) -> None:
    assert await bench.balance("nobody") == Balance(account="nobody"), "an account nobody granted anything is all zeros"


@promise
async def a_refused_reserve_makes_no_account(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    result = await bench.one(reserve("hold", 1, "nobody"))
    assert result.status == "refused", "an account nobody granted anything has no room"
    assert await bench.balance("nobody") == Balance(account="nobody"), "a refused reserve leaves nothing behind"


@promise
async def a_reserve_takes_all_that_it_wants_where_it_fits(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    first = await bench.one(reserve("first", QUOTA - 1))
    assert (first.status, first.amount) == ("done", QUOTA - 1), "a reserve that fits is granted"
    last = await bench.one(reserve("last", 1))
    assert (last.status, last.amount) == ("done", 1), "a reserve that fits exactly is granted"
    balance = await bench.balance()
    assert (balance.held, balance.available, balance.remaining) == (QUOTA, 0, QUOTA), "holds take room, not money"


@promise
async def a_reserve_that_does_not_fit_takes_nothing(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("first", QUOTA - 10))
    result = await bench.one(reserve("second", 11))
    assert result.status == "refused", "a reserve above what is available is refused"
    assert result.available == 10, "a refusal says what is available"
    assert (await bench.balance()).held == QUOTA - 10, "a refused reserve takes nothing"
    again = await bench.one(reserve("second", 10))
    assert again.status == "done", "a refused id may be used again"


@promise
async def a_reserve_with_a_floor_takes_half_of_what_is_left(bench: Bench[QuotaStore]) -> None:
    await bench.start(100)
    half = await bench.one(reserve("half", 150, floor=10))
    assert (half.status, half.amount) == ("done", 50), "where it does not fit, half of what is available is granted"
    floor = await bench.one(reserve("floor", 150, floor=40))
    assert (floor.status, floor.amount) == ("done", 40), "but not less than the floor"
    below = await bench.one(reserve("below", 150, floor=11))
    assert (below.status, below.available) == ("refused", 10), "what is below the floor is refused"
    whole = await bench.one(reserve("whole", 10, floor=1))
    assert (whole.status, whole.amount) == ("done", 10), "where it fits, all of it is granted"


@promise
async def a_repeated_reserve_returns_the_stored_grant(bench: Bench[QuotaStore]) -> None:
    await bench.start(100)
    operation = reserve("hold", 150, floor=10)
    first = await bench.one(operation)
    await bench.one(Grant(id="more", account="alice", amount=1000))
    again, twice = await bench.apply(operation, operation)
    for repeat in (again, twice):
        assert (repeat.status, repeat.amount) == ("done", first.amount), "a repeat returns the stored grant"
    assert (await bench.balance()).held == first.amount, "a repeat takes nothing more"


@promise
async def another_amount_under_the_same_id_is_a_conflict(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    for other in (reserve("hold", 101), reserve("hold", 100, "bob")):
        result = await bench.one(other)
        assert result.status == "conflict", "another reserve under the same id is a conflict"
    assert (await bench.balance()).held == 100, "the first reserve wins"
    await bench.one(settle("hold", 7))
    late = await bench.one(reserve("hold", 100))
    assert late.status == "conflict", "a reserve that arrives after its settlement is a conflict"


@promise
async def a_worker_without_a_lease_is_fenced(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    result = await bench.one(reserve("hold", 1, owner="stranger"))
    assert result.status == "fenced", "a reserve needs a lease of its owner"
    operations = (Renew(owner="stranger", ttl_s=600), reserve("hold", 1, owner="stranger"))
    renewed, reserved = await bench.apply(*operations)
    assert (renewed.status, reserved.status) == ("done", "done"), "a renewal in the same batch is enough"


@promise
async def a_worker_whose_lease_ran_out_is_fenced(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(Renew(owner="sleeper", ttl_s=LEASE_S))
    await bench.wait(LEASE_S)
    result = await bench.one(reserve("hold", 1, owner="sleeper"))
    assert result.status == "fenced", "a lease that ran out covers no reserve"


@promise
async def a_hold_stands_in_all_of_its_accounts_or_in_none(bench: Bench[QuotaStore]) -> None:
    await bench.start(100)
    await bench.start(50, "team")
    refused = await bench.one(reserve("large", 60, "alice", "team"))
    assert (refused.status, refused.available) == ("refused", 50), "a hold must fit in each of its accounts"
    assert (await bench.balance("alice")).held == 0, "what does not fit in one account is held in none"
    await bench.one(reserve("small", 40, "alice", "team"))
    for account in ("alice", "team"):
        assert (await bench.balance(account)).held == 40, "what fits is held in every account"
    await bench.one(Release(id="small"))
    for account in ("alice", "team"):
        assert (await bench.balance(account)).held == 0, "and is given back to every account"


@promise
async def one_refusal_leaves_its_neighbours_alone(bench: Bench[QuotaStore]) -> None:
    operations: list[Operation] = [
        Renew(owner="worker", ttl_s=3600),
        Grant(id="start", account="alice", amount=100),
        reserve("first", 60),
        reserve("too-large", 60),
        settle("nowhere", 1),
        reserve("fenced", 1, owner="stranger"),
        Grant(id="start", account="alice", amount=101),
        reserve("last", 40),
        settle("first", 10),
        Release(id="last"),
    ]
    results = await bench.apply(*operations)
    expected = ["done", "done", "done", "refused", "unknown", "fenced", "conflict", "done", "done", "done"]
    assert [result.status for result in results] == expected, (
        "each operation sees those before it, and only its own fate"
    )
    named = [(operation, result) for operation, result in zip(operations, results, strict=True)]
    assert all(result.id == operation.id for operation, result in named if hasattr(operation, "id")), (
        "results come in the order of the operations, each with its id"
    )


@promise
async def an_empty_batch_is_answered(bench: Bench[QuotaStore]) -> None:
    assert await bench.apply() == [], "a batch of nothing is answered with nothing"


@promise
async def amounts_that_no_store_can_count_are_refused(bench: Bench[QuotaStore]) -> None:
    await bench.start(MAX_NANO)
    for amount in (MAX_NANO + 1, 2**63, -1):
        result = await bench.one(reserve(f"hold:{amount}", amount, floor=min(amount, 0)))
        assert result.status == "refused", "a reserve below zero or above the largest amount is refused"
    assert (await bench.balance()).held == 0, "and takes nothing"
    whole = await bench.one(reserve("whole", MAX_NANO))
    assert whole.status == "done", "the largest amount is exact"


@promise
async def a_race_never_oversells(bench: Bench[QuotaStore]) -> None:
    await bench.start(10 * 1000)
    results = await _at_once(bench, [[reserve(f"hold-{number}", 1000)] for number in range(64)])
    statuses = [result.status for (result,) in results]
    assert statuses.count("done") == 10, "64 reserves at once on room for ten grant exactly ten"
    assert statuses.count("refused") == 54, "and refuse the others"
    assert (await bench.balance()).available == 0, "and fill the account"


@promise
async def repeats_in_a_race_take_room_once(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    results = await _at_once(bench, [[reserve("hold", 100)] for _ in range(16)])
    assert all(result.status == "done" for (result,) in results), "every repeat is told of the grant"
    assert (await bench.balance()).held == 100, "however many come at once, room is taken once"


@promise
async def of_settlements_in_a_race_one_wins(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100))
    results = await _at_once(bench, [[settle("hold", amount)] for amount in range(16)])
    done = [result for (result,) in results if result.status == "done"]
    assert len(done) == 1, "of different settlements at once one wins"
    assert sum(result.status == "conflict" for (result,) in results) == 15, "and the others are conflicts"
    assert (await bench.balance()).used == done[0].amount, "and it alone is charged"


async def _at_once(bench: Bench[QuotaStore], batches: list[list[Operation]]) -> list[list[Result]]:
    """Batches applied by as many tasks, then shown to the witness."""
    results: list[list[Result]] = [[] for _ in batches]

    async def apply(number: int) -> None:
        results[number] = await bench.store.apply(batches[number])

    async with anyio.create_task_group() as group:
        for number in range(len(batches)):
            group.start_soon(apply, number)
    for batch, answers in zip(batches, results, strict=True):
        for operation, result in zip(batch, answers, strict=True):
            bench.note(operation, result)
    await bench.compare()
    return results


PROMISES: tuple[Promise, ...] = (
    an_unknown_account_reads_as_zeros,
    a_refused_reserve_makes_no_account,
    a_reserve_takes_all_that_it_wants_where_it_fits,
    a_reserve_that_does_not_fit_takes_nothing,
    a_reserve_with_a_floor_takes_half_of_what_is_left,
    a_repeated_reserve_returns_the_stored_grant,
    another_amount_under_the_same_id_is_a_conflict,
    a_worker_without_a_lease_is_fenced,
    a_worker_whose_lease_ran_out_is_fenced,
    a_hold_stands_in_all_of_its_accounts_or_in_none,
    one_refusal_leaves_its_neighbours_alone,
    an_empty_batch_is_answered,
    amounts_that_no_store_can_count_are_refused,
    a_race_never_oversells,
    repeats_in_a_race_take_room_once,
    of_settlements_in_a_race_one_wins,
)
