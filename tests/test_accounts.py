"""Keys as whoever runs the router handles them: made, rotated, revoked, and moved to another pepper."""

import threading
import time
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
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.consumer import Consumer

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper of thirty-two bytes long"
OLD_PEPPER = b"the pepper that there was before"


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


# --- grants ---


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


async def test_an_id_that_another_account_was_granted_under_is_refused_and_not_taken_for_a_repeat() -> None:
    office = Office()
    await office.accounts.add_quota("alice", "1", id="top-up of November")
    with pytest.raises(ConfigurationError, match="or to another account"):
        await office.accounts.add_quota("bob", "1", id="top-up of November")
    assert (await office.accounts.balance("bob")).quota == 0
