"""Names that every store can keep: what is none exists nowhere, and no store need be asked. No budget is a payer."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.consumer import Consumer

__all__ = [
    "MARK",
    "MOST_BYTES",
    "can_be_kept",
    "can_pay",
    "check_bound",
    "check_consumer",
    "check_given",
    "created",
    "is_like",
]

_BEFORE_SIGNS = re.compile(r"[^*?\[]*")

MARK = "/~"
"""What no account's own name has in it: it begins the name of a budget."""

MOST_BYTES = 1000
"""As UTF-8; an index of PostgreSQL takes little more."""


def can_be_kept(name: str) -> bool:
    """Whether an account or a request may be called that: UTF-8 without NUL, and not too long."""
    try:
        return "\0" not in name and len(name.encode()) <= MOST_BYTES
    except UnicodeEncodeError:  # half a pair of surrogates
        return False


def can_pay(name: str) -> bool:
    """
    Whether an account of that name may be a consumer's, or above one. A budget's may not: what a budget has room for
    was granted to nobody, and whoever were let in under its name would spend it, and its owner's besides.
    """
    return MARK not in name and can_be_kept(name)


def is_like(model: str, pattern: str) -> bool:
    """
    Whether a pattern that bounds what a model may cost is meant of it: in any letter case, since a price list finds
    models in any, and some providers do. What lets models in is compared to the letter.
    """
    return fnmatchcase(model.lower(), pattern.lower())


def check_bound(model: str | None, providers: Iterable[str], where: str) -> None:
    """
    A pattern as of :func:`is_like` can be meant of some model: else it would bound nothing, and nobody would see it.

    Args:
        model: The pattern; None is meant of all.
        providers: The names that models' ids begin with.
        where: Its place in the configuration.
    Raises:
        ConfigurationError: It is of no provider's models.
    """
    if model is None:
        return
    begins = _BEFORE_SIGNS.match(model.lower())[0]  # type: ignore[index]  # it matches anything
    is_glob, heads = len(begins) < len(model), [f"{name.lower()}/" for name in providers]
    if any(begins.startswith(head) or (is_glob and head.startswith(begins)) for head in heads):
        return
    said = f"{where} must be provider/model, or a glob"
    provider, slash, _ = model.partition("/")
    raise ConfigurationError(f"{said}; there is no provider {provider!r}" if slash else said, param=where)


def check_consumer(consumer: Consumer) -> None:
    """
    A consumer is named as every store can keep it, and its accounts are no budgets.

    Raises:
        RequestError: 400: it is not.
    """
    account = consumer.account
    if not can_be_kept(consumer.id):
        raise RequestError("consumer.id is no name that can be kept.", status=400, code="invalid_consumer")
    if MARK in account or (account is not consumer.id and not can_be_kept(account)):
        raise RequestError("consumer.account is no account that can pay.", status=400, code="invalid_consumer")
    if consumer.parents and not all(map(can_pay, consumer.parents)):
        raise RequestError("consumer.parents are no accounts that can pay.", status=400, code="invalid_consumer")


def check_given(consumer: object, client_request_id: object) -> None:
    """
    What a host's own code gives is of its kind; its id for a request goes into the ledger, and can be kept there.

    Raises:
        TypeError: It is something else.
        RequestError: 400: the id cannot be kept.
    """
    if not isinstance(consumer, Consumer):
        raise TypeError("consumer must be a Consumer, such as Consumer(id='alice')")
    if client_request_id is None:
        return
    if not isinstance(client_request_id, str):
        raise TypeError("client_request_id must be str, or None")
    if not can_be_kept(client_request_id):
        raise RequestError("client_request_id is no text that can be kept.", param="client_request_id")


def created(request_id: str) -> int:
    """When a request's id was drawn, in seconds since the epoch, as the id itself says; 0 where it says nothing."""
    try:
        return int(request_id.removeprefix("req_")[:12], 16) // 1000
    except ValueError:
        return 0
