"""Whatever is changed behind the ledger's back is found; and what is right is never complained of, busy or not."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import rig
from audited import DROP, DROP_SEALS, KEY, altered, checked, opened, renamed, renewed, rewritten, sealed, sealing
from busy import ACCOUNTS, Busy

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.audit import Auditor, Sealer, Sealing, shares
from hpp_middleware.core import ledger
from hpp_middleware.core.ledger import Finding
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Entry, Statement

pytestmark = pytest.mark.anyio

# --- what is right ---


@pytest.mark.parametrize("seed", range(3))
async def test_a_busy_ledger_is_clean_in_memory_and_in_sqlite(tmp_path: Path, seed: int) -> None:
    clock = Clock()
    async with opened(tmp_path / "hpp.db", clock) as sqlite:
        stores: list[MemoryStore | SQLiteStore] = [MemoryStore(clock=clock), sqlite]
        for number, store in enumerate(stores):
            how = Sealing(key=KEY, heads=tmp_path / f"heads-{number}.jsonl")
            sealer, busy = Sealer(store, how), Busy(store, seed, clock)
            await busy.begin()
            for _ in range(4):
                await busy.run(25)
                assert (await sealer.seal()).findings == ()
            await busy.run(5)
            assert await checked(store, how, clock) == ([], [])
            lines = [await store.lines(account) for account in ACCOUNTS]
            classes = {line.line for each in lines for line in each}
            assert classes == {"resolution", "overage", "correction"}


async def test_nothing_is_complained_of_beside_live_traffic(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "hpp.db", clock) as store:
        how = sealing(tmp_path)
        await Busy(store, 0).begin()
        found: list[Any] = []

        async def work(seed: int) -> None:
            await Busy(store, seed).run(40)

        async def watch() -> None:
            sealer = Sealer(store, how)
            for _ in range(6):
                found.extend((await sealer.seal()).findings)
                for findings in await checked(store, how, clock):
                    found.extend(findings)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            for seed in range(1, 5):
                tasks.start_soon(work, seed)
        assert found == []
        assert await checked(store, how, clock) == ([], [])


async def test_requests_through_a_gateway_leave_books_that_are_clean(
    tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    async with opened(tmp_path / "hpp.db", Clock()) as store, rig.gateway(fake_upstream, store=store) as gateway:
        for stream in (False, True, False):
            assert (await rig.read_chat(gateway, stream=stream))[0] == 200
        assert (await sealed(store, sealing(tmp_path))).seals == 1
        assert await checked(store, sealing(tmp_path), Clock()) == ([], [])
        (line, *_) = await store.lines("alice")
        assert ledger.recomputed(line) == line.amount == rig.USAGE_NANO


async def _with_a_team(clock: Clock, *, also: tuple[str, ...] = ("bob",)) -> MemoryStore:
    """Alice's request is charged to Bob's account, too; her line names it, or something else."""
    store = MemoryStore(clock=clock)
    busy = Busy(store, 1, clock)
    await busy.begin()
    reserve = busy._reserve("with-team", "alice", "worker")
    draft = msgspec.structs.replace(reserve.draft, also=also)
    team = msgspec.structs.replace(reserve, accounts=("alice", "bob"), draft=draft)
    await busy.apply(*renewed(team), team)
    await busy._settle("with-team")
    assert (await store.balance("bob")).used > 0
    return store


async def test_an_account_is_charged_what_the_lines_that_name_it_come_to(tmp_path: Path) -> None:
    clock = Clock()
    store = await _with_a_team(clock)
    assert await checked(store, sealing(tmp_path), clock) == ([], [])
    auditor = Auditor(store, clock=clock)
    alone = await auditor.shared(await auditor.reconcile("bob"))
    assert alone.findings == (), "an account by itself is compared with the lines of all"


@pytest.mark.parametrize("by", [-1, 1])
async def test_a_sum_above_payers_that_is_wrong_is_found(by: int, tmp_path: Path) -> None:
    clock = Clock()
    store = await _with_a_team(clock)
    account = store._books.accounts["bob"]
    store._books.accounts["bob"] = msgspec.structs.replace(account, settled=account.settled + by)
    _, (finding,) = await checked(store, sealing(tmp_path), clock)
    assert (finding.account, finding.kind) == ("bob", "settled")
    assert finding.detail.startswith(f"{account.settled + by} the account's, {account.settled} in the ledger's lines")


async def test_a_line_that_does_not_name_what_its_hold_is_in_is_found(tmp_path: Path) -> None:
    clock = Clock()
    store = await _with_a_team(clock, also=())
    _, findings = await checked(store, sealing(tmp_path), clock)
    assert {(finding.account, finding.kind) for finding in findings} == {("alice", "hold"), ("bob", "settled")}


async def test_an_account_that_is_always_charged_is_not_complained_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of several accounts are in no one snapshot: what never rests cannot be compared."""
    monkeypatch.setattr(shares, "PAUSE_S", 0.0)
    clock = Clock()
    store = await _with_a_team(clock)
    read = store.statement

    async def restless(name: str) -> Statement:
        account = store._books.accounts["bob"]
        store._books.accounts["bob"] = msgspec.structs.replace(account, settled=account.settled + 1)
        return await read(name)

    monkeypatch.setattr(store, "statement", restless)
    auditor = Auditor(store, clock=clock)
    assert (await auditor.shared(await auditor.reconcile("bob"))).findings == ()


async def test_an_archive_which_lines_are_moved_to_has_no_holds_and_is_clean_without(tmp_path: Path) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    async with opened(tmp_path / "archive.db", clock) as archive:
        await Busy(store, 1, clock).begin()
        await Busy(store, 1, clock).run(40)
        for account in ACCOUNTS:
            await archive.archive([Grant(id=f"grant:{account}", account=account, amount=10**9)])
            await archive.archive(await store.lines(account))
            assert (await Auditor(archive, holds=False, clock=clock).reconcile(account)).findings == ()
            found = await Auditor(archive, clock=clock).reconcile(account)
            assert {finding.kind for finding in found.findings} == {"hold"}


# --- what is wrong ---


def dearer(entry: Entry) -> Entry:
    base = msgspec.structs.replace(entry.draft.price.base, input=2 * 10**9)
    price = msgspec.structs.replace(entry.draft.price, base=base)
    return msgspec.structs.replace(entry, draft=msgspec.structs.replace(entry.draft, price=price))


def forged(path: Path) -> None:
    """A line rewritten, and each seal made anew by somebody who has every line, but not the key."""
    rewritten(path, renamed)
    altered(path, DROP_SEALS)
    mac = ledger.start(b"x" * 32, "alice")
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute("SELECT entry FROM ledger WHERE account = 'alice' ORDER BY seq").fetchall()
        for seq, (text,) in enumerate(rows, start=1):
            mac = ledger.extend(b"x" * 32, mac, ledger.canonical(msgspec.json.decode(text, type=Entry)))
            connection.execute("UPDATE seal SET mac = ? WHERE account = 'alice' AND seq = ?", (mac.hex(), seq))


SWAP = DROP + (
    "UPDATE ledger SET seq = -2 WHERE account = 'alice' AND seq = 2;"
    "UPDATE ledger SET seq = 2 WHERE account = 'alice' AND seq = 3;"
    "UPDATE ledger SET seq = 3 WHERE account = 'alice' AND seq = -2;"
)
LAST = "(SELECT MAX(seq) FROM ledger WHERE account = 'alice')"

SEEDED: dict[str, tuple[Callable[[Path], None], set[str], set[str]]] = {
    "an amount, in its column": (
        lambda path: altered(path, DROP + "UPDATE ledger SET amount = amount + 1 WHERE account = 'alice' AND seq = 4"),
        set(),
        {"settled", "charged"},
    ),
    "an amount, everywhere": (
        lambda path: rewritten(path, lambda entry: msgspec.structs.replace(entry, amount=entry.amount + 500)),
        {"amount", "seal"},
        {"amount", "settled", "hold"},
    ),
    "a price": (lambda path: rewritten(path, dearer), {"amount", "seal"}, {"amount"}),
    "a name that changes no sum": (lambda path: rewritten(path, renamed), {"seal"}, set()),
    "a line, deleted": (
        lambda path: altered(path, DROP + "DELETE FROM ledger WHERE account = 'alice' AND seq = 4"),
        {"missing", "seal"},
        {"missing", "settled", "lines"},
    ),
    "the last line, deleted": (
        lambda path: altered(path, DROP + f"DELETE FROM ledger WHERE account = 'alice' AND seq = {LAST}"),
        {"missing"},
        {"seq"},
    ),
    "two lines, swapped": (lambda path: altered(path, SWAP), {"missing", "order", "seal"}, {"missing", "order"}),
    "a line that is none": (
        lambda path: altered(path, DROP + "UPDATE ledger SET entry = '{}' WHERE account = 'alice' AND seq = 4"),
        {"unreadable"},
        {"unreadable"},
    ),
    "what was settled": (
        lambda path: altered(path, "UPDATE account SET settled = settled - 1 WHERE id = 'alice'"),
        set(),
        {"settled"},
    ),
    "what is held": (
        lambda path: altered(path, "UPDATE account SET held = held + 1 WHERE id = 'alice'"),
        set(),
        {"held"},
    ),
    "the quota": (
        lambda path: altered(path, "UPDATE account SET quota = quota + 1000 WHERE id = 'alice'"),
        set(),
        {"quota"},
    ),
    "the tokens": (
        lambda path: altered(path, "UPDATE account SET tokens = 0 WHERE id = 'alice'"),
        set(),
        {"tokens"},
    ),
    "a grant, deleted": (
        lambda path: altered(path, "DELETE FROM \"grant\" WHERE account = 'alice'"),
        set(),
        {"quota"},
    ),
    "a settled hold, deleted": (
        lambda path: altered(
            path, "DELETE FROM hold WHERE id = (SELECT hold FROM ledger WHERE account = 'alice' AND seq = 4)"
        ),
        set(),
        {"hold"},
    ),
    "a live hold, deleted": (
        lambda path: altered(path, "DELETE FROM hold WHERE state = 'held' AND accounts = '[\"alice\"]'"),
        set(),
        {"held"},
    ),
    "what a hold was charged": (
        lambda path: altered(
            path,
            "UPDATE hold SET charged = charged + 1 WHERE id ="
            " (SELECT hold FROM ledger WHERE account = 'alice' AND seq = 4)",
        ),
        set(),
        {"hold"},
    ),
    "an account, deleted with all it had": (
        lambda path: altered(
            path,
            f"{DROP} {DROP_SEALS} DELETE FROM ledger WHERE account = 'alice'; DELETE FROM seal WHERE account = 'alice';"
            "DELETE FROM account WHERE id = 'alice'; DELETE FROM \"grant\" WHERE account = 'alice';"
            "DELETE FROM hold WHERE accounts = '[\"alice\"]'",
        ),
        {"head"},
        set(),
    ),
    "the seals, deleted with a line": (
        lambda path: altered(
            path,
            f"{DROP} {DROP_SEALS} DELETE FROM seal; DELETE FROM ledger WHERE account = 'alice' AND seq = {LAST}",
        ),
        {"head"},
        {"seq"},
    ),
    "a line and its seals, forged without the key": (forged, {"seal"}, set()),
}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder with a busy store and its heads, to be copied, in which nothing is wrong; and the time there."""
    folder, clock = tmp_path_factory.mktemp("clean"), Clock()
    how = sealing(folder)

    async def make() -> None:
        async with opened(folder / "hpp.db", clock) as store:
            busy, sealer = Busy(store, 7, clock), Sealer(store, how)
            await busy.begin()
            for _ in range(3):
                await busy.run(15)
                await sealer.seal()
            await busy.apply(*renewed(held := busy._reserve("live", "alice", "worker")), held)
            assert await checked(store, how, clock) == ([], [])

    anyio.run(make)
    return folder, clock.now


@pytest.mark.parametrize("seeded", SEEDED)
async def test_what_is_changed_behind_the_ledgers_back_is_found(
    tmp_path: Path, seeded: str, clean: tuple[Path, float]
) -> None:
    corrupt, by_verify, by_reconcile = SEEDED[seeded]
    assert by_verify or by_reconcile
    folder, now = clean
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path, clock, how = tmp_path / "hpp.db", Clock(now), sealing(tmp_path)
    corrupt(path)
    async with opened(path, clock) as store:
        verified, reconciled = await checked(store, how, clock)
    assert {finding.account for finding in (*verified, *reconciled)} == {"alice"}
    assert by_verify <= {finding.kind for finding in verified}
    assert by_reconcile <= {finding.kind for finding in reconciled}
    assert bool(verified) == bool(by_verify)
    assert bool(reconciled) == bool(by_reconcile)


async def test_the_first_lines_that_differ_are_named(tmp_path: Path) -> None:
    path, clock, how = tmp_path / "hpp.db", Clock(), sealing(tmp_path)
    async with opened(path, clock) as store:
        busy, sealer = Busy(store, 7, clock), Sealer(store, how)
        await busy.begin()
        ends = []
        for _ in range(4):
            await busy.run(10)
            await sealer.seal()
            ends.append(len(await store.lines("alice")))
    rewritten(path, renamed, after=ends[1])
    async with opened(path, clock) as store:
        verified, _ = await checked(store, how, clock)
    assert verified == [
        Finding("alice", "seal", f"lines {ends[1] + 1} to {ends[2]} are not what was sealed at line {ends[2]}")
    ]


async def test_an_older_copy_of_the_whole_file_is_found_by_the_heads(tmp_path: Path) -> None:
    path, old, clock, how = tmp_path / "hpp.db", tmp_path / "old.db", Clock(), sealing(tmp_path)
    async with opened(path, clock) as store:
        await Busy(store, 1).begin()
        await Busy(store, 1).run(10)
        await sealed(store, how)
    shutil.copy(path, old)
    async with opened(path, clock) as store:
        await Busy(store, 2).run(10)
        await sealed(store, how)
    shutil.copy(old, path)
    async with opened(path, clock) as store:
        verified, reconciled = await checked(store, how, clock)
        assert {(finding.account, finding.kind) for finding in verified} == {(name, "head") for name in ACCOUNTS}
        assert reconciled == []
        await Busy(store, 3).run(30)  # and it stays found when the older copy has grown past it
        verified, _ = await checked(store, how, clock)
        assert {(finding.account, finding.kind) for finding in verified} == {(name, "head") for name in ACCOUNTS}


async def test_a_database_that_was_sealed_anew_with_the_key_itself_is_found_by_the_heads(tmp_path: Path) -> None:
    path, clock, how = tmp_path / "hpp.db", Clock(), sealing(tmp_path)
    async with opened(path, clock) as store:
        await Busy(store, 1).begin()
        await Busy(store, 1).run(20)
        await sealed(store, how)
    rewritten(path, renamed)
    altered(path, DROP_SEALS + "DELETE FROM seal")
    async with opened(path, clock) as store:
        await Sealer(store, Sealing(key=KEY)).seal()
        verified, _ = await checked(store, how, clock)
        assert [(finding.account, finding.kind) for finding in verified] == [("alice", "head")]
