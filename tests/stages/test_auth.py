"""Who is asking: caches, single flight, and stores that fail."""

import random
from collections import Counter
from collections.abc import Callable

import anyio
import pytest
from msgspec.structs import replace

from hpp_middleware import MemoryStore
from hpp_middleware.core import auth
from hpp_middleware.errors import RequestError, StoreError
from hpp_middleware.stages import auth as stage
from hpp_middleware.stages.auth import Authenticator
from hpp_middleware.types.consumer import Consumer, Credential

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper of thirty-two bytes long"
OLD_PEPPER = b"the pepper that there was before"
KEY = "a-key-of-any-form-whatever"
ALICE = Consumer(id="alice")


def headers(key: str = KEY) -> list[tuple[bytes, bytes]]:
    return [(b"apikey", key.encode())]


def credential(key: str = KEY, *, pepper: bytes = PEPPER, **fields: float) -> Credential:
    digest = auth.digest(key, pepper)
    return Credential(digest=digest, id="k", consumer=ALICE, pepper=auth.pepper_id(pepper), **fields)


class Keys:
    """A credential store that counts, waits and fails as told."""

    def __init__(self, *known: Credential) -> None:
        self.known = {each.digest: each for each in known}
        self.asked: list[bytes] = []
        self.error: BaseException | None = None
        self.gate: anyio.Event | None = None

    async def find(self, digest: bytes) -> Credential | None:
        self.asked.append(digest)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.known.get(digest)

    async def add(self, credential: Credential) -> None:
        self.known[credential.digest] = credential

    async def revoke(self, key_id: str, at: float) -> bool:
        raise NotImplementedError

    async def credentials(self) -> list[Credential]:
        return list(self.known.values())


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def authenticator(
    store: Keys | MemoryStore, clock: Clock, *, previous: bytes | None = None, **declared: Credential
) -> Authenticator:
    """One that goes by the clock in all it does."""
    peppers = auth.check_peppers(PEPPER, previous)
    return Authenticator(store, peppers, {each.digest: each for each in declared.values()}, clock=clock, timer=clock)


async def refused(found: Authenticator, key: str = KEY) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await found.consumer(headers(key))
    assert (caught.value.status, caught.value.code, caught.value.message) == (401, "unauthorized", "Invalid API key")
    return caught.value


async def test_a_known_key_is_asked_for_once_in_five_seconds() -> None:
    store, clock = Keys(credential()), Clock()
    found = authenticator(store, clock)
    for _ in range(3):
        assert await found.consumer(headers()) == ALICE
    assert len(store.asked) == 1
    clock.now += 5.1
    assert await found.consumer(headers()) == ALICE
    assert len(store.asked) == 2


async def test_an_unknown_key_is_forgotten_sooner_so_that_a_new_one_works_within_two_seconds() -> None:
    store, clock = Keys(), Clock()
    found = authenticator(store, clock)
    for _ in range(3):
        await refused(found)
    assert len(store.asked) == 1
    await store.add(credential())
    clock.now += 2.1
    assert await found.consumer(headers()) == ALICE


async def test_a_revoked_key_is_refused_within_five_seconds() -> None:
    store, clock = Keys(credential()), Clock()
    found = authenticator(store, clock)
    await found.consumer(headers())
    await store.add(credential(revoked=clock.now))
    clock.now += 5.1
    await refused(found)


async def test_a_key_is_refused_from_the_second_it_expires_although_it_is_cached() -> None:
    store, clock = Keys(credential(expires=1002.0)), Clock()
    found = authenticator(store, clock)
    assert await found.consumer(headers()) == ALICE
    clock.now = 1001.9
    assert await found.consumer(headers()) == ALICE
    clock.now = 1002.0
    await refused(found)
    assert len(store.asked) == 1


async def test_the_store_sees_digests_and_never_a_key() -> None:
    store = Keys(credential())
    await authenticator(store, Clock()).consumer(headers())
    assert store.asked == [auth.digest(KEY, PEPPER)]


async def test_a_declared_key_needs_no_store() -> None:
    store = Keys()
    store.error = OSError()
    found = authenticator(store, Clock(), alice=credential())
    assert await found.consumer(headers()) == ALICE
    assert store.asked == []


async def test_an_answer_about_another_key_is_no_answer() -> None:
    class Confused(Keys):
        async def find(self, digest: bytes) -> Credential:
            return credential("a-key-of-somebody-elses-own")

    await refused(authenticator(Confused(), Clock()))


async def test_the_cache_of_unknown_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MOST_CACHED", 100)
    found = authenticator(Keys(credential()), Clock())
    for number in range(1000):
        await refused(found, f"a-random-key-number-{number:06}")
    assert len(found._cache.unknown) == 100
    assert not found._cache.flights
    assert await found.consumer(headers()) == ALICE


@pytest.mark.parametrize(
    "error", [OSError("secret"), StoreError("secret"), KeyError("secret"), RequestError("secret", status=401)]
)
async def test_a_store_that_fails_is_a_503_every_time_and_never_a_401(error: Exception) -> None:
    store = Keys(credential())
    store.error = error
    found = authenticator(store, Clock())
    for _ in range(3):
        with pytest.raises(StoreError) as caught:
            await found.consumer(headers())
        assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
        assert "secret" not in caught.value.message
    assert len(store.asked) == 3
    store.error = None
    assert await found.consumer(headers()) == ALICE


async def test_a_store_that_hangs_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "FIND_S", 0.05)
    store = Keys(credential())
    store.gate = anyio.Event()
    found = authenticator(store, Clock())
    with anyio.fail_after(5), pytest.raises(StoreError):
        await found.consumer(headers())
    store.gate.set()
    assert await found.consumer(headers()) == ALICE


async def at_once(number: int, ask: Callable[[], object], store: Keys) -> list[object]:
    """What so many ask at once, while the store holds its answer back until all wait."""
    store.gate = anyio.Event()
    answers: list[object] = []

    async def one() -> None:
        try:
            answers.append(await ask())  # type: ignore[misc]  # an awaitable
        except (RequestError, StoreError) as error:
            answers.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(number):
            tasks.start_soon(one)
        await anyio.wait_all_tasks_blocked()
        store.gate.set()
    return answers


async def test_64_requests_with_one_key_ask_the_store_once() -> None:
    store = Keys(credential())
    found = authenticator(store, Clock())
    assert await at_once(64, lambda: found.consumer(headers()), store) == [ALICE] * 64
    assert len(store.asked) == 1


async def test_64_requests_with_one_unknown_key_ask_the_store_once() -> None:
    store = Keys()
    found = authenticator(store, Clock())
    answers = await at_once(64, lambda: found.consumer(headers()), store)
    assert {getattr(answer, "status", None) for answer in answers} == {401}
    assert len(store.asked) == 1


async def test_64_requests_that_wait_for_a_failure_all_get_a_503_that_says_when_to_come_back() -> None:
    store = Keys(credential())
    store.error = OSError("secret")
    found = authenticator(store, Clock())
    answers = await at_once(64, lambda: found.consumer(headers()), store)
    assert len(store.asked) == 1
    for answer in answers:
        assert isinstance(answer, StoreError)
        assert answer.headers == {"Retry-After": "1"}
    assert len({id(answer) for answer in answers}) == 64  # each its own: a shared one would gather tracebacks


async def test_whoever_asked_may_be_cancelled_without_harm_to_those_who_wait() -> None:
    store = Keys(credential())
    store.gate = anyio.Event()
    found = authenticator(store, Clock())
    answers: list[Consumer] = []

    async def wait() -> None:
        answers.append(await found.consumer(headers()))

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as first:
            async with anyio.create_task_group() as asking:
                asking.start_soon(found.consumer, headers())
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(wait)
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                first.cancel()
        await anyio.wait_all_tasks_blocked()
        assert len(store.asked) == 2
        store.gate.set()
    assert answers == [ALICE, ALICE]
    assert not found._cache.flights


# --- how long an answer holds ---


@pytest.mark.parametrize("found_s", [0.0, 3.0, 4.9])
async def test_an_answer_is_as_old_as_its_question(found_s: float) -> None:
    class Slow(Keys):
        async def find(self, digest: bytes) -> Credential | None:
            answer = await super().find(digest)
            clock.now += found_s
            return answer

    clock = Clock()
    store = Slow(credential())
    found = authenticator(store, clock)
    began = clock.now
    assert await found.consumer(headers()) == ALICE
    await store.add(credential(revoked=clock.now))
    clock.now = began + stage.KNOWN_S - 0.01
    assert await found.consumer(headers()) == ALICE
    clock.now = began + stage.KNOWN_S
    await refused(found)
    assert stage.KNOWN_S <= 5


async def test_an_answer_that_took_too_long_is_not_kept_at_all() -> None:
    class Slow(Keys):
        async def find(self, digest: bytes) -> Credential | None:
            clock.now += 6
            return await super().find(digest)

    clock = Clock()
    store = Slow(credential())
    found = authenticator(store, clock)
    for _ in range(3):
        assert await found.consumer(headers()) == ALICE
    assert len(store.asked) == 3
    assert not found._cache.known


# --- the epoch ---


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


# --- two peppers ---


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


# --- floods ---


async def test_a_hundred_thousand_random_keys_leave_the_caches_small_and_ask_the_store_once_each() -> None:
    store, clock = Keys(credential()), Clock()
    found = authenticator(store, clock)
    draw = random.Random(11)
    for number in range(100_000):
        key, _ = auth.make_key(draw.randbytes(8), draw.randbytes(20))
        if number % 2:
            key = key[:-1] + ("0" if key[-1] != "0" else "1")
        for _ in range(2 if number % 1000 < 2 else 1):
            with pytest.raises(RequestError):
                await found.consumer(headers(key))
        clock.now += 1e-6
    assert len(store.asked) == 50_000, "a bad checksum asks nothing"
    assert max(Counter(store.asked).values()) == 1, "and nobody is asked for twice within two seconds"
    assert len(found._cache.unknown) == stage.MOST_CACHED
    assert len(found._cache.known) == 0
    assert not found._cache.flights
    assert await found.consumer(headers()) == ALICE


async def test_an_unknown_key_that_is_shown_all_the_time_asks_the_store_every_two_seconds() -> None:
    store, clock = Keys(), Clock()
    found = authenticator(store, clock)
    for _ in range(1000):
        await refused(found)
        clock.now += 0.01
    assert len(store.asked) == 5
