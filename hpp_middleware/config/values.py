"""What one value in the file may be. Each refusal says what would be right, and none repeats a secret."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from hpp_middleware.core import auth
from hpp_middleware.core import price as pricing
from hpp_middleware.dialects import known
from hpp_middleware.errors import ConfigurationError

__all__ = [
    "URL",
    "Context",
    "Count",
    "Dialect",
    "Factor",
    "HeaderName",
    "Key",
    "Location",
    "Name",
    "Option",
    "Origin",
    "Quota",
    "Rate",
    "Seconds",
    "Secret",
    "Word",
    "from_environment",
    "key_path",
    "or_off",
    "origin",
]

LONGEST_NAME = 200

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
_ENV = "env:"
_BARE = re.compile(r"[A-Za-z0-9_-]+")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Context:
    """
    What reading the values needs from outside the file.

    Attributes:
        environment: Where ``env:NAME`` looks.
        secrets: False leaves upstreams' and consumers' secrets unread, for a command that has no use for them.
    """

    environment: Mapping[str, str]
    secrets: bool = True


def key_path(*parts: str | int) -> str:
    """``providers.openai.base_url``, ``models."openai/gpt-5".input``, ``consumers.alice.keys[0]``."""
    path = ""
    for part in parts:
        if part == "[key]":  # how pydantic says that it is the key itself that is wrong
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            visible = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in part)
            path += f".{part}" if _BARE.fullmatch(part) else f'."{visible}"'
    return path.removeprefix(".")


def from_environment(value: str, environment: Mapping[str, str]) -> str:
    """
    A value, or what the variable holds that ``env:NAME`` names.

    Raises:
        ValueError: The variable is not set, or empty.
    """
    if not value.startswith(_ENV):
        return value
    name = value.removeprefix(_ENV)
    if not name:
        raise ValueError('must name a variable: "env:NAME"')
    found = environment.get(name)
    if not found:
        raise ValueError(f"the environment variable {name} is {'not set' if found is None else 'empty'}")
    return found


def origin(value: str) -> str:
    """What a refusal says of where a value comes from, since the setting alone shows no more than ``env:NAME``."""
    return f" (from the environment variable {value.removeprefix(_ENV)})" if value.startswith(_ENV) else ""


def _secret(value: str, info: ValidationInfo) -> str:
    context = info.context
    if not isinstance(context, Context):
        raise TypeError("the sections are validated with a Context")
    if not context.secrets:
        return ""
    found = from_environment(value, context.environment)
    if not found.isascii() or not found.isprintable():
        raise ValueError(f"must be printable ASCII{origin(value)}")
    return found


def _option(value: str, info: ValidationInfo) -> str:
    """A region is no secret, and an address may be made of it: only what the environment holds is left unread."""
    context = info.context
    if not isinstance(context, Context) or context.secrets:
        return _secret(value, info)
    if value.startswith(_ENV):
        return context.environment.get(value.removeprefix(_ENV)) or "unread"
    return value


def _location(value: str, info: ValidationInfo) -> str:
    context = info.context
    if not isinstance(context, Context):
        raise TypeError("the sections are validated with a Context")
    return from_environment(value, context.environment)


def _key(value: str, info: ValidationInfo) -> str:
    found = _secret(value, info)
    try:
        return found and _said(auth.check_secret, found)
    except ValueError as error:
        raise ValueError(f"{error}{origin(value)}") from None


def _said(check: Callable[[str, str], _T], value: str) -> _T:
    """What a check of the core says; it puts a place before its words, which here comes from the file."""
    try:
        return check(value, "")
    except ConfigurationError as error:
        raise ValueError(error.message.strip()) from None


def _quoted(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f'must be in quotes, which keep it exact: "{value}"')  # noqa: TRY004  # pydantic collects ValueErrors only
    raise ValueError('must be a string, such as "2.50"')


def _rate(value: object) -> int:
    return _said(pricing.per_token, _quoted(value))


def _quota(value: object) -> int:
    return _said(pricing.nano_from_usd, _quoted(value))


def _factor(value: object) -> Decimal:
    try:
        return Decimal(_quoted(value))
    except InvalidOperation:
        raise ValueError('must be a number in quotes, such as "1.1"') from None


def _url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", value):
        raise ValueError("must be a URL that begins with http:// or https://")
    return value


def _web_origin(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#*]+", value):
        raise ValueError("must be an exact origin, such as https://app.example.org")
    return value


def _name(value: str) -> str:
    if not 1 <= len(value) <= LONGEST_NAME or not value.isprintable() or value != value.strip():
        raise ValueError(f"must be 1 to {LONGEST_NAME} printable characters")
    return value


def _dialect(value: str) -> str:
    if value not in known.OURS and value not in known.names():
        raise ValueError(f"{value!r} is no dialect that is installed; there are {', '.join(known.names())}")
    return value


def _header_name(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise ValueError("is no header's name")
    if value.lower() in _OURS:
        raise ValueError("is set by the router itself")
    return value


def or_off(value: object) -> object:
    """A table, or ``false`` for what is switched off."""
    if value is False:
        return None
    if not isinstance(value, dict):
        raise ValueError("must be a table, or false for none")  # noqa: TRY004  # pydantic collects ValueErrors only
    return value


Secret = Annotated[str, AfterValidator(_secret)]
"""``env:NAME``, or the secret itself; empty where secrets are left unread."""
Option = Annotated[str, AfterValidator(_option)]
"""What a dialect needs besides: itself, or ``env:NAME``."""
Location = Annotated[str, AfterValidator(_location)]
"""A store's URL, or ``env:NAME``, since it may hold a password; every command needs it."""
Key = Annotated[str, AfterValidator(_key)]
"""A secret that a consumer shows: at least 20 characters."""
Rate = Annotated[int, BeforeValidator(_rate)]
"""USD per million tokens, a string; becomes atto-dollars a token."""
Factor = Annotated[Decimal, BeforeValidator(_factor)]
"""What a price is multiplied by, a string."""
Quota = Annotated[int, BeforeValidator(_quota)]
"""USD, a string; becomes nano-dollars."""
URL = Annotated[str, AfterValidator(_url)]
Origin = Annotated[str, AfterValidator(_web_origin)]
Name = Annotated[str, AfterValidator(_name)]
"""Who is charged."""
Dialect = Annotated[str, AfterValidator(_dialect)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Word = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
