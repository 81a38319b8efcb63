"""One upstream as a worker watches it, and the ticket of one call to it."""

from collections import deque
from typing import TYPE_CHECKING

from hpp_middleware.core import balance, health
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.provider import Provider
from hpp_middleware.types.upstreams import Upstream

if TYPE_CHECKING:
    from hpp_middleware.stages.upstream.health import Health

__all__ = ["NO_TERM", "Ticket", "Watched"]

NO_TERM = -1
"""That of a call which should not have been sent."""

RATES = 9
"""How many answers tell how fast a model writes: the median of the last ones."""


class Watched:
    """
    One upstream.

    Attributes:
        key: Its provider's name, or ``name#upstream`` for one of several.
        breaker: Its settings; None where it has no breaker.
        circuit: See :class:`hpp_middleware.core.health.Circuit`.
        rests: Until when its key rests, by model: a provider's limits are mostly a model's.
        in_flight: How many calls it is answering.
        well_at: When it was last found well, by this worker.
        paces: How long its answers take to begin, by model and whether they are streams, and as of when.
        rates: How long it took to write a token, in its last answers, likewise.
        upstream: Its settings, where it is one of several.
        part: The same as a provider of its own.
    """

    __slots__ = ("breaker", "circuit", "in_flight", "key", "paces", "part", "rates", "rests", "upstream", "well_at")

    def __init__(
        self, key: str, breaker: Breaker | None, upstream: Upstream | None = None, part: Provider | None = None
    ) -> None:
        self.key = key
        self.breaker = breaker
        self.upstream = upstream
        self.part = part
        self.paces: dict[tuple[str, bool], tuple[float, float]] = {}
        self.rates: dict[tuple[str, bool], deque[float]] = {}
        self.circuit = health.CLOSED
        self.rests: dict[str, float] = {}
        self.in_flight = 0
        self.well_at = float("-inf")

    def measured(self, kind: tuple[str, bool], first_byte_s: float | None, token_s: float | None, now: float) -> None:
        """
        How fast an answer was, as far as that is known.

        Args:
            kind: The model's name there, and whether it was a stream.
            first_byte_s: How long it took to begin: what one of several is chosen by.
            token_s: How long a token of it took to write.
            now: Monotonic seconds.
        """
        if first_byte_s is not None:
            self.paces[kind] = balance.pace(self.paces.get(kind), first_byte_s, now=now)
        if token_s is not None:
            rates = self.rates.get(kind)
            if rates is None:
                rates = self.rates[kind] = deque(maxlen=RATES)
            rates.append(token_s)


class Ticket:
    """
    One call to an upstream, from just before it is sent until it has ended.

    Args:
        found: Whose.
        watched: The upstream.
        model: The model's name there.
        term: The circuit's, in which it is made; what is of :data:`NO_TERM` says nothing.
        probe: When it is forgotten, if it is a probe.
    """

    _over = _is_paced = False

    def __init__(self, found: "Health", watched: Watched, model: str, term: int, probe: float | None = None) -> None:
        self._health = found
        self._watched = watched
        self._model = model
        self._term = term
        self._probe = probe
        watched.in_flight += 1

    def answering(self, first_byte_s: float | None = None) -> None:
        """
        It has begun to answer, as it should. A stream may go on for minutes: a circuit that is half-open closes here.

        Args:
            first_byte_s: How long that took, in seconds.
        """
        if self._over:
            return
        watched, now = self._watched, self._health.clock()
        if first_byte_s is not None:
            watched.measured((self._model, True), first_byte_s, None, now)
            self._is_paced = True
        if watched.circuit.is_open:
            self._health.well(watched, self._term, now)

    def well(self, first_byte_s: float | None = None, token_s: float | None = None) -> None:
        """It has answered, and ended, as it should; the arguments are :meth:`ended`'s."""
        if self._over:
            return
        self._over = True
        watched, now = self._watched, self._health.clock()
        watched.in_flight -= 1
        is_paced = self._is_paced
        watched.measured((self._model, is_paced), None if is_paced else first_byte_s, token_s, now)
        self._health.well(watched, self._term, now)

    def ended(
        self,
        *,
        ok: bool | None,
        status: int | None = None,
        retry_after_s: float | None = None,
        first_byte_s: float | None = None,
        token_s: float | None = None,
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
            token_s: How long it took to write a token of it, in seconds.
        """
        told = health.told(status, ok=ok)
        if told == "well":
            self.well(first_byte_s if ok else None, token_s if ok else None)
            return
        if self._over:
            return
        self._over = True
        watched, now = self._watched, self._health.clock()
        watched.in_flight -= 1
        if ok:
            is_paced = self._is_paced
            watched.measured((self._model, is_paced), None if is_paced else first_byte_s, token_s, now)
        if watched.breaker is None:
            return
        if told == "nothing":
            watched.circuit = health.nothing(watched.circuit, term=self._term, probe=self._probe)
        else:
            self._health.unwell(watched, self._model, told, term=self._term, retry_after_s=retry_after_s, now=now)
