"""One upstream as a worker watches it, and the ticket of one call to it."""

from collections import deque
from typing import TYPE_CHECKING

from hpp_middleware.core import health
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.provider import Provider
from hpp_middleware.types.upstreams import Upstream

if TYPE_CHECKING:
    from hpp_middleware.stages.health import Health

__all__ = ["Ticket", "Watched"]


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


class Ticket:
    """
    One call to an upstream, from just before it is sent until it has ended.

    Args:
        found: Whose.
        watched: The upstream.
        model: The model's name there.
        probe: When it is forgotten, if it is a probe.
        counts: Whether it is made in the circuit's present term: one that should not have been sent says nothing.
    """

    __slots__ = ("_health", "_is_paced", "_over", "_probe", "_term", "_watched", "model")

    def __init__(
        self, found: "Health", watched: Watched, model: str, *, probe: float | None, counts: bool = True
    ) -> None:
        self._health = found
        self._watched = watched
        self._term = watched.circuit.term if counts else -1
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
        if self._over:
            return
        self._over = True
        self._watched.in_flight -= 1
        if ok and first_byte_s is not None and not self._is_paced:
            self._health.paced(self._watched, self.model, first_byte_s, stream=False)
        if ok and token_s is not None:
            self._health.rated(self._watched, self.model, token_s, stream=self._is_paced)
        self._health.ended(
            self._watched,
            self.model,
            health.told(status, ok=ok),
            term=self._term,
            probe=self._probe,
            retry_after_s=retry_after_s,
        )
