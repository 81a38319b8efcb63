"""
Who is asking: keys, digests, and what a key allows.

A key is ``hpp_<id>_<secret>_<checksum>`` with 160 random bits; the checksum lets a mistyped key be refused without
asking a store. What is kept is HMAC-SHA-256 under a pepper; while peppers are rotated there are two. Keys of any other
form (an operator's own) are looked up all the same, if they have at least 20 characters.
"""

import hashlib
import hmac
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.consumer import Consumer, Credential

__all__ = [
    "MOST_CHARACTERS",
    "Peppers",
    "admit",
    "allows",
    "check_pepper",
    "check_peppers",
    "check_secret",
    "digest",
    "is_live",
    "is_well_formed",
    "make_key",
    "no_pepper",
    "pepper_id",
    "secret_from",
    "shown_in",
    "unauthorized",
]

PREFIX = "hpp_"
_SHOWN = frozenset({b"apikey", b"authorization", b"x-api-key"})
"""Where a request shows its key: in one of them, or in several alike. The last is where Anthropic's clients do."""

LEAST_CHARACTERS = 20
MOST_CHARACTERS = 256
LEAST_PEPPER_BYTES = 16

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BASE = len(_ALPHABET)


class _Keyed:
    """HMAC-SHA-256 (RFC 2104) under one key, half of its work done once: :func:`hmac.digest`, at half the cost."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = (key if len(key) <= 64 else hashlib.sha256(key).digest()).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes([byte ^ 0x36 for byte in padded]))
        self._outer = hashlib.sha256(bytes([byte ^ 0x5C for byte in padded]))

    def digest(self, message: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()


@dataclass(frozen=True, slots=True)
class Peppers:
    """
    What digests are made with, checked by :func:`check_peppers`.

    Attributes:
        current: For new keys, and for those that were shown since it is the current one.
        previous: For the others, until they are shown again; None outside a rotation.
    """

    current: bytes = field(repr=False)
    previous: bytes | None = field(default=None, repr=False)
    _hashes: "tuple[_Keyed, ...]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        peppers = (self.current,) if self.previous is None else (self.current, self.previous)
        object.__setattr__(self, "_hashes", tuple(_Keyed(pepper) for pepper in peppers))

    def digests(self, secret: str) -> tuple[bytes, ...]:
        """Under which digests a key may be kept, the current one first."""
        shown = secret.encode()
        return tuple([keyed.digest(shown) for keyed in self._hashes])

    def which(self, credential: Credential) -> Literal["current", "previous", "unknown"]:
        """Which of the two a credential is kept under; unknown for any other, and where it was not noted."""
        if credential.pepper == pepper_id(self.current):
            return "current"
        if self.previous is not None and credential.pepper == pepper_id(self.previous):
            return "previous"
        return "unknown"


def unauthorized() -> RequestError:
    """The one refusal for every cause: a client cannot tell a wrong key from a revoked one."""
    return RequestError("Invalid API key", status=401, code="unauthorized", headers={"WWW-Authenticate": "Bearer"})


def shown_in(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """
    The headers in which a request may show its key.

    Args:
        headers: Raw ASGI headers, names in lower case.
    """
    shown = []
    for header in headers:
        if header[0] in _SHOWN:
            shown.append(header)  # noqa: PERF401  # a comprehension is a call more, before Python 3.12
    return shown


def secret_from(shown: Sequence[tuple[bytes, bytes]]) -> str:
    """
    The key a request shows, in ``apikey`` or ``x-api-key``, or as a Bearer token.

    Args:
        shown: What :func:`shown_in` has found.
    Raises:
        RequestError: 401: there is none, a header is repeated, two of them differ, or it cannot be a key.
    """
    if not shown or len(shown) > len(_SHOWN):
        raise unauthorized()
    name, value = shown[0]
    secret = _bearer(value) if name == b"authorization" else value.strip()
    if len(shown) > 1:
        for other, value in shown[1:]:
            again = _bearer(value) if other == b"authorization" else value.strip()
            if not hmac.compare_digest(again, secret):
                raise unauthorized()
        if len(dict(shown)) < len(shown):  # a header that is given twice
            raise unauthorized()
    if not LEAST_CHARACTERS <= len(secret) <= MOST_CHARACTERS or not secret.isascii():
        raise unauthorized()
    text = secret.decode("ascii")
    if not text.isprintable() or not is_well_formed(text):
        raise unauthorized()
    return text


def is_well_formed(secret: str) -> bool:
    """False only for a key of our own form whose checksum is wrong: it was mistyped, and no store need be asked."""
    if not secret.startswith(PREFIX) or secret.count("_") != 3:
        return True
    body, _, checksum = secret.rpartition("_")
    return hmac.compare_digest(checksum.encode(), _checksum(body).encode())


def make_key(public: bytes, secret: bytes) -> tuple[str, str]:
    """
    A key and its public id.

    Args:
        public: 8 random bytes.
        secret: At least 16 random bytes.
    """
    key_id = _base62(public)
    body = f"{PREFIX}{key_id}_{_base62(secret)}"
    return f"{body}_{_checksum(body)}", key_id


def digest(secret: str, pepper: bytes) -> bytes:
    """What a store keeps of a key: 32 bytes."""
    return hmac.digest(pepper, secret.encode(), "sha256")


def pepper_id(pepper: bytes) -> str:
    """A pepper's name, which may be stored and printed: 32 bits of it under itself."""
    return hmac.digest(pepper, b"id", "sha256").hex()[:8]


def no_pepper() -> ConfigurationError:
    """A credential store that keeps no pepper, and a gateway that was given none."""
    return ConfigurationError(
        "keys.pepper must be set (in Python: Gateway(pepper=...)): this store keeps none", param="keys.pepper"
    )


def check_pepper(pepper: object, where: str = "keys.pepper") -> bytes:
    """
    The pepper, if it is one.

    Raises:
        ConfigurationError: It is no bytes, or empty, or too short to protect anything.
    """
    if not isinstance(pepper, bytes):
        raise ConfigurationError(f"{where} must be bytes", param=where)
    if len(pepper) < LEAST_PEPPER_BYTES:
        raise ConfigurationError(f"{where} must have at least {LEAST_PEPPER_BYTES} bytes", param=where)
    return pepper


def check_peppers(pepper: object, previous_pepper: object | None) -> Peppers:
    """
    Both peppers, if they are peppers, and two.

    Raises:
        ConfigurationError: One is empty or too short, or they are the same.
    """
    current = check_pepper(pepper)
    if previous_pepper is None:
        return Peppers(current)
    where = "keys.previous_pepper"
    previous = check_pepper(previous_pepper, where)
    if hmac.compare_digest(previous, current):
        raise ConfigurationError(f"{where} must differ from keys.pepper", param=where)
    return Peppers(current, previous)


def check_secret(secret: str, where: str) -> str:
    """
    An operator's own key, if it can be one.

    Raises:
        ConfigurationError: It is too short, too long, not printable ASCII, or a mistyped key of our own form.
    """
    if not LEAST_CHARACTERS <= len(secret) <= MOST_CHARACTERS:
        raise ConfigurationError(f"{where} must have {LEAST_CHARACTERS} to {MOST_CHARACTERS} characters", param=where)
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigurationError(f"{where} must be printable ASCII without spaces", param=where)
    if not is_well_formed(secret):
        raise ConfigurationError(f"{where} begins with hpp_ but its checksum is wrong", param=where)
    return secret


def admit(credential: Credential | None, shown: bytes, *, now: float) -> Consumer:
    """
    The consumer that a credential names.

    Args:
        credential: What the store found, or None.
        shown: The digest that was looked up.
        now: Seconds since the epoch.
    Raises:
        RequestError: 401, the same for every cause.
    """
    known = credential is not None and hmac.compare_digest(credential.digest, shown)
    if credential is None or not known or not is_live(credential, now=now):
        raise unauthorized()
    return credential.consumer


def is_live(credential: Credential, *, now: float) -> bool:
    """Whether a credential is not expired, and not revoked: at whatever time, by whosever clock that was."""
    return credential.revoked is None and (credential.expires is None or now < credential.expires)


def allows(consumer: Consumer, model_id: str) -> bool:
    """Whether a consumer's allow-list lets a resolved model through."""
    return consumer.models is None or any(fnmatchcase(model_id, pattern) for pattern in consumer.models)


def _bearer(value: bytes) -> bytes:
    scheme, _, token = value.strip().partition(b" ")
    if scheme.lower() != b"bearer":
        raise unauthorized()
    return token.strip()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()).to_bytes(4, "big"))


def _base62(data: bytes) -> str:
    """Fixed width for a width of bytes, so that a key's length tells nothing."""
    number = int.from_bytes(data, "big")
    width = -(-len(data) * 8 * 1000 // 5954)  # 62 is 2^5.954
    digits = []
    for _ in range(width):
        number, digit = divmod(number, _BASE)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
