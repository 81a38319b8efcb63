"""
Which limits a request falls under, what it asks of them, and what its client is told.

Nothing here awaits, reads a clock, or knows a store; :mod:`hpp_middleware.core.windows` counts.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec
from msgspec import Struct

from hpp_middleware.core import windows
from hpp_middleware.core.bound import Bound
from hpp_middleware.core.names import check_bound, is_like
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.http import Headers
from hpp_middleware.types.limits import WINDOWS, Ask, Draw, RateLimit, Slot, Standing

__all__ = ["OUTPUT_ESTIMATE", "SLOT_S", "Asked", "Rule", "Rules", "estimate", "headers", "refusal", "together"]

OUTPUT_ESTIMATE = 1_024
"""Output tokens that are drawn for each answer where the client named no cap; what it had is put right at its end."""

SLOT_S = 60.0
"""A place for one request at once comes back after so long, where its worker has died: it is extended meanwhile."""

CONCURRENCY_WAIT_MS = 1_000
"""When a client is told to try again that has too many requests at once: nobody knows when one of them ends."""

_GLOB = "*?["


class Rule(Struct, frozen=True, kw_only=True):
    """
    One figure of one limit.

    Attributes:
        name: ``requests_per_minute``.
        where: The limit's place in the configuration.
        figure: The figure; None where it lifts another one.
        key: What its windows are called in a store; how they are counted is a part of it, so that a figure that was
            changed begins a new one.
    """

    name: str
    where: str
    model: str | None
    per_key: bool
    figure: int | None
    key: str
    size: windows.Size = windows.Size(1, 1, 1)

    @property
    def place(self) -> tuple[str | None, bool, str]:
        """Where a named consumer's rule stands in the place of everybody's."""
        return self.model, self.per_key, self.name

    def covers(self, model: str) -> bool:
        """Whether a request to this model falls under it."""
        if self.model is None or self.model == model:
            return True
        if any(sign in self.model for sign in _GLOB):
            return is_like(model, self.model)
        return self.model.lower() == model.lower()

    def at(self, consumer: Consumer) -> str:
        """The key of this consumer's window, or of its key's."""
        return f"{self.key}\n{consumer.key_id or ''}" if self.per_key else self.key


class Asked(Struct, frozen=True, gc=False):
    """
    A request's question to the store, and the rules behind it, in the same order.

    Attributes:
        tokens: How many it was estimated to come to.
    """

    ask: Ask
    drawn: tuple[Rule, ...]
    placed: tuple[Rule, ...]
    tokens: int

    def correction(self, tokens: int | Mapping[str, int], requests: int = 1) -> Ask | None:
        """
        What to change when it has ended, its places among that; None where there is nothing.

        Args:
            tokens: How many it came to; or how many each model did that was asked, by its id.
            requests: 0 where it is not to count as one.
        """
        draws = []
        for rule, draw in zip(self.drawn, self.ask.draws, strict=True):
            change = _of(rule, tokens) - self.tokens if rule.name.startswith("tokens") else requests - 1
            if change:
                draws.append(Draw(draw.key, _units(change, rule), draw.refill, draw.room))
        if not draws and not self.ask.slots:
            return None
        return Ask(self.ask.home, tuple(draws), self.ask.slots, self.ask.ttl_s)


class Rules:
    """
    All limits of a gateway.

    Args:
        limits: As they are configured.
        providers: Whose models there are.
        where: What they are called in messages.

    Raises:
        ConfigurationError: One says the same as another, names a provider that there is not, or cannot be counted.
    """

    def __init__(self, limits: Iterable[RateLimit], providers: Collection[str], where: str = "rate_limits") -> None:
        everybody: dict[tuple[str | None, bool, str], Rule] = {}
        named: dict[str, dict[tuple[str | None, bool, str], Rule]] = {}
        for number, limit in enumerate(limits):
            check_bound(limit.model, providers, f"{where}[{number}].model")
            rules = everybody if limit.consumer == "*" else named.setdefault(limit.consumer, {})
            for rule in _rules(limit, f"{where}[{number}]"):
                if rule.place in rules:
                    raise ConfigurationError(
                        f"{rule.where} is given in {rules[rule.place].where} already, for the same consumer and model",
                        param=rule.where,
                    )
                rules[rule.place] = rule
        self._everybody = _counted(everybody)
        self._named = {name: _counted({**everybody, **rules}) for name, rules in named.items()}

    def of(self, consumer: str) -> tuple[Rule, ...]:
        """Those of a consumer."""
        return self._named.get(consumer, self._everybody)

    def asked(
        self, consumer: Consumer, model: str, *, tokens: int, holder: str, besides: Iterable[str] = ()
    ) -> Asked | None:
        """
        What a request asks for.

        Args:
            consumer: Whose it is.
            model: Where it goes, ``provider/model``.
            tokens: How many it is estimated to come to.
            holder: Its id.
            besides: Models that it has asked for already: what covers one of them is not asked again.
        Returns:
            None where it falls under no limit, or under none that is new.
        """
        before = tuple(besides)
        drawn, placed = [], []
        draws, slots = [], []
        for rule in self.of(consumer.id):
            if not rule.covers(model) or any(rule.covers(other) for other in before):
                continue
            if rule.name == "concurrency":
                placed.append(rule)
                slots.append(Slot(rule.at(consumer), rule.figure or 0, holder))
            else:
                counted = tokens if rule.name.startswith("tokens") else 1
                drawn.append(rule)
                draws.append(Draw(rule.at(consumer), _units(counted, rule), rule.size.refill, rule.size.room))
        if not draws and not slots:
            return None
        return Asked(Ask(consumer.id, tuple(draws), tuple(slots), SLOT_S), tuple(drawn), tuple(placed), tokens)


def estimate(bound: Bound) -> int:
    """
    Tokens that are drawn for a request before it is sent.

    The prompt as it is estimated, and the output cap where the client gave one. A cap of ours says nothing of how long
    an answer is going to be: for each one a small share of it is drawn.
    """
    return bound.prompt_estimate + bound.n * (min(bound.cap, OUTPUT_ESTIMATE) if bound.ours else bound.cap)


def refusal(asked: Asked, standing: Standing) -> RequestError:
    """
    What a client is told whose request was not admitted.

    The longest wait counts. Where a window is smaller than the request, waiting does not help.
    """
    for rule, draw in zip(asked.drawn, asked.ask.draws, strict=True):
        if draw.amount > draw.room:
            most = rule.size.room // rule.size.each
            return _refused(
                f"This request is too large for the limit of {_said(rule)}: it may come to {asked.tokens} tokens, and "
                f"never more than {most} are there at once. Ask for less, or name a smaller output cap.",
            )
    wait_ms, said = 0, ""
    for rule, draw, used in zip(asked.drawn, asked.ask.draws, standing.used, strict=True):
        rule_ms = -(-windows.wait_us(used, draw) // 1000)
        if rule_ms > wait_ms:
            wait_ms, said = rule_ms, _said(rule)
    for rule, slot, busy in zip(asked.placed, asked.ask.slots, standing.busy, strict=True):
        if busy >= slot.most and wait_ms < CONCURRENCY_WAIT_MS:
            wait_ms, said = CONCURRENCY_WAIT_MS, _said(rule)
    return _refused(f"The limit of {said} is reached.", wait_ms=max(1, wait_ms))


def together(one: tuple[Asked, Standing], other: tuple[Asked, Standing]) -> tuple[Asked, Standing]:
    """What two models of one request fall under, and how it stands with all of it."""
    (mine, here), (its, there) = one, other
    ask = Ask(mine.ask.home, (*mine.ask.draws, *its.ask.draws), (*mine.ask.slots, *its.ask.slots), mine.ask.ttl_s)
    asked = Asked(ask, (*mine.drawn, *its.drawn), (*mine.placed, *its.placed), mine.tokens)
    return asked, Standing(here.admitted, (*here.used, *there.used), (*here.busy, *there.busy))


def headers(asked: Asked, standing: Standing, *, anthropic: Callable[[int], str] | None = None) -> Headers:
    """
    How it stands with a client's windows: of requests and of tokens, that of which the fewest are left.

    Args:
        asked: What was asked.
        standing: What the store said.
        anthropic: For Anthropic's names: writes the time that is so many microseconds from now; None for OpenAI's.
    """
    found: Headers = []
    for what in ("requests", "tokens"):
        left = [
            (max(0, draw.room - used) // rule.size.each, -(-used // draw.refill), rule)
            for rule, draw, used in zip(asked.drawn, asked.ask.draws, standing.used, strict=True)
            if rule.name.startswith(what)
        ]
        if not left:
            continue
        remaining, reset_us, rule = min(left, key=_fewest)
        most = rule.size.room // rule.size.each
        if anthropic is None:
            found += [
                (f"x-ratelimit-limit-{what}", str(most)),
                (f"x-ratelimit-remaining-{what}", str(remaining)),
                (f"x-ratelimit-reset-{what}", duration(reset_us)),
            ]
        else:
            name = f"anthropic-ratelimit-{what}"
            found += [
                (f"{name}-limit", str(most)),
                (f"{name}-remaining", str(remaining)),
                (f"{name}-reset", anthropic(reset_us)),
            ]
    return found


def duration(micro: int) -> str:
    """A span as Go writes it, in milliseconds rounded up: ``12ms``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    milli = -(-micro // 1000)
    if milli < 1000:
        return f"{milli}ms" if milli else "0s"
    seconds, milli = divmod(milli, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    last = f"{seconds}.{milli:03d}".rstrip("0") + "s" if milli else f"{seconds}s"
    if hours:
        return f"{hours}h{minutes}m{last}"
    return f"{minutes}m{last}" if minutes else last


def _of(rule: Rule, tokens: int | Mapping[str, int]) -> int:
    """The tokens that a rule counts."""
    if isinstance(tokens, int):
        return tokens
    return sum(count for model, count in tokens.items() if rule.covers(model))


def _units(count: int, rule: Rule) -> int:
    """So many as units, no more than any store can count: that is more than any window has."""
    return max(-windows.MOST_UNITS, min(count * rule.size.each, windows.MOST_UNITS))


def _rules(limit: RateLimit, where: str) -> Iterator[Rule]:
    for name, figure, burst in limit.figures():
        rule = Rule(
            name=name,
            where=f"{where}.{name}",
            model=limit.model,
            per_key=limit.per == "key",
            figure=None if figure == "unlimited" else figure,
            key="",
        )
        if rule.figure is None:
            yield rule
            continue
        size = windows.Size(1, 1, rule.figure)
        if name != "concurrency":
            found = windows.size(rule.figure, WINDOWS[name.rpartition("_")[2]], burst)
            if found is None:
                burst_name = f"{name.partition('_')[0]}_burst"
                raise ConfigurationError(
                    f"{where}.{burst_name} is too large for {name} = {rule.figure}", param=f"{where}.{burst_name}"
                )
            size = found
        counted = "" if name == "concurrency" else f":{size.each}:{size.refill}"
        key = f"{name}{counted}:{'key' if rule.per_key else ''}:{limit.model or ''}"
        yield msgspec.structs.replace(rule, key=key, size=size)


def _counted(rules: Mapping[tuple[str | None, bool, str], Rule]) -> tuple[Rule, ...]:
    return tuple(rule for rule in rules.values() if rule.figure is not None)


def _fewest(found: tuple[int, int, Rule]) -> tuple[int, int]:
    return found[0], -found[1]


def _said(rule: Rule) -> str:
    """``60 requests per minute to openai/*, for each key``."""
    words = f"{rule.figure} requests at once" if rule.name == "concurrency" else f"{rule.figure} {_words(rule.name)}"
    model = f" to {rule.model}" if rule.model is not None else ""
    return f"{words}{model}{' for each key' if rule.per_key else ''}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _refused(message: str, *, wait_ms: int | None = None) -> RequestError:
    told: dict[str, str] = {}
    if wait_ms is not None:
        told = {"Retry-After": str(max(1, -(-wait_ms // 1000))), "retry-after-ms": str(max(1, wait_ms))}
    return RequestError(message, status=429, code="rate_limit_exceeded", retryable=wait_ms is not None, headers=told)
