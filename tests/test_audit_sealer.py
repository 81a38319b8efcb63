"""The sealer: once a line, never over an altered one, with keys that change, and by a gateway's timer."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import rig
from audited import (
    DROP,
    KEY,
    KEY_ID,
    NEXT_KEY,
    altered,
    checked,
    opened,
    renamed,
    rewritten,
    sealed,
    sealing,
)
from busy import ACCOUNTS, Busy
from msgspec.structs import replace

from hpp_middleware import ConfigurationError, MemoryStore, SQLiteStore, StoreError
from hpp_middleware.audit import Audited, Heads, Sealer, Sealing
from hpp_middleware.core import ledger
from hpp_middleware.core.ledger import Finding
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import Grant, Renew, Sweep
from hpp_middleware.types.quota import Entry, Seal

pytestmark = pytest.mark.anyio

_OLDER = {(account, "head") for account in ACCOUNTS}


async def test_a_pass_seals_what_is_new_and_nothing_twice(tmp_path: Path) -> None:
    clock = Clock()
    store, how = MemoryStore(clock=clock), sealing(tmp_path)
    sealer, busy = Sealer(store, how), Busy(store, 1)
    await busy.begin()
    await busy.run(10)
    assert await sealer.seal() == (2, ())
    assert await sealer.seal() == (0, ())
    assert await sealed(store, how) == (0, ())
    await busy.run(10)
    assert (await sealed(store, how)).seals == 2
    assert how.heads is not None
    assert len(how.heads.read_text("utf-8").split("\n")) == 3
    assert how.heads.stat().st_mode & 0o777 == 0o600
    assert await checked(store, how, clock) == ([], [])


async def test_a_sealer_that_starts_finds_the_last_of_many_seals(tmp_path: Path) -> None:
    store, how = MemoryStore(clock=Clock()), sealing(tmp_path)
    sealer, busy = Sealer(store, how), Busy(store, 1)
    await busy.begin()
    for _ in range(40):
        await busy.run(1)
        await sealer.seal()
    for account in ACCOUNTS:
        last = (await store.seals(account))[-1]
        assert await Sealer(store, how)._latest(account) == last
    assert await Sealer(store, how)._latest("nobody") is None


async def test_heads_that_a_crash_kept_from_the_file_are_written_by_the_next_pass(tmp_path: Path) -> None:
    store, how = MemoryStore(clock=Clock()), sealing(tmp_path)
    await Busy(store, 1).begin()
    await Busy(store, 1).run(10)
    await Sealer(store, Sealing(key=KEY)).seal()
    assert how.heads is not None
    how.heads.write_text('{"created":1,"hea', "utf-8")  # half a line, too
    assert await sealed(store, how) == (0, ())
    known = await Heads(how.heads).read()
    assert known is not None
    assert known.unreadable == []
    assert {name: known.heads[name][KEY_ID] for name in ACCOUNTS} == {
        name: (await store.seals(name))[-1] for name in ACCOUNTS
    }


async def test_two_sealers_at_once_make_seals_that_agree(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "hpp.db", clock) as one, opened(tmp_path / "hpp.db", clock) as other:
        await Busy(one, 1).begin()
        found: list[Finding] = []

        async def work(store: SQLiteStore, seed: int, how: Sealing) -> None:
            sealer, busy = Sealer(store, how), Busy(store, seed)
            for _ in range(5):
                await busy.run(5)
                found.extend((await sealer.seal()).findings)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work, one, 1, sealing(tmp_path, KEY, NEXT_KEY))
            tasks.start_soon(work, other, 2, sealing(tmp_path, KEY, NEXT_KEY))
            tasks.start_soon(work, other, 3, Sealing(key=NEXT_KEY, previous=(KEY,)))  # on a host that is a step ahead
        assert found == []
        assert await checked(one, sealing(tmp_path, NEXT_KEY, KEY), clock) == ([], [])


async def test_a_host_that_is_quicker_at_one_account_after_the_other_stops_no_pass(tmp_path: Path) -> None:
    store, other = MemoryStore(clock=Clock()), ledger.key_id(NEXT_KEY)
    await Busy(store, 1).begin()
    await Busy(store, 1).run(10)
    quicker = list(ACCOUNTS)
    add = store.add_seals

    async def add_seals(seals: Sequence[Seal]) -> None:
        if quicker:
            (theirs,) = [seal for seal in seals if seal.account == quicker[-1]]
            await add([replace(theirs, mac="00" * 32, key=other)])
            quicker.pop()
        await add(seals)

    store.add_seals = add_seals  # type: ignore[method-assign]
    assert await Sealer(store, Sealing(key=KEY)).seal() == (0, ())
    assert not quicker
    assert [[seal.key for seal in await store.seals(account)] for account in ACCOUNTS] == [[other]] * len(ACCOUNTS)


async def test_a_pass_is_left_to_the_process_that_makes_one(tmp_path: Path) -> None:
    store, how = MemoryStore(clock=Clock()), sealing(tmp_path)
    await Busy(store, 1).begin()
    await Busy(store, 1).run(5)
    assert how.heads is not None
    async with Heads(how.heads).claimed(wait=False) as mine:
        assert mine
        assert await Sealer(store, how).seal(wait=False) == (0, ())
    assert (await Sealer(store, how).seal(wait=False)).seals == 2


async def test_after_a_change_of_keys_old_seals_are_checked_with_the_old_key(tmp_path: Path) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await Busy(store, 1).begin()
    await Busy(store, 1).run(10)
    await sealed(store, sealing(tmp_path))
    turned = sealing(tmp_path, NEXT_KEY, KEY)
    await Busy(store, 2).run(10)
    assert await sealed(store, turned) == (2, ())
    assert await checked(store, turned, clock) == ([], [])
    # The new chain began at the first line: without the old key there is nothing that it does not cover.
    assert await checked(store, sealing(tmp_path, NEXT_KEY), clock) == ([], [])
    verified, _ = await checked(store, sealing(tmp_path, b"y" * 32), clock)
    assert {finding.kind for finding in verified} == {"key"}


async def test_a_new_key_does_not_seal_what_was_altered_under_the_old_one(tmp_path: Path) -> None:
    path, clock = tmp_path / "hpp.db", Clock()
    async with opened(path, clock) as store:
        await Busy(store, 1).begin()
        await Busy(store, 1).run(20)
        await sealed(store, sealing(tmp_path))
    rewritten(path, renamed)
    async with opened(path, clock) as store:
        await Busy(store, 2).run(10)
        done = await sealed(store, sealing(tmp_path, NEXT_KEY, KEY))
        assert (done.seals, [finding.kind for finding in done.findings]) == (1, ["seal"])
        done = await sealed(store, sealing(tmp_path, NEXT_KEY))
        assert [(finding.account, finding.kind) for finding in done.findings] == [("alice", "key")]


async def test_a_gap_is_not_sealed(tmp_path: Path) -> None:
    path, clock = tmp_path / "hpp.db", Clock()
    async with opened(path, clock) as store:
        await Busy(store, 1).begin()
        await Busy(store, 1).run(20)
    altered(path, DROP + "DELETE FROM ledger WHERE account = 'alice' AND seq = 3")
    async with opened(path, clock) as store:
        done = await sealed(store, sealing(tmp_path))
        assert (done.seals, [finding.kind for finding in done.findings]) == (1, ["missing"])


async def test_a_running_sealer_tells_of_older_books_and_seals_nothing_over_them(tmp_path: Path) -> None:
    path, old, clock, how = tmp_path / "hpp.db", tmp_path / "old.db", Clock(), sealing(tmp_path)
    sealer: Any = None
    async with opened(path, clock) as store:
        sealer = Sealer(store, how)
        await Busy(store, 1).begin()
        await Busy(store, 1).run(10)
        await sealer.seal()
    shutil.copy(path, old)
    async with opened(path, clock) as store:
        sealer._store = store
        await Busy(store, 2).run(10)
        assert (await sealer.seal()).seals == 2
    assert how.heads is not None
    exported = how.heads.read_bytes()
    shutil.copy(old, path)
    async with opened(path, clock) as store:
        sealer._store = store
        for each in (sealer, Sealer(store, how)):  # one that runs on, and one that has just started
            done = await each.seal()
            assert (done.seals, {(found.account, found.kind) for found in done.findings}) == (0, _OLDER)
        await Busy(store, 3).run(60)  # grown past what was lost, it is not taken for it
        for each in (sealer, Sealer(store, how)):
            done = await each.seal()
            assert (done.seals, {(found.account, found.kind) for found in done.findings}) == (0, _OLDER)
        assert how.heads.read_bytes() == exported
        verified, _ = await checked(store, how, clock)
        assert {(found.account, found.kind) for found in verified} == _OLDER
        how.heads.rename(tmp_path / "heads-of-what-was-lost.jsonl")  # whoever has put it back begins a new file
        assert await sealed(store, how) == (2, ())
        assert await checked(store, how, clock) == ([], [])


async def test_an_account_that_older_books_do_not_have_is_told_too(tmp_path: Path) -> None:
    how = sealing(tmp_path)
    store, empty = MemoryStore(clock=Clock()), MemoryStore(clock=Clock())
    await Busy(store, 1).begin()
    await Busy(store, 1).run(10)
    assert (await sealed(store, how)).seals == 2
    assert {(found.account, found.kind) for found in (await sealed(empty, how)).findings} == _OLDER


async def test_a_seal_that_stands_there_already_keeps_nobody_elses_from_being_made(tmp_path: Path) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await Busy(store, 1).begin()
    await Busy(store, 1).run(10)
    sealer = Sealer(store, sealing(tmp_path))
    made = [seal for name in ACCOUNTS if isinstance(seal := await sealer._sealed(name), Seal)]
    await Sealer(store, Sealing(key=NEXT_KEY)).seal()
    assert await sealer._add(made) == (0, [])
    await store.add_seals([])
    mine = [msgspec.structs.replace(seal, key=ledger.key_id(NEXT_KEY)) for seal in made]
    count, findings = await sealer._add(mine)
    assert (count, [finding.kind for finding in findings]) == (0, ["seal", "seal"])


async def test_a_heads_file_that_cannot_be_written_is_a_store_error_and_is_made_up_for(tmp_path: Path) -> None:
    store, folder = MemoryStore(clock=Clock()), tmp_path / "away"
    await Busy(store, 1).begin()
    await Busy(store, 1).run(5)
    sealer = Sealer(store, sealing(folder))
    with pytest.raises(StoreError, match="heads file"):
        await sealer.seal()
    folder.mkdir()
    assert (await sealer.seal()).seals == 2


@pytest.mark.parametrize("name", ["seal_key", "previous_seal_keys"])
async def test_a_short_key_is_refused(name: str) -> None:
    keys: dict[str, Any] = {"seal_key": {"key": b"x" * 31}, "previous_seal_keys": {"key": KEY, "previous": (b"x",)}}
    with pytest.raises(ConfigurationError, match=f"ledger.{name} must have at least 32 bytes"):
        Sealing(**keys[name])


async def test_a_key_is_never_shown() -> None:
    assert "tests" not in repr(Sealing(key=KEY, previous=(NEXT_KEY,)))


# --- in a gateway ---


async def is_sealed(store: Audited) -> None:
    """Return when alice's lines have a seal."""
    while not await store.seals("alice"):  # noqa: ASYNC110  # a store tells nobody
        await anyio.sleep(0.01)


async def test_a_gateway_that_a_lifespan_has_opened_seals_by_its_timer(
    tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    store = MemoryStore()
    how = Sealing(key=KEY, heads=tmp_path / "heads.jsonl", every_s=0.01)
    async with rig.gateway(fake_upstream, store=store, sealing=how) as gateway:
        assert (await rig.read_chat(gateway))[0] == 200
        with anyio.fail_after(30):
            await is_sealed(store)
    assert await checked(store, how, Clock()) == ([], [])


async def test_a_pass_that_fails_is_an_alarm_and_is_tried_again(tmp_path: Path, fake_upstream: FakeUpstream) -> None:
    store, witness, folder = MemoryStore(), rig.Witness(), tmp_path / "away"
    how = Sealing(key=KEY, heads=folder / "heads.jsonl", every_s=0.01)
    async with rig.gateway(fake_upstream, store=store, sealing=how, observers=(witness,)) as gateway:
        assert (await rig.read_chat(gateway))[0] == 200
        with anyio.fail_after(30):
            while "seal_failed" not in witness.alarms:  # noqa: ASYNC110  # observers are told, and tell nobody
                await anyio.sleep(0.01)
            folder.mkdir()
            await is_sealed(store)
    told = {event.detail for event in witness.events if isinstance(event, Alarm)}
    assert told == {f"The heads file {how.heads} cannot be read or written: no such file or directory."}


async def test_a_ledger_that_cannot_be_sealed_is_refused_where_a_key_is_given(fake_upstream: FakeUpstream) -> None:
    class Bare:
        """A ledger, and no more."""

        async def entries(self, account: str, hold: str) -> list[Entry]:
            return []

        async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
            return []

    with pytest.raises(ConfigurationError, match="cannot be sealed"):
        rig.gateway(fake_upstream, ledger=Bare(), sealing=Sealing(key=KEY))


async def test_an_audit_entrys_cost_is_what_all_its_lines_come_to(fake_upstream: FakeUpstream) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    async with rig.gateway(fake_upstream, store=store) as gateway:
        busy = Busy(store, 1, clock)
        await busy.apply(Grant(id="g", account="alice", amount=10**9))
        reserve = busy._reserve("late", "alice", "dead")
        mine = msgspec.structs.replace(reserve, draft=msgspec.structs.replace(reserve.draft, consumer="alice"))
        await busy.apply(Renew(owner="dead", ttl_s=30), mine)
        clock.now += 31
        await busy.apply(Sweep())
        orphan = await rig.read(gateway, "/api/user/audit/late")
        await busy._settle("late")
        corrected = await rig.read(gateway, "/api/user/audit/late")
    lines = await store.entries("alice", "late")
    assert (orphan["outcome"], orphan["estimated"], orphan["cost"]) == ("orphaned", True, lines[0].amount / 10**9)
    assert [line.line for line in lines] == ["resolution", "correction"]
    assert (corrected["outcome"], corrected["estimated"]) == ("completed", False)
    assert round(corrected["cost"] * 10**9) == sum(line.amount for line in lines) == ledger.recomputed(lines[1])
