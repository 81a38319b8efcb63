"""
Health: what this worker knows of its upstreams, and so whom to ask.

The decisions are :mod:`hpp_middleware.core.health`'s. All of it is in memory, and takes microseconds.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from hpp_middleware.core import balance, health
from hpp_middleware.core.price import scaled
from hpp_middleware.stages.upstream.watched import NO_TERM, Ticket, Watched
from hpp_middleware.types.completion import Target
from hpp_middleware.types.events import Alarm, UpstreamChanged
from hpp_middleware.types.health import Rest, UpstreamState
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Provider
from hpp_middleware.types.upstreams import Choice

__all__ = ["Health"]

MOST_PRICES = 4096
"""So many prices of upstreams are remembered, and not made anew."""

FRESH_S = 3.0
"""Whom this worker has found well so long ago, it asks, whatever others say."""

_ONE = Decimal(1)


class Health:
    """
    The health of all upstreams, as one worker has seen it.

    Args:
        providers: By name.
        alarm: Told of a key that is no good.
        changed: Told of a circuit that has opened, or closed.
        clock: Monotonic seconds.
        chance: Draws from 0 to 1.

    Attributes:
        clock: See above.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        alarm: Callable[[Alarm], None] | None = None,
        changed: Callable[[UpstreamChanged], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._alarm = alarm
        self._changed = changed
        self.clock = clock
        self._chance = chance
        self._untold: dict[tuple[str, str], None] = {}
        self._prices: dict[tuple[Price, Decimal], Price] = {}
        self._watched: dict[str, Watched] = {}
        self._several: dict[str, tuple[Watched, ...]] = {}
        for name, provider in providers.items():
            found = tuple(
                Watched(f"{name}#{each.name}", provider.breaker, each, provider.parts[each.name])
                for each in provider.upstreams
            )
            self._watched.update((each.key, each) for each in found or (Watched(name, provider.breaker),))
            if found:
                self._several[name] = found

    def admits(self, key: str, model: str = "") -> float:
        """
        How long until an upstream may be asked, in seconds; 0 where it may be now.

        Args:
            key: The upstream's; one that is not known may always be.
            model: The model's name there, whose limit may be what it rests for.
        """
        watched = self._watched.get(key)
        if watched is None or watched.breaker is None or not (watched.circuit.is_open or watched.rests):
            return 0.0
        now = self.clock()
        return max(health.wait_s(watched.circuit, watched.breaker, now=now), self._rest_s(watched, model, now))

    def ask(self, key: str, model: str) -> Ticket | float:
        """
        A call is to be sent: its ticket, as :meth:`began` gives it, or how long it must wait, as :meth:`admits` tells.

        Args:
            key: The upstream's.
            model: The model's name there.
        """
        watched = self._watched.get(key)
        if watched is not None and not (watched.circuit.is_open or watched.rests):
            return Ticket(self, watched, model, watched.circuit.term)
        return self.admits(key, model) or self.began(key, model)

    def began(self, key: str, model: str = "") -> Ticket:
        """
        A call is being sent, which :meth:`admits` has let through in the same breath.

        Returns:
            What is to be told how it ended, in every case.
        """
        watched = self._watched.get(key)
        if watched is None:
            watched = Watched(key, None)  # a host's own: nothing is held against it
        circuit, breaker = watched.circuit, watched.breaker
        if breaker is None or not circuit.is_open:
            return Ticket(self, watched, model, circuit.term)
        now = self.clock()
        if health.wait_s(circuit, breaker, now=now):
            return Ticket(self, watched, model, NO_TERM)
        circuit = watched.circuit = health.begun(circuit, breaker, now=now)
        return Ticket(self, watched, model, circuit.term, circuit.probes[-1])

    def order(self, keys: Sequence[str], how: Choice, *, model: str = "", stream: bool = True) -> list[str]:
        """
        Upstreams, the one to be asked first in front.

        Args:
            keys: Theirs.
            how: See :mod:`hpp_middleware.core.balance`.
            model: The model's name there.
            stream: Whether a stream is asked for: another answer begins when it is whole.
        """
        seats = []
        for key in keys:
            watched = self._watched[key]
            pace = watched.paces.get((model, stream))
            upstream = watched.upstream
            seats.append(
                balance.Seat(
                    key,
                    upstream.weight if upstream is not None else 1.0,
                    upstream.price_factor if upstream is not None else _ONE,
                    watched.in_flight,
                    pace[0] if pace is not None else None,
                )
            )
        return balance.order(seats, how, chance=self._chance)

    def targets(self, target: Target, *, stream: bool = True) -> list[Target]:
        """
        The upstreams of a target's model that may be asked now, the best first; none where all are to be left alone.

        Each is a target of its own: it says where it goes, with which key, and at what price.

        Args:
            target: The model.
            stream: Whether a stream is asked for.
        """
        watched = self._watched.get(target.key)
        if watched is not None and not (watched.circuit.is_open or watched.rests):
            return [target]
        several = self._several.get(target.provider_name)
        if several is None or target.upstream is not None:
            return [target] if not self.admits(target.key, target.model_name) else []
        model = target.model_name
        keys = [each.key for each in several if not self.admits(each.key, model)]
        if len(keys) > 1:
            keys = self.order(keys, target.provider.choose, model=model, stream=stream)
        return [self._at(target, self._watched[key]) for key in keys]

    def anyhow(self, target: Target) -> Target:
        """One of a target's upstreams, though none may be asked now."""
        several = self._several.get(target.provider_name)
        return target if several is None or target.upstream is not None else self._at(target, several[0])

    def wait_s(self, target: Target) -> float:
        """How long until one of a target's upstreams may be asked, in seconds; 0 where one may be now."""
        several = self._several.get(target.provider_name)
        if several is None or target.upstream is not None:
            return self.admits(target.key, target.model_name)
        return min(self.admits(each.key, target.model_name) for each in several)

    def _at(self, target: Target, watched: Watched) -> Target:
        """A target's model at one of its provider's upstreams."""
        upstream, part = watched.upstream, watched.part
        if upstream is None or part is None:
            return target
        price = target.price
        if upstream.price_factor != 1:
            known = price, upstream.price_factor
            found = self._prices.get(known)
            if found is None:
                if len(self._prices) >= MOST_PRICES:
                    self._prices.clear()
                found = self._prices[known] = scaled(price, upstream.price_factor)
            price = found
        return msgspec.structs.replace(target, provider=part, price=price, upstream=upstream.name)

    def states(self) -> dict[str, UpstreamState]:
        """How each upstream is doing, as this worker sees it, for any thread; no address and no key is in it."""
        now = self.clock()
        return {
            key: UpstreamState(
                state=health.state(each.circuit, now=now),
                for_s=max(0.0, each.circuit.until - now) if each.circuit.is_open else 0.0,
                resting={model: until - now for model, until in list(each.rests.items()) if until > now},
                in_flight=each.in_flight,
            )
            for key, each in self._watched.items()
        }

    def untold(self) -> list[Rest]:
        """What other workers have not been told yet: openings, closings and rests; then it counts as told."""
        now, untold, self._untold = self.clock(), self._untold, {}
        rests = []
        for key, model in sorted(untold):
            watched = self._watched[key]
            until = (
                watched.rests.get(model, now) if model else (watched.circuit.until if watched.circuit.is_open else now)
            )
            rests.append(Rest(key, model, for_s=max(0.0, until - now)))
        return rests

    def tell_again(self, rests: Sequence[Rest]) -> None:
        """They could not be told."""
        self._untold.update(dict.fromkeys((rest.key, rest.model) for rest in rests))

    def hear(self, rests: Sequence[Rest]) -> None:
        """
        What other workers leave alone, so does this one; but not whom it has itself found well a moment ago: then it is
        the other's own way there that fails.
        """
        now = self.clock()
        for rest in rests:
            watched = self._watched.get(rest.key)
            if watched is None or watched.breaker is None:
                continue
            if rest.model:
                until = now + min(rest.for_s, watched.breaker.longest)
                watched.rests[rest.model] = max(until, watched.rests.get(rest.model, now))
            elif now >= watched.well_at + FRESH_S:
                told = dict(self._untold)
                self._now(watched, health.heard(watched.circuit, watched.breaker, now=now, for_s=rest.for_s))
                self._untold = told  # it is nothing of our own

    def well(self, watched: Watched, term: int, now: float) -> None:
        """A call of this term is answered."""
        if watched.breaker is not None:
            watched.well_at = now
            self._now(watched, health.succeeded(watched.circuit, watched.breaker, now=now, term=term))

    def pace_s(self, target: Target, *, stream: bool = True) -> float | None:
        """How long a target's model takes to begin an answer, in seconds, at its fastest upstream; None if unknown."""
        kind = target.model_name, stream
        return min((each.paces[kind][0] for each in self._of(target) if kind in each.paces), default=None)

    def token_s(self, target: Target, *, stream: bool = True) -> float | None:
        """How long a target's model takes to write a token, in seconds, at its fastest upstream; None if unknown."""
        kind = target.model_name, stream
        known = [sorted(each.rates[kind]) for each in self._of(target) if kind in each.rates]
        return min((each[len(each) // 2] for each in known), default=None)  # of each the median

    def _of(self, target: Target) -> Sequence[Watched]:
        """Whom a target's model may be asked of."""
        several = self._several.get(target.provider_name)
        if several is not None:
            return several
        return [each for each in (self._watched.get(target.key),) if each is not None]

    def unwell(
        self,
        watched: Watched,
        model: str,
        told: health.Told,
        *,
        term: int,
        retry_after_s: float | None,
        now: float,
    ) -> None:
        """A call of this term has failed, or was refused for its key."""
        breaker = watched.breaker
        if breaker is None:
            return
        if told == "limited":  # it has answered, and so is well: it is the key that is over its limit
            self.well(watched, term, now)
            watched.rests = {name: until for name, until in watched.rests.items() if until > now}
            watched.rests[model] = max(
                now + health.rest_s(breaker, retry_after_s=retry_after_s), watched.rests.get(model, now)
            )
            self._untold[watched.key, model] = None
            return
        circuit = health.failed(watched.circuit, breaker, now=now, term=term, why=told, retry_after_s=retry_after_s)
        self._now(watched, circuit, refused=told != "failed")

    def _now(self, watched: Watched, circuit: health.Circuit, *, refused: bool = False) -> None:
        """Take a circuit's next value, and tell of it if it has opened or closed."""
        before, watched.circuit = watched.circuit, circuit
        if circuit.term == before.term:
            return
        now = self.clock()
        self._untold[watched.key, ""] = None
        if refused and self._alarm is not None:
            self._alarm(Alarm(kind="upstream_refused", request_id="", detail=f"{watched.key} refuses its key"))
        if self._changed is not None:
            self._changed(
                UpstreamChanged(
                    upstream=watched.key,
                    state=health.state(circuit, now=now),
                    for_s=max(circuit.until - now, 0.0) if circuit.is_open else 0.0,
                )
            )

    def _rest_s(self, watched: Watched, model: str, now: float) -> float:
        until = watched.rests.get(model)
        if until is None:
            return 0.0
        if until > now:
            return until - now
        del watched.rests[model]
        return 0.0
