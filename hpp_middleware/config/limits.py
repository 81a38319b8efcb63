"""``[[limits]]`` and ``[limit_store]``: what consumers may ask for per window and at once, and who counts it."""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hpp_middleware.config.section import Section
from hpp_middleware.config.values import Location, Name, Word
from hpp_middleware.core.limits import Rules
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.limits import MOST_FIGURE, RateLimit

__all__ = ["LimitSection", "LimitSections", "LimitStoreSection", "rate_limits"]


def _figure(value: Any) -> Any:
    if value == "unlimited" or (type(value) is int and 1 <= value <= MOST_FIGURE):
        return value
    raise ValueError(f'must be a whole number from 1 to {MOST_FIGURE:,}, or "unlimited"')


def _array(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("must be an array of tables, [[limits]]; bounds on one request are called [bounds]")  # noqa: TRY004  # pydantic's
    return value


_Figure = Annotated[Any, AfterValidator(_figure)]
_Burst = Annotated[int, Field(ge=1, le=MOST_FIGURE)]


class LimitSection(Section):
    """One of ``[[limits]]``: see :class:`hpp_middleware.types.limits.RateLimit`."""

    consumer: Name | Literal["*"] = "*"
    model: Word | None = None
    per: Literal["consumer", "key"] = "consumer"
    requests_per_second: _Figure = None
    requests_per_minute: _Figure = None
    requests_per_hour: _Figure = None
    requests_per_day: _Figure = None
    tokens_per_minute: _Figure = None
    tokens_per_hour: _Figure = None
    tokens_per_day: _Figure = None
    concurrency: _Figure = None
    requests_burst: _Burst | None = None
    tokens_burst: _Burst | None = None


LimitSections = Annotated[list[LimitSection], BeforeValidator(_array)]


class LimitStoreSection(Section):
    """``[limit_store]``: who counts, if not the store, and what becomes of requests while it does not answer."""

    url: Location | None = Field(default=None, repr=False)
    outage: Literal["closed", "open"] = "closed"


def rate_limits(
    sections: Sequence[LimitSection], providers: Collection[str], problems: list[str]
) -> tuple[RateLimit, ...]:
    """
    The limits, their values checked, and none given twice.

    Args:
        sections: What the file says.
        providers: Whose models there are.
        problems: What is wrong is added here.
    """
    found: list[RateLimit] = []
    for number, section in enumerate(sections):
        try:
            found.append(RateLimit(**section.given()))
        except ConfigurationError as error:
            where = f"limits[{number}]" + (f".{error.param}" if error.param else "")
            problems.append(f"{where}: {error.message.removeprefix(f'{error.param} ')}")
    if len(found) == len(sections):
        try:
            Rules(found, providers, "limits")
        except ConfigurationError as error:
            problems.append(f"{error.param}: {error.message.removeprefix(f'{error.param} ')}")
    return tuple(found)
