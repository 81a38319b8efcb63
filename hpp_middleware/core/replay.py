"""
Requests that are safe to repeat: what an ``Idempotency-Key`` claims.

A store sees digests only. The key's digest goes without our pepper, so that a request is known again after the pepper
was rotated; the fingerprint is made with the key itself, so that no prompt can be guessed from it without the key: one
that cannot be guessed, such as a UUID, keeps it so.
"""

import hashlib
import hmac
from collections.abc import Iterable

import msgspec

from hpp_middleware.errors import RequestError
from hpp_middleware.types.operations import Claim

__all__ = ["HEADER", "check_key", "claim", "conflict", "key_from", "secret"]

HEADER = b"idempotency-key"
MOST_CHARACTERS = 255


def key_from(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """
    The ``Idempotency-Key`` of a request, or None.

    Args:
        headers: Raw ASGI headers, names in lower case.
    Raises:
        RequestError: 400: it is given twice, empty, too long or not printable ASCII.
    """
    given = [value for name, value in headers if name == HEADER]
    if not given:
        return None
    if len(given) > 1:
        raise _wrong("must be given once")
    return check_key(given[0].decode("latin-1"))


def check_key(key: str) -> str:
    """
    A key, if it can be one.

    Raises:
        RequestError: 400: it is empty, too long or not printable ASCII.
    """
    if not 1 <= len(key) <= MOST_CHARACTERS or not key.isascii() or not key.isprintable() or not key.strip():
        raise _wrong(f"must have 1 to {MOST_CHARACTERS} printable ASCII characters")
    return key


def claim(consumer: str, key: str, body: bytes, *, ttl_s: float, api: str = "chat") -> Claim:
    """
    What a request with a key claims.

    Args:
        consumer: Whose key it is: two consumers may use the same one, of one account too.
        key: The client's key.
        body: The JSON request, parsed before: another order of its members or other white space is the same request.
        ttl_s: For how long a finished request answers for it.
        api: What the client speaks: the same body in another API is another request.
    Raises:
        RequestError: 400: a number in the body is beyond every range, so that it cannot be compared.
    """
    try:
        canonical = msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise RequestError("The body cannot be compared, as a request with an Idempotency-Key must be.") from None
    if api != "chat":
        canonical += b"\0" + api.encode()
    return Claim(
        key=hashlib.sha256(_together(consumer, key)).hexdigest(),
        fingerprint=hmac.new(key.encode(), canonical, "sha256").hexdigest(),
        ttl_s=ttl_s,
    )


def secret(pepper: bytes, consumer: str, key: str, hold: str) -> bytes:
    """What one answer is encrypted with: 32 bytes, for this answer alone, that a store's reader cannot make."""
    return hmac.digest(pepper, b"kept answer:" + _together(consumer, f"{hold}:{key}"), "sha256")


def conflict(status: str) -> RequestError:
    """
    What a repeat is told that cannot be answered; 409, and not to be tried again by the status alone.

    Args:
        status: ``running``, ``mismatch``, or ``finished`` where no answer was kept.
    """
    code, message = {
        "running": ("idempotency_request_in_progress", "A request with this Idempotency-Key is still running."),
        "mismatch": ("idempotency_key_conflict", "This Idempotency-Key was used for another request."),
        "finished": (
            "idempotency_not_replayable",
            "The request with this Idempotency-Key has finished and was charged, but its answer was not kept.",
        ),
    }[status]
    return RequestError(message, status=409, code=code, param="Idempotency-Key")


def _together(consumer: str, rest: str) -> bytes:
    name = consumer.encode("utf-8", "surrogatepass")
    return b"%d:%s:%s" % (len(name), name, rest.encode())


def _wrong(what: str) -> RequestError:
    return RequestError(f"Idempotency-Key {what}.", param="Idempotency-Key")
