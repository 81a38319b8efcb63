"""Backends of a host's own, and what happens when they misbehave: never a free request, never a wrong charge."""

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import msgspec
import pytest
from rig import ALICE, KEY, Delegate, Witness, ask, check_books, gateway, question

from hpp_middleware import ConfigurationError, Consumer, MemoryStore, RequestError, StoreError
from hpp_middleware.core import auth
from hpp_middleware.stages.reserve import holds, lease
from hpp_middleware.stages.settle import settling
from hpp_middleware.testing import FakeUpstream, get
from hpp_middleware.types.consumer import Credential
from hpp_middleware.types.operations import Release, Reserve, Result, Settle
from hpp_middleware.types.provider import Declared
from hpp_middleware.types.quota import Balance, Entry

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper that the host chose"


@pytest.mark.parametrize(
    "error", [OSError("secret-host"), KeyError("secret"), StoreError("secret"), TimeoutError("secret")]
)
async def test_a_quota_store_that_raises_anything_is_a_503_and_nothing_is_forwarded(
    error: Exception, fake_upstream: FakeUpstream
) -> None:
    store = Delegate()
    async with gateway(fake_upstream, store=store) as found:
        await found.balance(ALICE)
        store.error = error
        async with ask(found) as call:
            assert await call.started() == 503
            assert call.headers["retry-after"] == "1"
            told = await call.json()
        assert told["error"]["code"] == "quota_unavailable"
        assert told["error"]["retryable"] is True
        assert "secret" not in str(told)
        store.error = None
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_own_quota_credential_and_ledger_backends_are_used(fake_upstream: FakeUpstream) -> None:
    class Keys:
        async def find(self, digest: bytes) -> Credential | None:
            mine = auth.digest("a-key-of-the-hosts-own-making", PEPPER)
            return Credential(digest=mine, id="k1", consumer=Consumer(id="carol")) if digest == mine else None

        async def add(self, credential: Credential) -> None:
            raise NotImplementedError

        async def revoke(self, key_id: str, at: float) -> bool:
            raise NotImplementedError

        async def credentials(self) -> list[Credential]:
            return []

    books = MemoryStore()
    settings: dict[str, Any] = {"credentials": Keys(), "quota": books, "ledger": books, "store": MemoryStore()}
    async with gateway(fake_upstream, pepper=PEPPER, **settings) as found:
        await found.accounts.add_quota("carol", "1")
        async with ask(found, key="a-key-of-the-hosts-own-making") as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        async with ask(found, key="a-key-of-somebody-elses") as call:
            assert await call.started() == 401
        assert [line.draft.consumer for line in await books.lines("carol")] == ["carol"]


def test_credentials_without_a_pepper_are_refused_while_building() -> None:
    class Keys:
        async def find(self, digest: bytes) -> None:
            raise NotImplementedError

    with pytest.raises(ConfigurationError, match=r"keys\.pepper .*Gateway\(pepper=\.\.\.\)"):
        gateway("http://127.0.0.1:9/v1", credentials=Keys())


@pytest.mark.parametrize("keys", [("short",), ("x" * 300,), ("with spaces in a long key",)])
def test_a_declared_key_that_is_none_is_refused_while_building(keys: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"consumers\.alice\.keys\[0\]"):
        gateway("http://127.0.0.1:9/v1", consumers={"alice": Declared(keys=keys)})


def test_a_key_declared_for_two_consumers_is_refused_while_building() -> None:
    both = {"alice": Declared(keys=(KEY,)), "bob": Declared(keys=(KEY,))}
    with pytest.raises(ConfigurationError, match="another consumer"):
        gateway("http://127.0.0.1:9/v1", consumers=both)


def test_a_quota_store_that_is_no_ledger_needs_one() -> None:
    class Quota:
        async def apply(self, operations: Sequence[Any]) -> list[Result]:
            raise NotImplementedError

        async def balance(self, account: str) -> Balance:
            raise NotImplementedError

    with pytest.raises(ConfigurationError, match="ledger"):
        gateway("http://127.0.0.1:9/v1", quota=Quota())


async def test_an_answer_to_another_question_is_a_503_and_nothing_is_forwarded(fake_upstream: FakeUpstream) -> None:
    store = Delegate()

    async def another(operations: Sequence[Any], results: list[Result]) -> list[Result]:
        return [
            msgspec.structs.replace(result, id="req_other") if isinstance(operation, Reserve) else result
            for operation, result in zip(operations, results, strict=True)
        ]

    store.after = another
    async with gateway(fake_upstream, store=store) as found:
        with pytest.raises(StoreError):
            await found.complete(ALICE, question())
        assert len(store.asked(Release)) == 1
        assert await check_books(found) == []
    assert fake_upstream.log == []


@pytest.mark.parametrize("answers", [[], [Result(status="done")] * 9])
async def test_too_few_or_too_many_answers_are_a_503(answers: list[Result], fake_upstream: FakeUpstream) -> None:
    store = Delegate()

    async def wrong(operations: Sequence[Any], results: list[Result]) -> list[Result]:
        return answers if any(isinstance(operation, Reserve) for operation in operations) else results

    store.after = wrong
    async with gateway(fake_upstream, store=store) as found:
        with pytest.raises(StoreError):
            await found.complete(ALICE, question())
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_another_accounts_balance_is_never_shown(fake_upstream: FakeUpstream) -> None:
    class Mixed(MemoryStore):
        async def balance(self, account: str) -> Balance:
            return Balance(account="bob", quota=77)

    async with gateway(fake_upstream, store=Mixed()) as found:
        with pytest.raises(StoreError):
            await found.balance(ALICE)


async def test_another_requests_lines_are_never_shown(fake_upstream: FakeUpstream) -> None:
    class Mixed(MemoryStore):
        async def entries(self, account: str, hold: str) -> list[Entry]:
            return [line for name in ("alice", "bob") for line in await self.lines(name)]

    async with gateway(fake_upstream, store=Mixed()) as found:
        mine = await found.complete(ALICE, question())
        await found.complete(Consumer(id="bob"), question())
        with pytest.raises((RequestError, StoreError)):
            await found.entries(ALICE, mine.id)


async def hang(_: Sequence[Any]) -> None:
    await anyio.sleep_forever()


async def test_a_reserve_that_hangs_is_a_503_and_nothing_is_forwarded(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "RESERVE_S", 0.05)
    store = Delegate()

    async def hanging(operations: Sequence[Any]) -> None:
        if any(isinstance(operation, Reserve) for operation in operations):
            await anyio.sleep_forever()

    async with gateway(fake_upstream, store=store) as found:
        await found.balance(ALICE)
        store.before = hanging
        with anyio.fail_after(10), pytest.raises(StoreError):
            await found.complete(ALICE, question())
        (asked,) = store.asked(Reserve)
        assert [operation.id for operation in store.asked(Release)] == [asked.id]
        # The reserve that was on its way all the while finds the tombstone, and takes nothing.
        (late,) = await store.inner.apply([asked])
        assert late.status == "conflict"
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_a_reserve_whose_answer_is_lost_after_the_commit_is_given_back(fake_upstream: FakeUpstream) -> None:
    store = Delegate()

    async def lost(operations: Sequence[Any], results: list[Result]) -> list[Result]:
        if any(isinstance(operation, Reserve) for operation in operations):
            raise OSError
        return results

    store.after = lost
    async with gateway(fake_upstream, store=store) as found:
        with pytest.raises(StoreError):
            await found.complete(ALICE, question())
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_a_store_that_hangs_keeps_no_reader_waiting_for_ever(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "RESERVE_S", 0.05)

    class Hanging(MemoryStore):
        hangs = False

        async def balance(self, account: str) -> Balance:
            if self.hangs:
                await anyio.sleep_forever()
            return await super().balance(account)

        async def entries(self, account: str, hold: str) -> list[Entry]:
            await anyio.sleep_forever()
            raise AssertionError

    store = Hanging()
    async with gateway(fake_upstream, store=store) as found:
        store.hangs = True
        with anyio.fail_after(10):
            for path in ("/api/usage", "/api/quota-check", "/api/user/audit/req_1", "/readyz"):
                async with get(found.app, path, headers={"apikey": KEY}) as call:
                    assert await call.started() == 503, path


async def test_a_settle_that_hangs_is_repeated_by_id_and_raises_the_alarm(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "STORE_S", 0.02)
    monkeypatch.setattr(settling, "_PAUSES_S", (0.01, 0.01))
    store, witness = Delegate(), Witness()

    async def hanging(operations: Sequence[Any]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            await anyio.sleep_forever()

    async with gateway(fake_upstream, store=store, observers=[witness]) as found:
        store.before = hanging
        with anyio.fail_after(10):
            assert (await found.complete(ALICE, question())).status == 200
        assert len({operation.id for operation in store.asked(Settle)}) == 1
        assert len(store.asked(Settle)) == 3
        assert witness.alarms == ["settle_failed"]
        assert (await store.inner.balance("alice")).held > 0  # kept for the sweeper


async def test_a_ledgers_own_mover_runs_while_a_lifespan_is_open_and_empties_at_its_end(
    fake_upstream: FakeUpstream,
) -> None:
    class Mover:
        def __init__(self) -> None:
            self.log: list[str] = []

        async def run(self, *, told: Callable[[Exception], None] | None = None) -> None:
            assert told is not None
            told(OSError("secret"))
            self.log.append("runs")
            try:
                await anyio.sleep_forever()
            finally:
                self.log.append("ends")

        async def empty(self) -> int:
            self.log.append("empties")
            raise StoreError("It is away.")

    class Moved(MemoryStore):
        mover = Mover()

    witness = Witness()
    found = gateway(fake_upstream, store=Moved(), observers=[witness])
    await found.complete(ALICE, question())
    assert Moved.mover.log == []
    async with found:
        await found.complete(ALICE, question())
        await anyio.wait_all_tasks_blocked()
        assert Moved.mover.log == ["runs"]
        assert witness.alarms == ["move_failed"]
    assert Moved.mover.log == ["runs", "ends", "empties"]


async def test_a_start_that_fails_leaves_no_backend_open(fake_upstream: FakeUpstream) -> None:
    class Open(MemoryStore):
        opened = 0

        async def open(self) -> None:
            self.opened += 1

        async def aclose(self) -> None:
            self.opened = 0

    class Away(MemoryStore):
        async def open(self) -> None:
            raise OSError("secret-host")

    keys = Open()
    found = gateway(fake_upstream, credentials=keys, store=Away(), pepper=PEPPER)
    with pytest.raises(StoreError):
        async with found:
            raise AssertionError
    assert keys.opened == 0
