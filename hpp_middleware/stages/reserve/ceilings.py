"""
Whom a request is charged to besides its payer: the accounts above it, and the budgets of the periods that are now.

The periods are those of the worker's own clock, in each budget's time zone: a hold that is placed before midnight is
settled in the period that it was placed in.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from math import floor
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from hpp_middleware.core import ceilings
from hpp_middleware.core.ceilings import Due, Scope, Span
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.budget import Budget, Group, Period
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.provider import Declared

__all__ = ["Ceilings", "span", "zone"]

MOST_KNOWN = 10_000
"""So many scopes are remembered, of a consumer and a model each."""


class Ceilings:
    """
    The groups and budgets of a gateway.

    Args:
        groups: By name.
        budgets: In the order of the file.
        consumers: Those that are declared, whose parents count for all of their keys.
        quota: Where accounts are: a store that cannot hold in some accounts at once says so, by ``holds_together``.
        clock: Seconds since the epoch.
    Raises:
        ConfigurationError: A parent or an account is none, there is a circle, or a time zone is not known.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        budgets: Sequence[Budget],
        consumers: Mapping[str, Declared],
        *,
        quota: Any = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        for said in ceilings.problems(groups, budgets, consumers):
            raise ConfigurationError(said.replace(": ", " ", 1), param=said.partition(":")[0])
        self.groups = dict(groups)
        self.budgets = tuple(budgets)
        self._zones = {}
        for number, budget in enumerate(self.budgets):
            try:
                self._zones[budget.timezone] = zone(budget.timezone)
            except ValueError as error:
                where = f"budgets[{number}].timezone"
                raise ConfigurationError(f"{where} {error}", param=where) from None
        self._parents = {name: each.parent for name, each in consumers.items() if each.parent is not None}
        self._is_idle = not (self.groups or self.budgets)
        self._clock = clock
        self._known: dict[tuple[Any, ...], Scope] = {}
        together = getattr(quota, "holds_together", None)
        for name, parent in self._parents.items():
            chain = (name, *ceilings.above((parent,), self.groups))
            if together is not None and not together(chain):
                where = f"consumers.{name}.parent"
                raise ConfigurationError(
                    f"{where} the store cannot hold in {' and '.join(chain)} at once: it has several shards, and these "
                    "names have different roots (the part before the first /)",
                    param=where,
                )

    def parents(self, consumer: Consumer) -> tuple[str, ...]:
        """The accounts above a consumer's, nearest first: as the file has them, or else as the consumer itself does."""
        parent = self._parents.get(consumer.id)
        found = ceilings.above((parent,) if parent is not None else consumer.parents, self.groups)
        return tuple(name for name in found if name != consumer.account)

    def of(self, consumer: Consumer, model: str, now: float | None = None) -> Scope | None:
        """
        What a consumer's hold for a model is to be in; None where that is its own account alone.

        Args:
            consumer: Who asks.
            model: What is asked.
            now: The moment whose periods count; None for this one.
        """
        if self._is_idle and not consumer.parents:
            return None
        return self._scope(consumer, model, now)

    @property
    def now(self) -> float:
        """This moment, in seconds since the epoch."""
        return self._clock()

    def all_of(self, consumer: Consumer) -> Scope:
        """A consumer's parents and budgets as they stand now, those of every model."""
        return self._made(consumer, None, self._clock())

    def budgets_of(self, account: str) -> Sequence[Due]:
        """The budgets that are an account's own, as they stand now."""
        now = self._clock()
        own = [(account, each) for each in self.budgets if each.account == account]
        spans = [(whose, each, span(each.period, self._zones[each.timezone], now)) for whose, each in own]
        return ceilings.scope(Consumer(id=account), (), spans).budgets

    def _scope(self, consumer: Consumer, model: str, now: float | None = None) -> Scope:
        key = (consumer.id, consumer.account, consumer.parents, model)
        found, now = self._known.get(key), self._clock() if now is None else now
        if found is None or not found.since <= now < found.until:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = self._made(consumer, model, now)
        return found

    def _made(self, consumer: Consumer, model: str | None, now: float) -> Scope:
        parents = self.parents(consumer)
        applying = ceilings.applying(self.budgets, consumer.id, (consumer.account, *parents), model)
        spans = [(whose, each, span(each.period, self._zones[each.timezone], now)) for whose, each in applying]
        found = ceilings.scope(consumer, parents, spans)
        return msgspec.structs.replace(found, of=partial(self._scope, consumer), clock=self._clock)


def zone(name: str) -> ZoneInfo:
    """
    A time zone.

    Raises:
        ValueError: There is none of that name; the message says so.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone that this system knows, such as Europe/Berlin") from None


def span(period: Period, where: ZoneInfo, now: float) -> Span:
    """
    The period that a moment is in.

    A midnight that a clock change skips is the moment of that change; of one that comes twice, the first counts.

    Args:
        period: ``day``, ``week`` (from Monday on) or ``month``.
        where: The time zone whose midnights count.
        now: Seconds since the epoch.
    """
    today = datetime.fromtimestamp(floor(now), where).date()  # which rounds what is near to midnight up to it
    if period == "day":
        first, key = today, today.isoformat()
        last = today + timedelta(days=1)
    elif period == "week":
        first = today - timedelta(days=today.weekday())
        last = first + timedelta(days=7)
        year, week, _ = today.isocalendar()
        key = f"{year}-W{week:02d}"
    else:
        first, key = today.replace(day=1), f"{today:%Y-%m}"
        last = (first + timedelta(days=31)).replace(day=1)
    until = _midnight(last, where)
    renewed = datetime.fromtimestamp(until, UTC).astimezone(where).isoformat()
    return Span(key=key, since=_midnight(first, where), until=until, renewed=renewed)


def _midnight(day: date, where: ZoneInfo) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=where).timestamp()
