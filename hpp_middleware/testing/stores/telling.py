"""What a quota store promises of its ledger lines: they say all that was known, of the attempt that was the last."""

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import DRAFT, LEASE_S, REPORT, Bench, Promise, promise, reserve, settle
from hpp_middleware.types.operations import Grant, Renew, Reserve, Resize, Settle, Sweep
from hpp_middleware.types.price import Price, Rates, Usage

__all__ = ["PROMISES"]

QUOTA = 1000
TEAM = "alice/team"

_RATES = Rates(**{name: 10**12 + number for number, name in enumerate(Rates.__struct_fields__)})
_USED = Usage(**{name: 11 + number for number, name in enumerate(Usage.__struct_fields__)})
_DRAFT = msgspec.structs.replace(
    DRAFT,
    price=Price(base=_RATES, tiers=((1000, _RATES), (9000, _RATES)), source="a list", only="chat"),
    policy="2026-11-02",
    pricing_version=2,
    estimator_version=3,
    also=(TEAM,),
    downgraded="alice/~month:2026-11",
)
_REPORT = msgspec.structs.replace(
    REPORT,
    outcome="failed",
    estimated=True,
    usage=_USED,
    usage_raw=Raw(b'{"prompt_tokens":5}'),
    attempts=(msgspec.structs.replace(REPORT.attempts[0], usage=_USED, error="bad_gateway", upstream="east"),) * 2,
    spared=((TEAM, 1),),
)


@promise
async def every_line_says_all_that_was_known(bench: Bench[QuotaStore]) -> None:
    for known in (_DRAFT, _REPORT, _USED, _RATES):
        assert not _defaults(known), "what is kept is to be other than what it would be anyway"
    await bench.start(QUOTA)
    await bench.start(QUOTA, TEAM)
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S))
    await bench.apply(*(_reserve(name, owner) for name, owner in (("over", "worker"), ("late", "dying"))))
    over = (await bench.one(Settle(id="over", amount=130, report=_REPORT))).entries
    await bench.wait(LEASE_S)
    (orphan,) = (await bench.one(Sweep())).entries
    late = (await bench.one(Settle(id="late", amount=70, report=_REPORT))).entries
    assert [entry.line for entry in (*over, *late)] == ["resolution", "overage", "correction"], "each has its line"
    for entry in (*over, orphan, *late):
        assert (entry.draft, entry.held) == (_DRAFT, 100), "every line has what was known at the reserve, and the hold"
    for entry in (*over, *late):
        assert entry.report == _REPORT, "and what was known at the end"


@promise
async def a_line_is_of_the_attempt_that_was_the_last(bench: Bench[QuotaStore]) -> None:
    await bench.start(QUOTA)
    await bench.apply(Renew(owner="dying", ttl_s=LEASE_S))
    then = msgspec.structs.replace(
        DRAFT, model="fake/model-2", price=Price(base=Rates(input=7, output=9)), estimator_version=3
    )
    for name, owner in (("hold", "worker"), ("orphan", "dying")):
        await bench.one(reserve(name, 100, owner=owner))
        for attempt, draft in ((1, msgspec.structs.replace(DRAFT, model="fake/other")), (2, then)):
            await bench.one(Resize(id=name, attempt=attempt, amount=200, orphan_amount=30, draft=draft))
    refused = await bench.one(Resize(id="hold", attempt=3, amount=QUOTA, orphan_amount=0, draft=DRAFT))
    assert refused.status == "refused", "what does not fit is refused"
    (entry,) = (await bench.one(settle("hold", 150))).entries
    assert entry.draft == then, "a line has the model and the prices of the last attempt that was held for"
    await bench.wait(LEASE_S)
    (entry,) = (await bench.one(Sweep())).entries
    assert entry.draft == then, "so has that of an owner that died"


@promise
async def every_nano_dollar_counts(bench: Bench[QuotaStore]) -> None:
    await bench.start(9 * 10**15 - 1)
    most = 10**14 - 1
    for number, amount in enumerate((1, 999, 10**6 + 1, 2**31 + 1, 2**32 + 1, 10**12 + 1, most)):
        await bench.one(reserve(f"hold-{number}", amount))
        assert (await bench.balance()).held == amount, "what is held is exact"
        result = await bench.one(settle(f"hold-{number}", amount))
        assert (result.status, result.amount) == ("done", amount), "what is charged is exact"
        assert [entry.amount for entry in result.entries] == [amount], "and what its line says"
    await bench.one(Grant(id="less", account="alice", amount=-most))
    rest = (await bench.balance()).available
    over, fits = await bench.apply(reserve("over", rest + 1), reserve("fits", rest))
    assert (over.status, fits.status) == ("refused", "done"), "and so is what is left"


def _reserve(hold: str, owner: str) -> Reserve:
    return msgspec.structs.replace(reserve(hold, 100, "alice", TEAM, owner=owner, orphan=30), draft=_DRAFT)


def _defaults(known: Struct) -> list[str]:
    """The members that are what they would be if nobody had said them; rows have one version so far."""
    fields = [field for field in msgspec.structs.fields(known) if not field.required and field.name != "row_version"]
    return [field.name for field in fields if getattr(known, field.name) == field.default]


PROMISES: tuple[Promise, ...] = (
    every_line_says_all_that_was_known,
    a_line_is_of_the_attempt_that_was_the_last,
    every_nano_dollar_counts,
)
