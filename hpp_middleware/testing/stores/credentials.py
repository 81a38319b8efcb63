"""What a credential store promises: digests are found exactly, and what was revoked stays to be seen."""

import functools
import hashlib
from collections.abc import Awaitable, Callable

import msgspec

from hpp_middleware.ports import (
    CredentialEpoch,
    CredentialExpiry,
    CredentialReassign,
    CredentialRehash,
    CredentialStore,
)
from hpp_middleware.testing.stores.bench import Make, Promise, fresh
from hpp_middleware.types.consumer import Consumer, Credential

__all__ = ["PROMISES"]


def promise(check: Callable[[CredentialStore], Awaitable[None]]) -> Promise:
    """A check of a store as a promise that a factory's stores can be held to."""

    @functools.wraps(check)
    async def keep(make: Make) -> None:
        async with fresh(make) as (store, _):
            await check(store)

    return keep


@promise
async def a_credential_is_found_whole(store: CredentialStore) -> None:
    consumer = Consumer(
        id="alice", account="team", key_id="key-1", username="Ålice", custom_id="7", models=("openai/*", "local/tiny")
    )
    credential = Credential(
        digest=_digest(1), id="key-1", consumer=consumer, created=1000.5, expires=2000.25, revoked=1500.125
    )
    await store.add(credential)
    assert await store.find(credential.digest) == credential, "a credential is found as it was added"
    plain = Credential(digest=_digest(2), id="key-2", consumer=Consumer(id="bob"))
    await store.add(plain)
    assert await store.find(plain.digest) == plain, "and so is one that says no more than it must"


@promise
async def an_unknown_digest_is_none(store: CredentialStore) -> None:
    assert await store.find(_digest(1)) is None, "an empty store finds nothing"
    await store.add(_credential(1))
    assert await store.find(_digest(2)) is None, "another digest is not found"


@promise
async def digests_are_compared_whole(store: CredentialStore) -> None:
    digest = _digest(1)
    await store.add(_credential(1))
    for other in (digest[:-1], digest + b"\0", digest[:-1] + b"\0", b"\0" + digest[1:], digest.hex().encode(), b""):
        assert await store.find(other) is None, "a digest that is nearly the same is another one"


@promise
async def a_credential_is_replaced_by_its_digest(store: CredentialStore) -> None:
    await store.add(_credential(1))
    again = msgspec.structs.replace(_credential(1), consumer=Consumer(id="bob"), expires=99.0)
    await store.add(again)
    assert await store.find(_digest(1)) == again, "a digest that is there already is replaced"
    assert await store.credentials() == [again], "and listed once"


@promise
async def a_credential_is_replaced_by_its_id(store: CredentialStore) -> None:
    await store.add(_credential(1))
    rotated = msgspec.structs.replace(_credential(1), digest=_digest(2))
    await store.add(rotated)
    assert await store.find(_digest(1)) is None, "the digest that an id had before is gone"
    assert await store.find(_digest(2)) == rotated, "an id that is there already is replaced"
    assert await store.credentials() == [rotated], "and listed once"


@promise
async def a_revoked_credential_is_still_found(store: CredentialStore) -> None:
    await store.add(_credential(1))
    await store.add(_credential(2))
    assert await store.revoke("key-1", 1234.5) is True, "a revocation says that there was such a key"
    found = await store.find(_digest(1))
    assert found == msgspec.structs.replace(_credential(1), revoked=1234.5), "a revoked key is found, marked"
    assert await store.find(_digest(2)) == _credential(2), "and the others are left alone"


@promise
async def of_several_revocations_the_earliest_stands(store: CredentialStore) -> None:
    await store.add(_credential(1))
    for at, stands in ((2000.0, 2000.0), (1500.0, 1500.0), (1800.0, 1500.0)):
        assert await store.revoke("key-1", at) is True, "a revocation says that there was such a key, each time"
        found = await store.find(_digest(1))
        assert found is not None, "a revoked key is found"
        assert found.revoked == stands, "the earliest revocation stands"


@promise
async def an_unknown_id_is_not_revoked(store: CredentialStore) -> None:
    await store.add(_credential(1))
    for key_id in ("key-2", "key", "KEY-1", ""):
        assert await store.revoke(key_id, 5.0) is False, "an id is compared whole"
    assert await store.find(_digest(1)) == _credential(1), "and nothing is revoked"


@promise
async def credentials_are_listed_oldest_first(store: CredentialStore) -> None:
    assert await store.credentials() == [], "an empty store lists nothing"
    for number in (3, 1, 2):
        await store.add(_credential(number))
    await store.revoke("key-1", 5.0)
    listed = [credential.id for credential in await store.credentials()]
    assert listed == ["key-1", "key-2", "key-3"], "all are listed, oldest first, the revoked ones too"


@promise
async def changes_are_counted(store: CredentialStore) -> None:
    if not isinstance(store, CredentialEpoch):
        return
    seen = [await store.epoch()]
    assert await store.epoch() == seen[0], "where nothing changes the epoch stays"
    await store.add(_credential(1))
    seen.append(await store.epoch())
    await store.add(msgspec.structs.replace(_credential(1), expires=99.0))
    seen.append(await store.epoch())
    await store.revoke("key-1", 5.0)
    seen.append(await store.epoch())
    assert len(set(seen)) == len(seen), "a key that is added, replaced or revoked gives an epoch that never was"
    await store.find(_digest(1))
    await store.credentials()
    assert await store.epoch() == seen[-1], "reading changes nothing"


@promise
async def a_credential_can_be_given_an_end(store: CredentialStore) -> None:
    if not isinstance(store, CredentialExpiry):
        return
    await store.add(_credential(1))
    await store.add(_credential(2))
    await store.revoke("key-1", 1100.0)
    before = await store.epoch() if isinstance(store, CredentialEpoch) else None
    for at, stands in ((2000.0, 2000.0), (1500.5, 1500.5), (1800.0, 1500.5)):
        assert await store.expire("key-1", at) is True, "an end says that there was such a key"
        ended = msgspec.structs.replace(_credential(1), expires=stands, revoked=1100.0)
        assert await store.find(_digest(1)) == ended, "an end is never put off, and all else stays, a revocation too"
    if isinstance(store, CredentialEpoch):
        assert await store.epoch() != before, "a key that is given an end gives another epoch"
    assert await store.expire("key-3", 5.0) is False, "an id that is not there is not given one"
    assert await store.find(_digest(2)) == _credential(2), "and the others are left alone"


@promise
async def a_credential_can_be_given_another_consumer(store: CredentialStore) -> None:
    if not isinstance(store, CredentialReassign):
        return
    await store.add(_credential(1))
    await store.add(_credential(2))
    await store.revoke("key-1", 1100.0)
    before = await store.epoch() if isinstance(store, CredentialEpoch) else None
    moved = Consumer(id="alice", key_id="key-1", models=("fake/*",), parents=("team",))
    assert await store.reassign("key-1", moved) is True, "a change of consumer says that there was such a key"
    changed = msgspec.structs.replace(_credential(1), consumer=moved, revoked=1100.0)
    assert await store.find(_digest(1)) == changed, "all but the consumer stays, a revocation too"
    if isinstance(store, CredentialEpoch):
        assert await store.epoch() != before, "a key whose consumer is another gives another epoch"
    assert await store.reassign("key-3", moved) is False, "an id that is not there is given none"
    assert await store.find(_digest(2)) == _credential(2), "and the others are left alone"


@promise
async def a_credential_moves_to_another_pepper_whole(store: CredentialStore) -> None:
    if not isinstance(store, CredentialRehash):
        return
    credential = msgspec.structs.replace(_credential(1), pepper="0a1b2c3d", expires=99.0)
    await store.add(credential)
    await store.add(_credential(2))
    assert await store.find(_digest(1)) == credential, "a credential is found with the id of its pepper"
    await store.revoke("key-1", 5.0)
    assert await store.rehash(_digest(1), _digest(9), "89abcdef") is True, "a move says that there was such a digest"
    moved = msgspec.structs.replace(credential, digest=_digest(9), pepper="89abcdef", revoked=5.0)
    assert await store.find(_digest(9)) == moved, "all but digest and pepper stays, a revocation too"
    assert await store.find(_digest(1)) is None, "the digest it had is gone"
    assert await store.rehash(_digest(1), _digest(8), "89abcdef") is False, "what is gone is not moved again"
    assert await store.find(_digest(8)) is None, "and nothing is made of it"
    assert await store.credentials() == [moved, _credential(2)], "it is listed once, and its neighbour left alone"


@promise
async def the_pepper_alone_is_noted(store: CredentialStore) -> None:
    if not isinstance(store, CredentialRehash):
        return
    await store.add(_credential(1))
    assert await store.rehash(_digest(1), _digest(1), "89abcdef") is True, "a digest may be moved to itself"
    noted = msgspec.structs.replace(_credential(1), pepper="89abcdef")
    assert await store.credentials() == [noted], "which notes the pepper"
    assert await store.find(_digest(1)) == noted, "and loses nothing"


def _digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def _credential(number: int) -> Credential:
    consumer = Consumer(id="alice", key_id=f"key-{number}")
    return Credential(digest=_digest(number), id=f"key-{number}", consumer=consumer, created=1000.0 + number)


PROMISES: tuple[Promise, ...] = (
    a_credential_is_found_whole,
    an_unknown_digest_is_none,
    digests_are_compared_whole,
    a_credential_is_replaced_by_its_digest,
    a_credential_is_replaced_by_its_id,
    a_revoked_credential_is_still_found,
    of_several_revocations_the_earliest_stands,
    an_unknown_id_is_not_revoked,
    credentials_are_listed_oldest_first,
    changes_are_counted,
    a_credential_can_be_given_an_end,
    a_credential_can_be_given_another_consumer,
    a_credential_moves_to_another_pepper_whole,
    the_pepper_alone_is_noted,
)
