"""Keys as whoever runs the router handles them: made, rotated, revoked, and moved to another pepper."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace
from rig import ask, check_books
from rig import gateway as gateway_before

from hpp_middleware import Gateway, MemoryStore, Provider, SQLiteStore
from hpp_middleware.accounts import Accounts, NewKey
from hpp_middleware.core import auth
from hpp_middleware.errors import ConfigurationError, RequestError, StoreError
from hpp_middleware.stores.sqlite import schema
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.consumer import Consumer

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper of thirty-two bytes long"
OLD_PEPPER = b"the pepper that there was before"
WORKER = Path(__file__).with_name("stores") / "sqlite_gateway.py"


def make(**settings: Any) -> Gateway:
    return Gateway(providers={"fake": Provider(base_url="http://127.0.0.1:9/v1")}, prices=None, **settings)


async def who(gateway: Gateway, key: str) -> str | int:
    """Whom a key names, or the status of the refusal."""
    try:
        return (await gateway.authenticate([(b"apikey", key.encode())])).id
    except RequestError as error:
        return error.status


class Office:
    """Accounts in memory, at a time that is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryStore()
        self.told = 0
        self.accounts = Accounts(self.store, self.store, PEPPER, clock=lambda: self.now, changed=self._tell)

    def _tell(self) -> None:
        self.told += 1

    async def admits(self, made: NewKey) -> Consumer | None:
        digest = auth.digest(made.key, PEPPER)
        try:
            return auth.admit(await self.store.find(digest), digest, now=self.now)
        except RequestError:
            return None


class Plain:
    """A credential store with no more than its port."""

    def __init__(self, store: MemoryStore) -> None:
        self.find, self.add = store.find, store.add
        self.revoke, self.credentials = store.revoke, store.credentials


# --- rotation of a key ---


async def test_a_rotated_key_gives_way_to_one_of_the_same_consumer_and_models() -> None:
    office = Office()
    old = await office.accounts.create_key("alice", quota="5", models=["openai/*"], expires=9000.0)
    new = await office.accounts.rotate_key(old.id)
    assert new is not None
    assert (new.consumer, new.models, new.expires, new.quota) == ("alice", ("openai/*",), 9000.0, 5 * 10**9)
    assert (new.replaces, new.replaced_until) == (old.id, 1000.0)
    assert new.key != old.key
    assert await office.admits(new) == Consumer(id="alice", key_id=new.id, models=("openai/*",))
    assert await office.admits(old) is None


async def test_a_rotated_key_keeps_all_that_a_host_said_of_its_consumer() -> None:
    office = Office()
    old = await office.accounts.create_key("alice")
    (kept,) = await office.accounts.keys()
    consumer = Consumer(id="alice", account="team", key_id=old.id, username="Ålice", custom_id="7")
    await office.store.add(replace(kept, consumer=consumer))
    new = await office.accounts.rotate_key(old.id)
    assert new is not None
    assert await office.admits(new) == replace(consumer, key_id=new.id)


async def test_within_its_grace_a_rotated_key_still_works_and_not_a_moment_longer() -> None:
    office = Office()
    old = await office.accounts.create_key("alice")
    new = await office.accounts.rotate_key(old.id, grace_s=60)
    assert new is not None
    assert new.replaced_until == 1060.0
    office.now = 1059.9
    assert await office.admits(old)
    office.now = 1060.0
    assert await office.admits(old) is None
    assert await office.admits(new)


async def test_a_grace_is_ended_by_a_revocation_and_never_prolonged() -> None:
    office = Office()
    old = await office.accounts.create_key("alice", expires=1050.0)
    await office.accounts.rotate_key(old.id, grace_s=60, expires=9000.0)
    office.now = 1049.9
    assert await office.admits(old)
    office.now = 1050.0
    assert await office.admits(old) is None
    office.now = 1010.0
    assert await office.accounts.revoke(old.id) is True
    assert await office.admits(old) is None


async def test_a_revoked_key_is_not_rotated_and_one_that_is_not_there_is_none() -> None:
    office = Office()
    revoked = await office.accounts.create_key("alice")
    await office.accounts.revoke(revoked.id)
    before = await office.accounts.keys()
    with pytest.raises(ConfigurationError, match="revoked"):
        await office.accounts.rotate_key(revoked.id)
    assert await office.accounts.rotate_key("nothing") is None
    assert await office.accounts.keys() == before


async def test_a_store_that_can_give_no_end_rotates_at_once_or_not_at_all() -> None:
    office = Office()
    accounts = Accounts(office.store, Plain(office.store), PEPPER, clock=lambda: 1000.0)
    old = await accounts.create_key("alice")
    with pytest.raises(ConfigurationError, match="at once only"):
        await accounts.rotate_key(old.id, grace_s=60)
    assert len(await accounts.keys()) == 1
    new = await accounts.rotate_key(old.id)
    assert new is not None
    assert await office.admits(old) is None
    assert await office.admits(new)


@pytest.mark.parametrize("grace_s", [-1.0, float("inf"), float("nan")])
async def test_a_grace_that_cannot_be_changes_nothing(grace_s: float) -> None:
    office = Office()
    old = await office.accounts.create_key("alice")
    with pytest.raises(ConfigurationError, match="grace"):
        await office.accounts.rotate_key(old.id, grace_s=grace_s)
    assert len(await office.accounts.keys()) == 1
    assert await office.admits(old)


async def test_an_expired_key_is_rotated_only_to_one_that_ends_later() -> None:
    office = Office()
    old = await office.accounts.create_key("alice", expires=1100.0)
    office.now = 1100.0
    with pytest.raises(ConfigurationError, match="expires"):
        await office.accounts.rotate_key(old.id)
    new = await office.accounts.rotate_key(old.id, expires=1200.0)
    assert new is not None
    assert await office.admits(new)


async def test_an_expiry_in_the_past_leaves_no_account_behind() -> None:
    office = Office()
    with pytest.raises(ConfigurationError, match="expires"):
        await office.accounts.create_key("alice", quota="5", expires=999.0)
    assert (await office.accounts.balance("alice")).quota == 0
    assert (await office.accounts.create_key("alice", quota="5")).quota == 5 * 10**9


async def test_a_change_is_told_although_it_failed_since_it_may_have_been_made() -> None:
    office = Office()
    made = await office.accounts.create_key("alice")
    assert office.told == 1
    await office.accounts.rotate_key(made.id)
    assert office.told == 3

    async def broken(key_id: str, at: float) -> bool:
        raise StoreError("The reply was lost.")

    office.store.revoke = broken  # type: ignore[method-assign]  # a store that fails from here on
    with pytest.raises(StoreError):
        await office.accounts.revoke(made.id)
    assert office.told == 4


# --- what a gateway remembers ---


async def test_a_revocation_by_a_gateways_own_accounts_is_in_force_at_once() -> None:
    async with make() as gateway:
        made = await gateway.accounts.create_key("alice")
        assert await who(gateway, made.key) == "alice"
        await gateway.accounts.revoke(made.id)
        assert await who(gateway, made.key) == 401


async def test_a_key_that_was_refused_works_as_soon_as_the_gateway_has_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with make() as gateway:
        key, key_id = auth.make_key(b"\1" * 8, b"\2" * 20)
        assert await who(gateway, key) == 401
        monkeypatch.setattr(auth, "make_key", lambda *_: (key, key_id))
        await gateway.accounts.create_key("alice")
        assert await who(gateway, key) == "alice"


def test_a_revocation_is_in_force_at_once_in_every_event_loop_of_the_process(anyio_backend: str) -> None:
    gateway = make()
    warm, revoked = threading.Barrier(5, timeout=60), threading.Event()
    found: list[tuple[str | int, str | int]] = []
    made = anyio.run(gateway.accounts.create_key, "alice", backend=anyio_backend)

    async def loop() -> None:
        before = await who(gateway, made.key)
        await anyio.to_thread.run_sync(warm.wait)
        await anyio.to_thread.run_sync(revoked.wait, 60)
        found.append((before, await who(gateway, made.key)))

    threads = [threading.Thread(target=anyio.run, args=(loop,), kwargs={"backend": anyio_backend}) for _ in range(4)]
    for thread in threads:
        thread.start()
    warm.wait()
    anyio.run(gateway.accounts.revoke, made.id, backend=anyio_backend)
    revoked.set()
    for thread in threads:
        thread.join(60)
    assert found == [("alice", 401)] * 4


@pytest.mark.parametrize("ended", ["revoked", "expired"])
async def test_what_a_key_is_streaming_goes_on_to_its_end_when_the_key_ends(
    ended: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(texts=("one", "two", "three"), delay_between_s=0.05)
    clock = Clock(time.time())
    async with gateway_before(fake_upstream) as gateway:
        (await gateway.worker()).authenticator._clock = clock
        made = await gateway.accounts.create_key("alice", expires=clock.now + 60)
        async with ask(gateway, key=made.key, stream=True) as call:
            assert await call.started() == 200
            assert b"assistant" in await call.event()
            if ended == "revoked":
                await gateway.accounts.revoke(made.id)
            else:
                clock.now += 60
            assert await who(gateway, made.key) == 401
            rest = await call.read()
            await call.returned()
        assert b"three" in rest
        assert rest.endswith(b"data: [DONE]\n\n")
        (line,) = await check_books(gateway)
        assert (line.report.outcome, line.draft.key_id) == ("completed", made.id)


# --- two peppers ---


async def test_the_old_pepper_can_be_dropped_when_every_key_was_used(tmp_path: Path) -> None:
    async with make(store=SQLiteStore(tmp_path / "hpp.db"), pepper=OLD_PEPPER) as gateway:
        used = await gateway.accounts.create_key("used")
        unused = await gateway.accounts.create_key("unused")
    async with make(store=SQLiteStore(tmp_path / "hpp.db"), pepper=PEPPER, previous_pepper=OLD_PEPPER) as gateway:
        assert await who(gateway, used.key) == "used"
        fresh = await gateway.accounts.create_key("fresh")
        kept = {each.id: gateway.accounts.kept_under(each) for each in await gateway.accounts.keys()}
        assert kept == {used.id: "current", unused.id: "previous", fresh.id: "current"}
    async with make(store=SQLiteStore(tmp_path / "hpp.db"), pepper=PEPPER) as gateway:
        assert [await who(gateway, each.key) for each in (used, fresh, unused)] == ["used", "fresh", 401]


async def test_workers_on_both_sides_of_a_rotation_admit_every_key_while_it_rolls(tmp_path: Path) -> None:
    path = tmp_path / "hpp.db"
    async with make(store=SQLiteStore(path), pepper=OLD_PEPPER) as gateway:
        keys = [await gateway.accounts.create_key(f"consumer-{number}") for number in range(8)]
    async with (
        make(store=SQLiteStore(path), pepper=OLD_PEPPER, previous_pepper=PEPPER) as before,
        make(store=SQLiteStore(path), pepper=PEPPER, previous_pepper=OLD_PEPPER) as after,
    ):
        answers: list[bool] = []

        async def shows(gateway: Gateway, key: NewKey) -> None:
            for _ in range(5):
                gateway.setup._forget_keys()
                answers.append(await who(gateway, key.key) == key.consumer)

        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(shows, before, key)
                tasks.start_soon(shows, after, key)
    assert answers == [True] * 80


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"pepper": b""}, "keys.pepper"),
        ({"pepper": b"x" * 15}, "keys.pepper"),
        ({"pepper": PEPPER.decode()}, "keys.pepper"),
        ({"pepper": PEPPER, "previous_pepper": b""}, "keys.previous_pepper"),
        ({"previous_pepper": b"x" * 15}, "keys.previous_pepper"),
        ({"pepper": PEPPER, "previous_pepper": PEPPER}, "keys.previous_pepper"),
    ],
)
def test_a_pepper_that_is_none_is_refused_while_building(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    assert caught.value.param == where


async def test_the_stores_own_pepper_is_not_the_previous_one_too(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "hpp.db")
    with pytest.raises(ConfigurationError, match=r"keys\.previous_pepper must differ"):
        async with make(store=store, previous_pepper=store.pepper()):
            pass


# --- what lies on disk, and several processes ---


def _as_it_was_before(path: Path, key: str, pepper: bytes) -> None:
    """A file of a version that noted no pepper, with one key."""
    with closing(sqlite3.connect(path)) as connection:
        for number, text in schema.migrations():
            if number < 3:
                connection.executescript(text)
                connection.execute(f"PRAGMA user_version = {number:d}")
        row = (auth.digest(key, pepper), "old", '{"id":"alice"}', 1.0)
        connection.execute("INSERT INTO credential (digest, id, consumer, created) VALUES (?,?,?,?)", row)
        connection.commit()


async def test_a_key_of_an_older_version_works_and_has_its_pepper_noted_when_it_is_used(tmp_path: Path) -> None:
    key, _ = auth.make_key(b"\1" * 8, b"\2" * 20)
    _as_it_was_before(tmp_path / "hpp.db", key, PEPPER)
    async with make(store=SQLiteStore(tmp_path / "hpp.db"), pepper=PEPPER) as gateway:
        (before,) = await gateway.accounts.keys()
        assert gateway.accounts.kept_under(before) == "unknown"
        assert await who(gateway, key) == "alice"
        (after,) = await gateway.accounts.keys()
        assert gateway.accounts.kept_under(after) == "current"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM credential",
        "UPDATE credential SET revoked = 1",
        'UPDATE credential SET consumer = \'{"id":"eve"}\'',
    ],
)
async def test_what_an_operator_changes_by_hand_counts_as_a_change(statement: str, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "hpp.db")
    await store.open()
    await Accounts(store, store, PEPPER).create_key("alice")
    before = await store.epoch()
    with closing(sqlite3.connect(tmp_path / "hpp.db")) as connection:
        connection.execute(statement)
        connection.commit()
    assert await store.epoch() == before + 1
    await store.aclose()


async def test_no_file_of_the_store_holds_a_key_or_its_secret(tmp_path: Path) -> None:
    async with make(store=SQLiteStore(tmp_path / "hpp.db")) as gateway:
        made = [await gateway.accounts.create_key(f"consumer-{number}", quota="1") for number in range(20)]
        for each in made[:10]:
            assert await who(gateway, each.key) == each.consumer
            rotated = await gateway.accounts.rotate_key(each.id)
            assert rotated is not None
            made.append(rotated)
        pepper = gateway.setup.pepper
        while_open = _bytes_in(tmp_path)
    on_disk = while_open + _bytes_in(tmp_path)
    assert made[0].id.encode() in on_disk
    for each in made:
        _, _, secret, _ = each.key.split("_")
        assert secret.encode() not in on_disk
    assert (while_open.count(pepper), _bytes_in(tmp_path).count(pepper)) == (1, 1)  # in the file of its own


def test_a_revocation_reaches_every_process_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hpp.db"

    async def office(key_id: str | None) -> NewKey | bool:
        store = SQLiteStore(path)
        await store.open()
        try:
            accounts = Accounts(store, store, store.pepper())
            return await (accounts.create_key("alice") if key_id is None else accounts.revoke(key_id))
        finally:
            await store.aclose()

    made, sister = anyio.run(office, None), anyio.run(office, None)
    assert isinstance(made, NewKey)
    assert isinstance(sister, NewKey)
    with ExitStack() as stack:
        workers = [stack.enter_context(_process(path)) for _ in range(4)]
        assert [_ask(each, made.key) for each in workers] == ["alice"] * 4
        assert anyio.run(office, made.id) is True
        polls = 0
        while [_ask(each, made.key) for each in workers] != ["401"] * 4:
            polls += 1
            assert polls < 1200, "a minute after its revocation the key is still good somewhere"
            time.sleep(0.05)
        assert [_ask(each, sister.key) for each in workers] == ["alice"] * 4


def _bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@contextmanager
def _process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, str(WORKER), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _ask(process: "subprocess.Popen[str]", key: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(key + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


# --- the account above ----------------------------------------------------------------------------


async def _of(found: Accounts, consumer: str) -> set[tuple[str, ...]]:
    return {each.consumer.parents for each in await found.keys() if each.consumer.id == consumer}


@pytest.mark.parametrize("odd", ["", "with\0NUL", "x" * 1001, "\ud800", 7], ids=ascii)
async def test_a_grant_is_made_only_under_an_id_by_which_every_store_knows_it_again(odd: Any) -> None:
    office = Office()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="id must be"):
            await office.accounts.add_quota("alice", "1", id=odd)
    assert (await office.accounts.balance("alice")).quota == 0
    for _ in range(2):
        await office.accounts.add_quota("alice", "1", id="payment 7")
    assert (await office.accounts.balance("alice")).quota == 10**9


async def test_all_keys_of_a_consumer_are_under_one_parent() -> None:
    store = MemoryStore()
    found = Accounts(store, store, PEPPER)
    await found.create_key("carol", parent="team")
    await found.create_key("carol")
    await found.create_key("carol", parent="team")
    assert await _of(found, "carol") == {("team",)}
    with pytest.raises(ConfigurationError, match="another parent") as caught:
        await found.create_key("carol", parent="other")
    assert caught.value.param == "parent"
    assert await found.set_parent("carol", "other") == 3
    assert await _of(found, "carol") == {("other",)}
    assert await found.set_parent("carol", "other") == 0, "to repeat it changes nothing"
    assert await found.set_parent("carol", None) == 3
    assert await _of(found, "carol") == {()}


async def test_a_moved_key_keeps_its_revocation_and_a_rotated_one_its_parent() -> None:
    store = MemoryStore()
    found = Accounts(store, store, PEPPER)
    made = await found.create_key("carol", models=["fake/*"])
    assert await found.revoke(made.id)
    await found.set_parent("carol", "team")
    (key,) = await found.keys()
    assert key.revoked is not None
    assert (key.consumer.parents, key.consumer.models, key.consumer.key_id) == (("team",), ("fake/*",), made.id)
    again = await found.create_key("dora", parent="team")
    rotated = await found.rotate_key(again.id)
    assert rotated is not None
    assert await _of(found, "dora") == {("team",)}


@pytest.mark.parametrize(
    ("consumer", "parent"), [("carol", "carol"), ("carol", " "), ("carol", "a/~day:1"), ("a/~", "t")]
)
async def test_a_parent_that_cannot_be_is_refused(consumer: str, parent: str) -> None:
    store = MemoryStore()
    found = Accounts(store, store, PEPPER)
    with pytest.raises(ConfigurationError):
        await found.create_key(consumer, parent=parent)
    assert await found.keys() == []


async def test_a_parent_in_another_shard_is_refused_with_the_names() -> None:
    class Sharded(MemoryStore):
        def holds_together(self, accounts: tuple[str, ...]) -> bool:
            return len({account.partition("/")[0] for account in accounts}) == 1

    store = Sharded()
    found = Accounts(store, store, PEPPER)
    with pytest.raises(ConfigurationError, match="cannot hold in carol and team at once"):
        await found.create_key("carol", parent="team")
    await found.create_key("org/carol", parent="org/team")
