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
from hpp_middleware.core.settlement import End
from hpp_middleware.errors import GatewayError, UpstreamError
from hpp_middleware.types.completion import Target
from hpp_middleware.types.events import Alarm, UpstreamChanged
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Provider, Timeouts
from hpp_middleware.types.upstreams import Choice, Upstream

__all__ = ["Health", "Ticket", "verdict"]

MOST_PRICES = 4096
"""So many prices of upstreams are remembered, and not made anew."""

_ONE = Decimal(1)


class Watched:
    """
    One upstream.

    Attributes:
        key: Its provider's name, or ``name#upstream`` for one of several.
        breaker: Its settings; None where it has no breaker.
        circuit: See :class:`hpp_middleware.core.health.Circuit`.
        rests: Until when its key rests, by model: a provider's limits are mostly a model's.
        in_flight: How many calls it is answering.
        paces: How long its answers take to begin, by model and whether they are streams, and as of when.
        upstream: Its settings, where it is one of several.
        part: The same as a provider of its own.
    """

    __slots__ = ("breaker", "circuit", "in_flight", "key", "paces", "part", "rests", "upstream")

    def __init__(
        self, key: str, breaker: Breaker | None, upstream: Upstream | None = None, part: Provider | None = None
    ) -> None:
        self.key = key
        self.breaker = breaker
        self.upstream = upstream
        self.part = part
        self.paces: dict[tuple[str, bool], tuple[float, float]] = {}
        self.circuit = health.CLOSED
        self.rests: dict[str, float] = {}
        self.in_flight = 0


class Ticket:
    """
    One call to an upstream, from just before it is sent until it has ended.

    Args:
        found: Whose.
        watched: The upstream.
        model: The model's name there.
        probe: When it is forgotten, if it is a probe.
    """

    __slots__ = ("_health", "_is_paced", "_over", "_probe", "_term", "_watched", "model")

    def __init__(self, found: "Health", watched: Watched, model: str, *, probe: float | None) -> None:
        self._health = found
        self._watched = watched
        self._term = watched.circuit.term
        self._probe = probe
        self._over = False
        self.model = model
        self._is_paced = False
        watched.in_flight += 1

    def answering(self, first_byte_s: float | None = None) -> None:
        """
        It has begun to answer, as it should. A stream may go on for minutes: a circuit that is half-open closes here.

        Args:
            first_byte_s: How long that took, in seconds.
        """
        if self._over:
            return
        if first_byte_s is not None:
            self._health.paced(self._watched, self.model, first_byte_s, stream=True)
            self._is_paced = True
        if self._watched.circuit.is_open:
            self._health.well(self._watched, self._term)

    def ended(
        self,
        *,
        ok: bool | None,
        status: int | None = None,
        retry_after_s: float | None = None,
        first_byte_s: float | None = None,
    ) -> None:
        """
        It has ended, for whatever reason; only the first time counts.

        Args:
            ok: Whether the upstream did as it should; None where that says nothing of it: the client left, or what ran
                out was a deadline of the client's.
            status: What it answered with; None where it gave no status. A 4xx of the client's making is ok, whatever
                ``ok`` says.
            retry_after_s: How long it asks to be left alone, in seconds, if it does.
            first_byte_s: How long it took to begin its answer, in seconds.
        """
        if self._over:
            return
        self._over = True
        if ok and first_byte_s is not None and not self._is_paced:
            self._health.paced(self._watched, self.model, first_byte_s, stream=False)
        self._watched.in_flight -= 1
        self._health.ended(
            self._watched,
            self.model,
            health.told(status, ok=ok),
            term=self._term,
            probe=self._probe,
            retry_after_s=retry_after_s,
        )


class Health:
    """
    The health of all upstreams, as one worker has seen it.

    Args:
        providers: By name.
        alarm: Told of a key that is no good.
        changed: Told of a circuit that has opened, or closed.
        clock: Monotonic seconds.
        chance: Draws from 0 to 1.
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
        self._clock = clock
        self._chance = chance
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
        now = self._clock()
        return max(health.wait_s(watched.circuit, watched.breaker, now=now), self._rest_s(watched, model, now))

    def began(self, key: str, model: str = "") -> Ticket:
        """
        A call is being sent, which :meth:`admits` has let through in the same breath.

        Returns:
            What is to be told how it ended, in every case.
        """
        watched = self._watched.get(key)
        if watched is None:
            watched = Watched(key, None)  # a host's own: nothing is held against it
        if watched.breaker is None or not watched.circuit.is_open:
            return Ticket(self, watched, model, probe=None)
        now = self._clock()
        if health.wait_s(watched.circuit, watched.breaker, now=now):
            return Ticket(self, watched, model, probe=None)
        watched.circuit = health.begun(watched.circuit, watched.breaker, now=now)
        return Ticket(self, watched, model, probe=watched.circuit.probes[-1])

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

    def well(self, watched: Watched, term: int) -> None:
        """A call of this term is answered."""
        if watched.breaker is not None:
            self._now(watched, health.succeeded(watched.circuit, watched.breaker, now=self._clock(), term=term))

    def paced(self, watched: Watched, model: str, first_byte_s: float, *, stream: bool) -> None:
        """How long an answer took to begin: what one of several is chosen by."""
        kind = model, stream
        watched.paces[kind] = balance.pace(watched.paces.get(kind), first_byte_s, now=self._clock())

    def pace_s(self, target: Target, *, stream: bool = True) -> float | None:
        """How long a target's model takes to begin an answer, in seconds, at its fastest upstream; None if unknown."""
        several = self._several.get(target.provider_name)
        watched = (
            [each for each in (self._watched.get(target.key),) if each is not None] if several is None else several
        )
        paces = [
            each.paces[target.model_name, stream][0] for each in watched if (target.model_name, stream) in each.paces
        ]
        return min(paces, default=None)

    def ended(
        self,
        watched: Watched,
        model: str,
        told: health.Told,
        *,
        term: int,
        probe: float | None,
        retry_after_s: float | None,
    ) -> None:
        """A call of this term has ended; see :meth:`Ticket.ended`."""
        breaker = watched.breaker
        if breaker is None:
            return
        if told == "well":
            self.well(watched, term)
        elif told == "nothing":
            watched.circuit = health.nothing(watched.circuit, term=term, probe=probe)
        elif told == "limited":  # it has answered, and so is well: it is the key that is over its limit
            self.well(watched, term)
            now = self._clock()
            watched.rests = {name: until for name, until in watched.rests.items() if until > now}
            watched.rests[model] = max(
                now + health.rest_s(breaker, retry_after_s=retry_after_s), watched.rests.get(model, now)
            )
        else:
            self._now(
                watched,
                health.failed(
                    watched.circuit, breaker, now=self._clock(), term=term, why=told, retry_after_s=retry_after_s
                ),
                refused=told != "failed",
            )

    def _now(self, watched: Watched, circuit: health.Circuit, *, refused: bool = False) -> None:
        """Take a circuit's next value, and tell of it if it has opened or closed."""
        before, watched.circuit = watched.circuit, circuit
        if circuit.term == before.term:
            return
        now = self._clock()
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


def verdict(
    end: End | None,
    error: GatewayError | None,
    *,
    own: Timeouts,
    kept: Timeouts,
    flowing: bool,
    duration_s: float,
) -> bool | None:
    """
    Whether an upstream has done as it should in an exchange; None where that says nothing of it.

    Args:
        end: How the exchange ended; None where the host cancelled it.
        error: What went wrong.
        own: The provider's deadlines.
        kept: The exchange's, which its client may have lowered: who waits for a second only shows nothing by that.
        flowing: Whether the answer had begun.
        duration_s: How long it took.
    """
    if end is End.COMPLETED or end is End.CUT:
        return True
    if not isinstance(error, UpstreamError) or end not in {End.REFUSED, End.BROKEN, End.DEADLINE}:
        return None
    if error.code == "upstream_unavailable":
        return None  # our own pool had no room, or we did not ask
    if not error.retryable:
        return True  # the request is what it does not like
    if error.status == 504 and error.upstream_status is None and not flowing:
        waited = own.connect if error.unsent or end is End.REFUSED else own.first_byte
        return False if kept is own or duration_s >= waited else None
    if end is End.DEADLINE and flowing:
        return False if kept.idle == own.idle and duration_s < kept.total else None
    return False
