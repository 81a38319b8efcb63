"""What the store did not take: written down at the first failure, replayed until it does, charged once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from journals import names, on_disk
from rig import Delegate

from hpp_middleware import ConfigurationError, StoreError
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.stages.reserve import lease as leases
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.settle import settling as settles
from hpp_middleware.stages.settle.journal import LOOK_AFTER_S, MEND_AFTER_S, Journal
from hpp_middleware.stages.settle.records import Record, fitted
from hpp_middleware.stages.settle.slotfile import BODY_BYTES, SLOT_BYTES, SlotFile
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import Grant, Kept, Operation, Release, Renew, Reserve, Resize, Settle
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.quota import Attempt, Draft, Report

pytestmark = pytest.mark.anyio

DRAFT = Draft(consumer="alice", model="m", requested_model="m", price=Price(base=Rates(input=1, output=1)))
LARGE = msgspec.Raw(b'{"x":"' + b"y" * 9000 + b'"}')
MANY = tuple(Attempt(provider="p" * 40, model="m" * 200, upstream_id="u" * 200) for _ in range(40))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settles, "_PAUSES_S", (0.001,))
    monkeypatch.setattr(leases, "REPLAY_AFTER_S", 0.0)


class Clock:
    """Monotonic seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def settlement(number: int, amount: int = 7) -> Settle:
    return Settle(id=f"req_{number}", amount=amount, report=Report(outcome="completed", usage=Usage(output=3)))


async def stand(store: Any, folder: Path | None, holds: int, clock: Clock) -> tuple[Lease, list[Alarm]]:
    """A lease with a journal, and as many holds of 60, ``req_0`` and on."""
    alarms: list[Alarm] = []
    journal = Journal(folder, slots=64, alarm=alarms.append, clock=clock)
    await journal.open()
    lease = Lease(store, "worker-1", swept=lambda _: None, journal=journal, clock=clock)
    reserves = [
        Reserve(
            id=f"req_{n}",
            accounts=("alice",),
            want=60,
            floor=60,
            owner="worker-1",
            ttl_s=60,
            orphan_amount=1,
            draft=DRAFT,
        )
        for n in range(holds)
    ]
    await lease.apply([Grant(id="g", account="alice", amount=10_000), *reserves])
    return lease, alarms


@pytest.mark.parametrize(
    ("operation", "lost"),
    [
        (Settle(id="r", amount=7, report=Report(outcome="completed")), set()),
        (Settle(id="r", amount=7, report=Report(outcome="completed", usage_raw=LARGE)), {"usage_raw"}),
        (
            Settle(id="r", amount=7, report=Report(outcome="failed"), kept=Kept(body=b"k" * 9000, most=10**6)),
            {"kept"},
        ),
        (
            Settle(id="r", amount=7, report=Report(outcome="completed", usage_raw=LARGE, attempts=MANY)),
            {"usage_raw", "attempts"},
        ),
        (Release(id="r"), set()),
    ],
)
def test_a_record_always_fits_and_never_loses_what_is_charged(operation: Any, lost: set[str]) -> None:
    body = fitted(Record("alice", operation))
    assert len(body) <= BODY_BYTES
    read = msgspec.json.decode(body, type=Record)
    assert read.account == "alice"
    assert read.operation.id == "r"
    if isinstance(operation, Settle):
        assert isinstance(read.operation, Settle)
        assert (read.operation.amount, read.operation.report.outcome) == (7, operation.report.outcome)
        assert (read.operation.kept is None) == (operation.kept is None or "kept" in lost)
        assert (bytes(read.operation.report.usage_raw) == b"null") == (
            "usage_raw" in lost or bytes(operation.report.usage_raw) == b"null"
        )
        assert (len(read.operation.report.attempts) < len(operation.report.attempts)) == ("attempts" in lost)


def test_an_account_of_any_length_fits() -> None:
    assert len(fitted(Record("a" * 10_000, settlement(1)))) <= BODY_BYTES


def test_what_has_to_be_done_before_is_kept_longer_than_what_is_only_told() -> None:
    operation = Settle(id="r", amount=7, report=Report(outcome="completed", usage_raw=LARGE, attempts=MANY))
    back = Resize(id="r", attempt=2, amount=5, orphan_amount=0, draft=DRAFT)
    read = msgspec.json.decode(fitted(Record("alice", operation, back)), type=Record)
    assert (read.account, read.operation.id, read.amends) == ("alice", "r", back)
    long = msgspec.structs.replace(back, draft=msgspec.structs.replace(DRAFT, model="m" * 10_000))
    read = msgspec.json.decode(fitted(Record("alice", operation, long)), type=Record)
    assert (read.account, read.operation.id, read.amends) == ("", "r", None)


async def test_what_is_kept_is_on_the_disk_before_anything_else_and_gone_when_it_is_struck_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, slots=4)
    await journal.open()
    await journal.keep(settlement(1), "alice")
    assert on_disk(tmp_path) == [Record("alice", settlement(1))]
    await journal.keep(settlement(1), "alice")
    assert len(on_disk(tmp_path)) == 1
    await journal.strike(["req_1"])
    assert on_disk(tmp_path) == []
    assert journal.is_quiet
    journal.close()


async def test_64_that_fail_at_once_are_all_on_the_disk_when_their_turn_is_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path, slots=64)
    await journal.open()
    found: list[bool] = []

    async def keep(number: int) -> None:
        await journal.keep(settlement(number), "alice")
        found.append(settlement(number).id in {record.operation.id for record in on_disk(tmp_path)})

    async with anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(keep, number)
    assert found == [True] * 64
    assert not journal.has_room(0)
    assert journal.has_room(-1)
    await journal.strike([f"req_{number}" for number in range(64)])
    assert on_disk(tmp_path) == []
    journal.close()


async def test_one_too_many_stays_in_memory_raises_the_alarm_and_stops_admission(tmp_path: Path) -> None:
    alarms: list[Alarm] = []
    journal = Journal(tmp_path, slots=1, alarm=alarms.append, clock=Clock())
    await journal.open()
    await journal.keep(settlement(1), "alice")
    assert alarms == []
    await journal.keep(settlement(2), "alice")
    assert [(alarm.kind, alarm.detail) for alarm in alarms] == [("journal", "cannot be written: ENOSPC")]
    assert not journal.writable
    assert journal.pending == 2
    await journal.strike(["req_1"])
    await journal.keep(settlement(2), "alice")
    assert on_disk(tmp_path) == [Record("alice", settlement(2))]
    assert journal.has_room(-1)
    journal.close()


async def test_a_release_is_kept_in_memory_and_what_admits_them_is_bounded(tmp_path: Path) -> None:
    journal = Journal(tmp_path, slots=4)
    await journal.open()
    for number in range(9_998):
        journal.owe(Release(id=f"req_{number}"))
    assert (journal.owed, journal.pending) == (9_998, 0)
    assert journal.has_room(1)
    assert not journal.has_room(2)
    for number in range(9_998, 10_500):  # of those in flight none is forgotten
        journal.owe(Release(id=f"req_{number}"))
    assert journal.owed == 10_500
    assert not journal.has_room(0)
    assert on_disk(tmp_path) == []
    journal.close()


async def test_what_ends_in_order_leaves_its_releases_to_the_next_as_far_as_there_are_slots(tmp_path: Path) -> None:
    journal = Journal(tmp_path, slots=4)
    await journal.open()
    await journal.keep(settlement(0), "alice")
    for number in range(1, 7):
        journal.owe(Release(id=f"req_{number}"))
    await journal.leave_all()
    journal.close()
    kept = [Record("alice", settlement(0)), *(Record("", Release(id=f"req_{number}")) for number in range(1, 4))]
    assert on_disk(tmp_path) == kept


async def test_the_next_takes_over_what_is_left_and_clears_away_the_files_of_the_dead(tmp_path: Path) -> None:
    dead = [Journal(tmp_path, slots=4) for _ in range(3)]
    for number, each in enumerate(dead):
        await each.open()
        if number != 1:
            await each.keep(settlement(number), "alice")
    for each in dead:
        each.close()
    heir = Journal(tmp_path, slots=4)
    await heir.open()
    assert {debt.operation.id for debt in heir.due()} == {"req_0", "req_2"}
    assert heir.owes("alice")
    assert names(tmp_path) == ["settle-0.journal", "settle-2.journal"]
    await heir.strike(["req_0", "req_2"])
    assert names(tmp_path) == ["settle-0.journal"]
    for number in range(10, 14):  # every slot of its own is free again
        await heir.keep(settlement(number), "alice")
    assert heir.writable
    heir.close()


async def test_a_torn_slot_raises_the_alarm_and_the_others_are_taken_over(tmp_path: Path) -> None:
    first = Journal(tmp_path, slots=4)
    await first.open()
    for number in range(3):
        await first.keep(settlement(number), "alice")
    first.close()
    with (tmp_path / "settle-0.journal").open("r+b") as raw:
        raw.seek(SLOT_BYTES + 20)
        raw.write(b"\xff\xff")
    alarms: list[Alarm] = []
    second = Journal(tmp_path, slots=4, alarm=alarms.append)
    await second.open()
    assert {debt.operation.id for debt in second.due()} == {"req_0", "req_2"}
    assert [(alarm.kind, alarm.detail) for alarm in alarms] == [("journal", "settle-0.journal: slot 1 is torn")]
    await second.keep(settlement(8), "alice")
    await second.keep(settlement(9), "alice")
    assert second.writable  # a torn slot is used again
    second.close()


async def _of_a_later_release(folder: Path, number: int) -> Path:
    left = [Journal(folder, slots=4) for _ in range(number + 1)]
    for each in left:
        await each.open()
    await left[number].keep(settlement(7), "alice")
    for each in left:
        each.close()
    path = folder / f"settle-{number}.journal"
    with path.open("r+b") as raw:
        raw.seek(4)
        raw.write(b"\2")
    return path


@pytest.mark.parametrize("number", [0, 1])
async def test_a_file_of_a_later_release_is_refused_at_the_start_and_left_as_it_is(number: int, tmp_path: Path) -> None:
    path = await _of_a_later_release(tmp_path, number)
    before = path.read_bytes()
    alarms: list[Alarm] = []
    journal = Journal(tmp_path, slots=4, alarm=alarms.append)
    told = f"cannot be opened: settle-{number}.journal is of version 2, and this release reads 1"
    with pytest.raises(ConfigurationError, match=told):
        await journal.open()
    assert [alarm.detail for alarm in alarms] == [told]
    assert path.read_bytes() == before
    again = SlotFile.open(path, create=False)
    assert again is not None, "it was given up"
    again.close()


async def test_what_a_process_leaves_that_dies_later_is_taken_over_by_one_that_runs(tmp_path: Path) -> None:
    clock = Clock()
    runs, dies = Journal(tmp_path, slots=4, clock=clock), Journal(tmp_path, slots=4)
    await runs.open()
    await dies.open()
    await dies.keep(settlement(7), "alice")
    clock.now += LOOK_AFTER_S
    assert not runs.is_quiet
    await runs.look()
    assert (runs.is_quiet, runs.pending) == (True, 0), "it lives, and its file is its own"
    dies.close()
    await runs.look()
    assert runs.pending == 0, "one look a minute"
    clock.now += LOOK_AFTER_S
    await runs.look()
    assert [debt.operation.id for debt in runs.due()] == ["req_7"]
    await runs.strike(["req_7"])
    assert names(tmp_path) == ["settle-0.journal"]
    runs.close()
    assert runs.is_quiet


async def test_one_that_runs_tells_once_of_a_file_of_a_later_release_and_goes_on(tmp_path: Path) -> None:
    clock, alarms = Clock(), list[Alarm]()
    (tmp_path / "elsewhere").mkdir()
    theirs = await _of_a_later_release(tmp_path / "elsewhere", 0)
    runs = Journal(tmp_path, slots=4, alarm=alarms.append, clock=clock)
    await runs.open()
    path = theirs.rename(tmp_path / "settle-5.journal")
    for _ in range(2):
        clock.now += LOOK_AFTER_S
        await runs.look()
    assert [alarm.detail for alarm in alarms] == [
        "settle-5.journal cannot be taken over: settle-5.journal is of version 2, and this release reads 1"
    ]
    assert path.exists()
    await runs.keep(settlement(1), "alice")
    assert runs.writable
    runs.close()


async def test_a_whole_record_of_something_else_is_told_and_skipped(tmp_path: Path) -> None:
    file = SlotFile.open(tmp_path / "settle-0.journal", create=True)
    assert file is not None
    file.write({0: b'["alice",{"type":"Sweep"}]', 1: b"\x00\xff", 2: b"{}"})
    file.close()
    alarms: list[Alarm] = []
    journal = Journal(tmp_path, slots=4, alarm=alarms.append)
    await journal.open()
    assert journal.due() == []
    assert len(alarms) == 3
    journal.close()


async def test_a_folder_that_cannot_be_is_a_store_error_and_may_be_made_later(tmp_path: Path) -> None:
    alarms: list[Alarm] = []
    journal = Journal(tmp_path / "missing" / "journal", slots=4, alarm=alarms.append)
    with pytest.raises(StoreError):
        await journal.open()
    assert [(alarm.kind, alarm.detail) for alarm in alarms] == [("journal", "cannot be opened: ENOENT")]
    (tmp_path / "missing").mkdir()
    await journal.open()
    await journal.keep(settlement(1), "alice")
    assert on_disk(tmp_path / "missing" / "journal") == [Record("alice", settlement(1))]
    journal.close()


async def test_what_comes_after_closing_raises_the_alarm(tmp_path: Path) -> None:
    alarms: list[Alarm] = []
    journal = Journal(tmp_path, slots=1, alarm=alarms.append)
    await journal.open()
    journal.close()
    await journal.keep(settlement(1), "alice")
    assert [(alarm.kind, alarm.detail) for alarm in alarms] == [("journal", "cannot be written: EBADF")]
    assert not journal.has_room(0)


async def test_where_there_is_no_folder_it_is_kept_in_memory() -> None:
    journal = Journal(slots=2)
    await journal.open()
    await journal.keep(settlement(1), "alice")
    assert journal.writable
    assert journal.has_room(0)
    assert not journal.has_room(1)
    await journal.strike(["req_1"])
    assert journal.is_quiet


async def test_one_that_the_store_never_takes_fails_nobody_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    store, clock = Delegate(), Clock()
    lease, alarms = await stand(store, tmp_path, 50, clock)
    poison = "req_20"

    async def choke(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) and operation.id == poison for operation in operations):
            raise StoreError("a row that cannot be read")

    store.before = choke
    for number in range(50):
        lease.journal.owe(settlement(number), "alice")
    for _ in range(60):
        await lease.apply([Grant(id=f"g{clock.now}", account="alice", amount=1)])  # never raises
        clock.now += 0.01
    assert [record.operation.id for record in on_disk(tmp_path)] == [poison]
    assert lease.journal.pending == 1
    assert [(alarm.kind, alarm.request_id) for alarm in alarms] == [("settle_failed", poison)]
    balance = await store.balance("alice")
    assert (balance.used, balance.held) == (49 * 7, 60)
    with pytest.raises(StoreError):
        await lease.catch_up("alice")
    for _ in range(4):
        clock.now += 30
        await lease.apply([])
    await lease.catch_up("alice")  # what it never takes does not keep a reader out for ever
    store.before = None
    clock.now += 400
    await lease.apply([])
    assert lease.journal.is_quiet
    assert (await store.balance("alice")).used == 50 * 7
    lease.journal.close()


@pytest.mark.parametrize(
    ("before", "status"),
    [
        ([settlement(0, 8)], "conflict"),
        ([Release(id="req_0")], "conflict"),
        (None, "unknown"),
    ],
)
async def test_another_answer_than_done_raises_the_alarm_and_frees_the_slot(
    before: list[Operation] | None, status: str, tmp_path: Path
) -> None:
    store, clock = Delegate(), Clock()
    lease, alarms = await stand(store, tmp_path, 1 if before is not None else 0, clock)
    await store.apply(before or [])
    await lease.journal.keep(settlement(0), "alice")
    lease.journal.leave("req_0")
    await lease.apply([])
    (alarm,) = alarms
    assert (alarm.kind, alarm.request_id) == ("conflict", "req_0")
    assert alarm.detail.startswith(f"{status}: wanted 7")
    assert on_disk(tmp_path) == []
    assert lease.journal.is_quiet
    lease.journal.close()


async def test_while_a_store_is_down_not_every_request_tries_what_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "REPLAY_AFTER_S", 1.0)
    store, clock = Delegate(), Clock()
    lease, _ = await stand(store, None, 1, clock)
    lease.journal.owe(settlement(0), "alice")
    store.error = OSError()
    for _ in range(10):
        with pytest.raises(StoreError):
            await lease.apply([Renew(owner="worker-1", ttl_s=30)])
    assert len(store.asked(Settle)) == 1
    clock.now += 1
    with pytest.raises(StoreError):
        await lease.apply([Renew(owner="worker-1", ttl_s=30)])
    assert len(store.asked(Settle)) == 2


async def test_a_release_that_failed_is_written_down_too(tmp_path: Path) -> None:
    store = Delegate()

    async def no_release(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Release) for operation in operations):
            raise OSError

    lease, alarms = await stand(store, tmp_path, 1, Clock())
    nothing = Settlement(0, None, estimated=False, usage=Usage())
    store.before = no_release
    report = Report(outcome="failed")
    assert await settles.settle(lease, "req_0", nothing, report, account="alice", alarm=alarms.append) is None
    assert on_disk(tmp_path) == [Record("alice", Release(id="req_0"))]
    store.before = None
    await lease.catch_up("alice")
    assert on_disk(tmp_path) == []
    assert (await store.balance("alice")).held == 0
    lease.journal.close()


# --- removed, or not ours -------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "folder", "name"])
async def test_what_was_written_into_a_file_that_was_removed_is_written_down_anew(what: str, tmp_path: Path) -> None:
    alarms: list[Alarm] = []
    folder = tmp_path / "journal"
    runs = Journal(folder, slots=4, alarm=alarms.append)
    await runs.open()
    await runs.keep(settlement(1), "alice")
    await runs.keep(settlement(2), "alice")
    if what == "name":
        (folder / "settle-0.journal").rename(tmp_path / "elsewhere")
    else:
        (folder / "settle-0.journal").unlink()
    if what == "folder":
        folder.rmdir()
    await runs.keep(settlement(3), "alice")
    assert runs.writable
    assert {record.operation.id for record in on_disk(folder)} == {"req_1", "req_2", "req_3"}
    assert [alarm.detail for alarm in alarms] == ["settle-0.journal was removed; what it held is written down anew"]
    await runs.strike(["req_1", "req_2", "req_3"])
    assert on_disk(folder) == []
    for number in range(10, 14):
        await runs.keep(settlement(number), "alice")
    assert runs.writable, "every slot is free again"
    runs.close()
    heir = Journal(folder, slots=4)
    await heir.open()
    assert heir.pending == 4
    heir.close()


async def test_what_was_taken_over_from_a_file_that_was_removed_is_written_down_anew(tmp_path: Path) -> None:
    left = [Journal(tmp_path, slots=4) for _ in range(2)]
    for each in left:
        await each.open()
    await left[1].keep(settlement(7), "alice")
    for each in left:
        each.close()
    heir = Journal(tmp_path, slots=4)
    await heir.open()
    (tmp_path / "settle-1.journal").unlink()
    await heir.keep(settlement(1), "alice")
    assert {record.operation.id for record in on_disk(tmp_path)} == {"req_1", "req_7"}
    await heir.strike(["req_1", "req_7"])
    assert heir.writable
    heir.close()


async def test_a_file_that_was_removed_is_missed_although_nothing_is_owed(tmp_path: Path) -> None:
    clock, alarms = Clock(), list[Alarm]()
    runs = Journal(tmp_path / "journal", slots=4, alarm=alarms.append, clock=clock)
    await runs.open()
    (tmp_path / "journal" / "settle-0.journal").unlink()
    clock.now += LOOK_AFTER_S
    await runs.look()
    assert names(tmp_path / "journal") == ["settle-0.journal"]
    assert len(alarms) == 1
    runs.close()


async def test_where_there_can_be_no_other_file_nothing_is_admitted_until_there_can(tmp_path: Path) -> None:
    clock, alarms = Clock(), list[Alarm]()
    place = tmp_path / "place"
    place.mkdir()
    runs = Journal(place / "journal", slots=4, alarm=alarms.append, clock=clock)
    await runs.open()
    place.rename(tmp_path / "elsewhere")
    await runs.keep(settlement(1), "alice")
    assert not runs.has_room(0)
    assert [alarm.detail for alarm in alarms] == ["cannot be written: ENOENT"]
    place.mkdir()
    clock.now += MEND_AFTER_S
    await runs.mend()
    assert runs.has_room(0)
    assert [record.operation.id for record in on_disk(place / "journal")] == ["req_1"]
    runs.close()


async def test_a_file_that_is_not_ours_to_open_is_told_once(tmp_path: Path) -> None:
    clock, alarms = Clock(), list[Alarm]()
    (tmp_path / "settle-5.journal").symlink_to(tmp_path / "elsewhere")  # as another user's: root may open anything else
    runs = Journal(tmp_path, slots=4, alarm=alarms.append, clock=clock)
    await runs.open()
    clock.now += LOOK_AFTER_S
    await runs.look()
    assert [alarm.detail for alarm in alarms] == ["settle-5.journal cannot be taken over: ELOOP"]
    runs.close()
