"""An authenticator whose store and clock are the test's."""

from typing import Any

import anyio
import pytest

from hpp_middleware import MemoryStore
from hpp_middleware.core import auth
from hpp_middleware.errors import RequestError
from hpp_middleware.stages.auth import Authenticator
from hpp_middleware.types.consumer import Consumer, Credential

__all__ = [
    "ALICE",
    "KEY",
    "OLD_PEPPER",
    "PEPPER",
    "Clock",
    "Keys",
    "authenticator",
    "credential",
    "headers",
    "refused",
]

PEPPER = b"a pepper of thirty-two bytes long"
OLD_PEPPER = b"the pepper that there was before"
KEY = "a-key-of-any-form-whatever"
ALICE = Consumer(id="alice")


def headers(key: str = KEY) -> list[tuple[bytes, bytes]]:
    return [(b"apikey", key.encode())]


def credential(key: str = KEY, *, pepper: bytes = PEPPER, **fields: Any) -> Credential:
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
