"""
Credentials as JSON by their digest, and the digests by id; all in the first shard.

What changes one is made from it here and written only if it is still the same there.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from hpp_middleware.stores.redis.keys import Key
from hpp_middleware.stores.redis.server import Server
from hpp_middleware.stores.unreadable import listed, reading
from hpp_middleware.types.consumer import Consumer, Credential

__all__ = ["add", "everybody", "expire", "find", "reassign", "rehash", "revoke"]

_decode = msgspec.json.Decoder(Credential).decode
_encode = msgspec.json.Encoder().encode


async def find(server: Server, digest: bytes) -> Credential | None:
    """The credential of a digest."""
    found = await server.ask(0, "HGET", Key.CREDENTIALS, digest)
    with reading():
        return _decode(found) if found is not None else None


async def add(server: Server, credential: Credential) -> None:
    """Keep one."""
    await _write(server, credential, made_from=b"", before=b"", counts=True)


async def everybody(server: Server) -> list[Credential]:
    """All of them, oldest first; those that cannot be read among them, by what they are kept under."""
    rows = _pairs(await server.ask(0, "HGETALL", Key.CREDENTIALS))
    names = {digest: name for name, digest in _pairs(await server.ask(0, "HGETALL", Key.DIGESTS))}
    found = [
        listed(text, _decode, digest=digest, key_id=names.get(digest, b"").decode(errors="replace"))
        for digest, text in rows
    ]
    return sorted(found, key=lambda credential: (credential.created, credential.id))


async def revoke(server: Server, key_id: str, at: float) -> bool:
    """Mark one as revoked; of several revocations the earliest stands."""

    def revoked(credential: Credential) -> Credential:
        earliest = at if credential.revoked is None else min(at, credential.revoked)
        return msgspec.structs.replace(credential, revoked=earliest)

    return await _change_by_id(server, key_id, revoked)


async def expire(server: Server, key_id: str, at: float) -> bool:
    """Let one expire; of several ends the earliest stands."""

    def ended(credential: Credential) -> Credential:
        earliest = at if credential.expires is None else min(at, credential.expires)
        return msgspec.structs.replace(credential, expires=earliest)

    return await _change_by_id(server, key_id, ended)


async def reassign(server: Server, key_id: str, consumer: Consumer) -> bool:
    """Put another consumer in the place of one's own."""
    return await _change_by_id(
        server, key_id, lambda credential: msgspec.structs.replace(credential, consumer=consumer)
    )


async def rehash(server: Server, digest: bytes, to: bytes, pepper: str) -> bool:
    """Keep one under another digest."""

    def moved(credential: Credential) -> Credential:
        return msgspec.structs.replace(credential, digest=to, pepper=pepper)

    while (done := await _change(server, digest, moved, counts=False)) is False:
        pass
    return done is True


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """Fields and values, which a script gives as one list."""
    return zip(flat[::2], flat[1::2], strict=True)


async def _change_by_id(server: Server, key_id: str, change: Callable[[Credential], Credential]) -> bool:
    """Whether there was one; every worker hears of it."""
    while (digest := await server.ask(0, "HGET", Key.DIGESTS, key_id)) is not None:
        if await _change(server, digest, change, counts=True) is True:
            return True
    return False


async def _change(
    server: Server, digest: bytes, change: Callable[[Credential], Credential], *, counts: bool
) -> bool | None:
    """Whether one was changed; False where somebody was quicker, None where there is none."""
    before = await server.ask(0, "HGET", Key.CREDENTIALS, digest)
    if before is None:
        return None
    with reading():
        after = change(_decode(before))
    return await _write(server, after, made_from=digest, before=before, counts=counts)


async def _write(server: Server, credential: Credential, *, made_from: bytes, before: bytes, counts: bool) -> bool:
    values = (credential.digest, _encode(credential), made_from, before, "1" if counts else "0")
    reply = await server.one("credential", 0, credential.id, *values)
    return bool(reply[1] == 1)
