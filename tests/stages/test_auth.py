"""Who is asking: caches, single flight, and stores that fail."""

from collections.abc import Callable

import anyio
import pytest

from hpp_middleware.core import auth
from hpp_middleware.errors import RequestError, StoreError
from hpp_middleware.stages import auth as stage
from hpp_middleware.types.consumer import Consumer, Credential
from stages.authenticating import ALICE, KEY, PEPPER, Clock, Keys, authenticator, credential, headers, refused

pytestmark = pytest.mark.anyio


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
