"""Idempotency keys: how long they last, and the answers that are given again."""

from dataclasses import dataclass

from msgspec import Struct

from hpp_middleware.types.http import Headers

__all__ = ["Answer", "Idempotency"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """
    What becomes of requests with an ``Idempotency-Key``.

    Attributes:
        keep: Whether answers are kept, encrypted, to be given again; None for: where ``cryptography`` is installed.
            Where they are not, a repeat is refused with 409 and is not run again either.
        ttl_s: For how long, from its hold on, a request answers for its key once it has finished: longer than any runs.
        body_bytes: A longer answer is not kept.
        account_bytes: How many bytes of answers one account may have kept.
    """

    keep: bool | None = None
    ttl_s: float = 86_400.0
    body_bytes: int = 1024 * 1024
    account_bytes: int = 16 * 1024 * 1024


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer as the client got it: a JSON body, or an SSE stream to its end mark."""

    status: int
    headers: Headers
    body: bytes
