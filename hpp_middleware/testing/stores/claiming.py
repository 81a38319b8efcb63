"""What a quota store promises of idempotency keys: a claim is placed with its hold, and dies with it."""

from hpp_middleware.core.quota import KEEP_RESOLVED_S
from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import LEASE_S, Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Claim, Kept, Release, Renew, Settle, Sweep
from hpp_middleware.types.quota import Report

__all__ = ["PROMISES"]

QUOTA = 1000
CLAIM = Claim(key="key", fingerprint="asked", ttl_s=3600)


@promise
async def a_key_is_claimed_once(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    first, second = await bench.apply(reserve("hold", 100, claim=CLAIM), reserve("again", 100, claim=CLAIM))
    assert first.status == "done", "the first request claims its key"
    assert (second.status, second.hold) == ("running", "hold"), "the next one is told who has it"
    repeat = await bench.one(reserve("hold", 100, claim=CLAIM))
    assert (repeat.status, repeat.amount) == ("done", 100), "a repeat by id is the first request itself"
    assert (await bench.balance()).held == 100, "and nothing is held twice"


@promise
async def a_finished_request_is_answered_from_what_was_kept(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100, claim=CLAIM))
    await bench.one(settle("hold", 30, kept=Kept(body=bytes(range(256)), most=256)))
    again = await bench.one(reserve("again", 100, claim=CLAIM))
    assert (again.status, again.hold, again.kept) == ("finished", "hold", bytes(range(256))), (
        "the answer is given again"
    )
    balance = await bench.balance()
    assert (balance.used, balance.held, balance.requests) == (30, 0, 1), "and is charged once"


@promise
async def a_finished_request_without_an_answer_is_not_run_again(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100, claim=CLAIM))
    await bench.one(settle("hold", 30))
    again = await bench.one(reserve("again", 100, claim=CLAIM))
    assert (again.status, again.hold, again.kept) == ("finished", "hold", None), "it is finished all the same"


@promise
async def another_request_under_the_same_key_is_told_so(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    other = Claim(key="key", fingerprint="asked otherwise", ttl_s=3600)
    await bench.one(reserve("hold", 100, claim=CLAIM))
    assert (await bench.one(reserve("other", 100, claim=other))).status == "mismatch", "while the first one runs"
    await bench.one(settle("hold", 30, kept=Kept(body=b"answer", most=100)))
    result = await bench.one(reserve("other", 100, claim=other))
    assert (result.status, result.kept) == ("mismatch", None), "and when it is done"


@promise
async def a_refused_reserve_claims_nothing(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    assert (await bench.one(reserve("large", QUOTA + 1, claim=CLAIM))).status == "refused", "there is no room"
    assert (await bench.one(reserve("small", QUOTA, claim=CLAIM))).status == "done", "so that the key is free"


@promise
async def a_released_hold_frees_its_key(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.one(reserve("hold", 100, claim=CLAIM))
    await bench.one(Release(id="hold"))
    other = Claim(key="key", fingerprint="asked otherwise", ttl_s=3600)
    assert (await bench.one(reserve("again", 100, claim=other))).status == "done", "nothing was forwarded under it"
    assert (await bench.one(reserve("third", 100, claim=other))).hold == "again", "and it is the next one's"


@promise
async def a_hold_that_is_given_back_after_a_sweep_frees_its_key(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(Renew(owner="sleeper", ttl_s=LEASE_S), reserve("hold", 100, owner="sleeper", claim=CLAIM))
    await bench.wait(LEASE_S)
    await bench.one(Sweep())
    await bench.one(Release(id="hold"))
    assert (await bench.balance()).used == 0, "it was corrected down to nothing"
    assert (await bench.one(reserve("again", 100, claim=CLAIM))).status == "done", "nothing was forwarded under its key"
    await bench.one(Release(id="hold"))
    assert (await bench.one(reserve("third", 100, claim=CLAIM))).hold == "again", "and it is the next one's"


@promise
async def a_failure_that_cost_nothing_frees_its_key(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    for number, (amount, status) in enumerate(((0, "done"), (5, "finished"))):
        claim = Claim(key=f"key-{number}", fingerprint="asked", ttl_s=3600)
        await bench.one(reserve(f"hold-{number}", 100, claim=claim))
        await bench.one(Settle(id=f"hold-{number}", amount=amount, report=Report(outcome="failed")))
        again = await bench.one(reserve(f"again-{number}", 100, claim=claim))
        assert again.status == status, "what failed for nothing can be tried again, what was charged cannot"


@promise
async def a_claim_dies_with_its_owner(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S), reserve("hold", 100, owner="dying", claim=CLAIM))
    await bench.wait(LEASE_S)
    assert (await bench.one(reserve("early", 100, claim=CLAIM))).status == "running", "until it is swept"
    await bench.one(Sweep())
    assert (await bench.one(reserve("again", 100, claim=CLAIM))).status == "done", "a dead worker's key is free"
    await bench.one(settle("hold", 10, kept=Kept(body=b"too late", most=100)))
    await bench.one(settle("again", 20, kept=Kept(body=b"answer", most=100)))
    third = await bench.one(reserve("third", 100, claim=CLAIM))
    assert (third.hold, third.kept) == ("again", b"answer"), "and its late answer is not the next one's"


@promise
async def an_answer_is_kept_for_its_time(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    short = Claim(key="key", fingerprint="asked", ttl_s=LEASE_S)
    await bench.apply(
        reserve("hold", 100, claim=short),
        reserve("live", 100, claim=Claim(key="live", fingerprint="asked", ttl_s=LEASE_S)),
    )
    await bench.one(settle("hold", 30, kept=Kept(body=b"answer", most=100)))
    await bench.wait(LEASE_S)
    await bench.one(Sweep())
    assert (await bench.one(reserve("again", 100, claim=short))).status == "done", "then the key is free"
    live = await bench.one(reserve("other", 100, claim=Claim(key="live", fingerprint="asked", ttl_s=LEASE_S)))
    assert live.status == "running", "but never under a hold that lives"


@promise
async def an_account_keeps_so_many_bytes(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.start(QUOTA, "bob")
    names = ("a", "b", "c")
    await bench.apply(*(reserve(name, 10, claim=Claim(key=name, fingerprint="asked", ttl_s=3600)) for name in names))
    await bench.one(reserve("d", 10, "bob", claim=Claim(key="d", fingerprint="asked", ttl_s=3600)))
    sizes = {"a": 60, "b": 41, "c": 40, "d": 100}
    await bench.apply(*(settle(name, 1, kept=Kept(body=bytes(size), most=100)) for name, size in sizes.items()))
    kept = {}
    for name in sizes:
        again = reserve(f"{name}-again", 10, claim=Claim(key=name, fingerprint="asked", ttl_s=3600))
        kept[name] = (await bench.one(again)).kept
    assert [name for name, body in kept.items() if body] == ["a", "c", "d"], (
        "what is past an account's bound is not kept"
    )


@promise
async def what_was_resolved_long_ago_is_forgotten(bench: Bench[QuotaStore]) -> None:
    if not bench.has_clock:
        return  # nobody waits a week
    await bench.start(QUOTA)
    await bench.apply(reserve("settled", 10), reserve("released", 10), reserve("live", 10, ttl_s=3 * KEEP_RESOLVED_S))
    await bench.apply(settle("settled", 5), Release(id="released"), Release(id="tombstone"))
    await bench.wait(KEEP_RESOLVED_S - 1)
    await bench.apply(Renew(owner="worker", ttl_s=3 * KEEP_RESOLVED_S), Sweep())
    assert (await bench.one(settle("settled", 5))).status == "done", "a hold is remembered for a week"
    await bench.wait(2)
    await bench.one(Sweep())
    assert (await bench.one(settle("settled", 5))).status == "unknown", "and then forgotten"
    assert (await bench.one(settle("live", 5))).status == "done", "but not while it lives"
    assert (await bench.balance()).used == 10, "and what it was charged stays charged"


@promise
async def what_one_sweep_leaves_the_next_ones_forget(bench: Bench[QuotaStore]) -> None:
    if not bench.has_clock:
        return
    names = [f"over-{number:04d}" for number in range(1001)]
    await bench.apply(*(Release(id=name) for name in names))
    await bench.wait(KEEP_RESOLVED_S + 1)
    sweeps = 1
    while (await bench.one(Sweep())).more:
        sweeps += 1
        assert sweeps < len(names), "a sweep says that it has left something only while it forgets something"
    left = [
        result.id for result in await bench.apply(*(settle(name, 5) for name in names)) if result.status != "unknown"
    ]
    assert left == [], "one that has left something says so"


PROMISES: tuple[Promise, ...] = (
    a_key_is_claimed_once,
    a_finished_request_is_answered_from_what_was_kept,
    a_finished_request_without_an_answer_is_not_run_again,
    another_request_under_the_same_key_is_told_so,
    a_refused_reserve_claims_nothing,
    a_released_hold_frees_its_key,
    a_hold_that_is_given_back_after_a_sweep_frees_its_key,
    a_failure_that_cost_nothing_frees_its_key,
    a_claim_dies_with_its_owner,
    an_answer_is_kept_for_its_time,
    an_account_keeps_so_many_bytes,
    what_was_resolved_long_ago_is_forgotten,
    what_one_sweep_leaves_the_next_ones_forget,
)
