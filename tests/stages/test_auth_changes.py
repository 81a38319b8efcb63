"""Who is asking, while keys are made, revoked, and moved from one pepper to the other."""

import anyio
import pytest
from msgspec.structs import replace

from hpp_middleware import MemoryStore
from hpp_middleware.core import auth
from hpp_middleware.errors import RequestError, StoreError
from hpp_middleware.stages import auth as stage
from hpp_middleware.types.consumer import Consumer, Credential
from stages.authenticating import (
    ALICE,
    KEY,
    OLD_PEPPER,
    PEPPER,
    Clock,
    Keys,
    authenticator,
    credential,
    headers,
    refused,
)

pytestmark = pytest.mark.anyio


class Counting(Keys):
    """One that counts its changes, and how often it was asked for the count."""

    def __init__(self, *known: Credential) -> None:
        super().__init__(*known)
        self.count = 7
        self.counted = 0
        self.failing = False
        self.slow: anyio.Event | None = None

    async def add(self, credential: Credential) -> None:
        await super().add(credential)
        self.count += 1

    async def epoch(self) -> int:
        self.counted += 1
        count = self.count
        if self.slow is not None:
            await self.slow.wait()
        if self.failing:
            raise OSError("secret")
        return count


async def test_a_revocation_is_seen_at_the_next_look_which_is_a_second_later() -> None:
    store, clock = Counting(credential()), Clock()
    found = authenticator(store, clock)
    assert await found.consumer(headers()) == ALICE
    await store.add(credential(revoked=clock.now))
    clock.now += stage.EPOCH_S
    await refused(found)
    assert stage.EPOCH_S <= 1


async def test_a_key_that_was_refused_and_is_then_made_works_at_the_next_look() -> None:
    store, clock = Counting(), Clock()
    found = authenticator(store, clock)
    await refused(found)
    await store.add(credential())
    clock.now += stage.EPOCH_S
    assert await found.consumer(headers()) == ALICE


async def test_the_epoch_is_looked_at_once_a_second_and_only_when_somebody_asks() -> None:
    store, clock = Counting(credential()), Clock()
    found = authenticator(store, clock)
    for _ in range(40):
        await found.consumer(headers())
        clock.now += 0.1
    assert (store.counted, len(store.asked)) == (4, 1)
    clock.now += 3600
    await found.consumer(headers())
    assert store.counted == 5


async def test_an_epoch_that_cannot_be_read_leaves_the_bound_of_five_seconds() -> None:
    store, clock = Counting(credential()), Clock()
    found = authenticator(store, clock)
    assert await found.consumer(headers()) == ALICE
    store.failing = True
    await store.add(credential(revoked=clock.now))
    clock.now += 4.9
    assert await found.consumer(headers()) == ALICE
    clock.now += 0.1
    await refused(found)


async def test_an_epoch_that_hangs_holds_up_one_request_for_a_while_and_the_others_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "ASIDE_S", 0.05)
    store, clock = Counting(credential()), Clock()
    found = authenticator(store, clock)
    await found.consumer(headers())
    clock.now += 1
    store.slow = anyio.Event()
    answers: list[Consumer] = []

    async def one() -> None:
        answers.append(await found.consumer(headers()))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            assert await found.consumer(headers()) == ALICE
            assert answers == []
    assert answers == [ALICE]
    assert store.counted == 2


async def test_an_answer_from_before_a_change_is_not_kept_after_it() -> None:
    class Late(Keys):
        async def find(self, digest: bytes) -> Credential | None:
            answer = self.known.get(digest)  # read before the revocation, told after it
            await super().find(digest)
            return answer

    store, clock = Late(credential()), Clock()
    found = authenticator(store, clock)
    store.gate = anyio.Event()
    answers: list[Consumer] = []

    async def one() -> None:
        answers.append(await found.consumer(headers()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        await store.add(credential(revoked=clock.now))
        found.forget()
        store.gate.set()
    assert answers == [ALICE]  # it asked while the key was good
    await refused(found)
    assert len(store.asked) == 2


async def test_who_asks_after_a_change_does_not_wait_for_an_answer_from_before_it() -> None:
    store, clock = Keys(credential()), Clock()
    found = authenticator(store, clock)
    first = store.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(found.consumer, headers())
        await anyio.wait_all_tasks_blocked()
        store.gate = None
        found.forget()
        assert await found.consumer(headers()) == ALICE
        assert len(store.asked) == 2
        first.set()
    assert not found._cache.flights


async def test_a_key_of_the_previous_pepper_works_and_moves_to_the_current_one() -> None:
    store, clock = MemoryStore(), Clock()
    await store.add(credential(pepper=OLD_PEPPER, expires=5000.0))
    found = authenticator(store, clock, previous=OLD_PEPPER)
    assert await found.consumer(headers()) == ALICE
    assert await store.credentials() == [credential(expires=5000.0)]
    clock.now += 60
    assert await found.consumer(headers()) == ALICE
    assert await authenticator(store, clock).consumer(headers()) == ALICE, "the previous pepper can be dropped"


async def test_without_the_previous_pepper_its_keys_are_unknown() -> None:
    store = MemoryStore()
    await store.add(credential(pepper=OLD_PEPPER))
    await refused(authenticator(store, Clock()))
    assert await store.credentials() == [credential(pepper=OLD_PEPPER)]


async def test_a_key_whose_pepper_was_not_noted_has_it_noted_when_it_is_used() -> None:
    store = MemoryStore()
    await store.add(replace(credential(), pepper=""))
    await authenticator(store, Clock()).consumer(headers())
    assert await store.credentials() == [credential()]


@pytest.mark.parametrize(
    "ended", [credential(pepper=OLD_PEPPER, revoked=900.0), credential(pepper=OLD_PEPPER, expires=900.0)]
)
async def test_a_key_that_is_refused_stays_where_it_is(ended: Credential) -> None:
    store = MemoryStore()
    await store.add(ended)
    await refused(authenticator(store, Clock(), previous=OLD_PEPPER))
    assert await store.credentials() == [ended]


async def test_a_store_that_cannot_move_keys_finds_them_under_either_pepper() -> None:
    for pepper in (PEPPER, OLD_PEPPER):
        found = authenticator(Keys(credential(pepper=pepper)), Clock(), previous=OLD_PEPPER)
        assert await found.consumer(headers()) == ALICE


@pytest.mark.parametrize("error", [OSError("secret"), StoreError("secret")])
async def test_a_move_that_fails_keeps_nobody_out(error: Exception) -> None:
    class ReadOnly(MemoryStore):
        async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
            raise error

    store = ReadOnly()
    await store.add(credential(pepper=OLD_PEPPER))
    found = authenticator(store, Clock(), previous=OLD_PEPPER)
    for _ in range(2):
        assert await found.consumer(headers()) == ALICE


async def test_the_store_does_the_same_work_for_every_key_whichever_pepper_it_is_under() -> None:
    keys = {name: f"the-key-that-is-{name}-here" for name in ("current", "previous", "revoked", "expired", "unknown")}
    store = Keys(
        credential(keys["current"]),
        credential(keys["previous"], pepper=OLD_PEPPER),
        credential(keys["revoked"], pepper=OLD_PEPPER, revoked=1.0),
        credential(keys["expired"], expires=1.0),
    )
    found = authenticator(store, Clock(), previous=OLD_PEPPER)
    for name, key in keys.items():
        store.asked.clear()
        if name in {"current", "previous"}:
            assert await found.consumer(headers(key)) == ALICE
        else:
            await refused(found, key)
        under = [auth.digest(key, pepper) for pepper in (OLD_PEPPER, PEPPER, OLD_PEPPER)]
        assert store.asked == under, name


@pytest.mark.parametrize("reads", [1, 2])
@pytest.mark.parametrize(("kept", "to"), [(PEPPER, OLD_PEPPER), (OLD_PEPPER, PEPPER)])
async def test_a_key_that_moves_between_two_reads_is_found(kept: bytes, to: bytes, reads: int) -> None:
    class Moving(Keys):
        async def find(self, digest: bytes) -> Credential | None:
            answer = await super().find(digest)
            if len(self.asked) == reads:
                self.known = {credential(pepper=to).digest: credential(pepper=to)}
            return answer

    found = authenticator(Moving(credential(pepper=kept)), Clock(), previous=OLD_PEPPER)
    assert await found.consumer(headers()) == ALICE


async def test_a_failing_read_under_either_pepper_is_a_503() -> None:
    class Half(Keys):
        broken = b""

        async def find(self, digest: bytes) -> Credential | None:
            if digest == self.broken:
                raise OSError("secret")
            return await super().find(digest)

    store = Half(credential())
    for pepper in (PEPPER, OLD_PEPPER):
        store.broken = auth.digest(KEY, pepper)
        found = authenticator(store, Clock(), previous=OLD_PEPPER)
        with pytest.raises(StoreError):
            await found.consumer(headers())
        assert not found._cache.known
        assert not found._cache.unknown


async def test_a_revocation_while_a_key_moves_is_not_lost() -> None:
    class Revoking(MemoryStore):
        async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
            await self.revoke("k", 1000.0)
            return await super().rehash(digest, to, pepper)

    store, clock = Revoking(), Clock()
    await store.add(credential(pepper=OLD_PEPPER))
    found = authenticator(store, clock, previous=OLD_PEPPER)
    assert await found.consumer(headers()) == ALICE  # it was good when it was read
    clock.now += 1
    await refused(found)
    assert await store.credentials() == [credential(revoked=1000.0)]


async def test_a_key_that_was_shown_just_now_is_refused_once_it_is_told_to_be_forgotten() -> None:
    store, clock = Keys(credential()), Clock()
    found = authenticator(store, clock)
    for _ in range(3):
        assert await found.consumer(headers()) == ALICE
    await store.add(credential(revoked=clock.now))
    assert await found.consumer(headers()) == ALICE, "for seconds at most"
    found.forget()
    await refused(found)


async def test_a_key_that_was_shown_just_now_is_refused_from_the_moment_that_it_expires() -> None:
    clock = Clock()
    found = authenticator(Keys(credential(expires=clock.now + 1)), clock)
    assert await found.consumer(headers()) == ALICE
    clock.now += 1
    await refused(found)


async def test_headers_that_look_alike_are_not_one_and_no_secret_is_kept() -> None:
    found = authenticator(Keys(credential()), Clock())
    assert await found.consumer([(b"authorization", b"Bearer " + KEY.encode())]) == ALICE
    for shown in (
        [(b"apikey", b"Bearer " + KEY.encode())],
        [(b"authorization", KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode()), (b"apikey", b"another-key-of-twenty-characters")],
        [(b"authorization", b"Bearer " + KEY.encode())] * 2,
    ):
        with pytest.raises(RequestError):
            await found.consumer(shown)
    assert KEY.encode() not in b"".join(found._cache.recent)
    assert all(len(mark) == 32 for mark in found._cache.recent)
