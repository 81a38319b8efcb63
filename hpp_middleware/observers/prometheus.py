"""
Figures for Prometheus: counted from events as they come, and read off the gateway when they are asked for.

No label is anything that a client writes: no consumer, no key, and of a model the name that the operator or the price
list has for it. All else is in the ledger. The figures are kept in a registry of the observer's own, or in the host's;
never in the global one. Needs the extra ``prometheus``.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.events import Alarm, Event, Refused, Replayed, Settled, Shadowed, UpstreamChanged
from hpp_middleware.types.health import STATES, together
from hpp_middleware.types.price import Usage
from hpp_middleware.types.quota import Attempt, Entry

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Metric

    from hpp_middleware.ports import Watchable

__all__ = ["BUCKETS_S", "OTHER", "PrometheusObserver"]

BUCKETS_S = tuple(0.01 * 2**step for step in range(14))
"""
Bounds of durations, in seconds, from 0.01 to 81.92: those that OpenTelemetry's conventions for generative AI advise for
``gen_ai.client.operation.duration``.
"""

OTHER = "other"
"""What a model is called that nobody has a name for."""

NONE = "none"
"""The status of an upstream that has given none."""

_DETAILS = (
    *("cache_read", "cache_read_audio", "cache_write", "cache_write_1h", "input_audio", "input_image", "tool_prompt"),
    *("reasoning", "output_audio", "output_image"),
)
"""The buckets of :class:`~hpp_middleware.types.price.Usage` that are a part of the tokens that went in, or came out."""

_NO_TOKENS = Usage()


class PrometheusObserver:
    """
    Counts for Prometheus: ``Gateway(observers=[PrometheusObserver()])``. ``docs/observability.md`` has the table.

    One observer may be several gateways'. Where ``PROMETHEUS_MULTIPROC_DIR`` was set when prometheus-client was
    imported, the processes that share that folder are counted together, and what is read off a gateway is left out: it
    would be one process's.

    Args:
        registry: Where the figures are kept; by default a registry of their own.

    Attributes:
        registry: That one.

    Raises:
        ConfigurationError: prometheus-client is not installed, or the registry has such figures already.
    """

    def __init__(self, registry: "CollectorRegistry | None" = None) -> None:
        try:
            from prometheus_client import CollectorRegistry, values
        except ModuleNotFoundError as error:
            if error.name != "prometheus_client":
                raise
            raise ConfigurationError(
                "prometheus-client is not installed: pip install 'hpp_middleware[prometheus]'", param="observers"
            ) from error
        self.registry = CollectorRegistry() if registry is None else registry
        self._together = values.ValueClass is not values.MutexValue
        self._gateways: WeakSet[Watchable] = WeakSet()
        self._models: dict[str, _Model] = {}
        self._children: dict[tuple[object, ...], Counter] = {}
        try:
            self._figures = _Figures(self.registry)
            if not self._together:
                self.registry.register(_Standings(self._gateways))
        except ValueError as error:  # what prometheus-client raises where a name is taken
            raise ConfigurationError(
                "registry has an observer's figures already; give one observer to all gateways", param="registry"
            ) from error

    def watch(self, gateway: "Watchable") -> None:
        """See :class:`hpp_middleware.ports.Observer`: this gateway's models are known, and its state is shown."""
        self._gateways.add(gateway)

    def observe(self, event: Event) -> None:
        """See :class:`hpp_middleware.ports.Observer`."""
        figures = self._figures
        match event:
            case Settled():
                self._settled(event)
            case Refused():
                self._of(figures.refusals, event.code, event.status).inc()
            case Replayed():
                figures.replays.inc()
            case Shadowed():
                self._of(figures.shadowed, str(event.shadow == event.model).lower()).inc()
            case Alarm():
                figures.alarms.labels(event.kind).inc()
            case UpstreamChanged():
                figures.changes.labels(event.upstream, event.state).inc()

    def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """
        All figures, as Prometheus reads them. It takes tens of milliseconds with fifty models: make it in a thread.

        Args:
            accept: The request's ``Accept``: OpenMetrics where it asks for that, else Prometheus' own text.
        Returns:
            The body, and its media type.
        """
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        registry = self.registry
        if self._together:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            collector: Any = MultiProcessCollector  # which has no types
            collector(registry)
        encode, media_type = choose_encoder(accept)
        return encode(registry), media_type

    def _settled(self, event: Settled) -> None:
        for entry in event.entries:
            found = self._model(entry.draft.model)
            if entry.amount:
                (found.charged if entry.amount > 0 else found.credited).inc(abs(entry.amount))
            if entry.line == "resolution":
                self._ended(entry, event, found)

    def _ended(self, entry: Entry, event: Settled, found: "_Model") -> None:
        """A request has ended: each has one resolution."""
        figures, report = self._figures, entry.report
        attempts = report.attempts
        status = _status(attempts[-1]) if attempts else NONE
        self._of(figures.requests, *found.labels, report.outcome, status).inc()
        if report.estimated:
            self._of(figures.estimated, *found.labels).inc()
        for number, attempt in enumerate(attempts):
            upstream = attempt.provider if attempt.upstream is None else f"{attempt.provider}#{attempt.upstream}"
            self._of(figures.attempts, upstream, _status(attempt), attempt.error or "").inc()
            if number:
                self._of(figures.retries, upstream).inc()
        if report.usage != _NO_TOKENS:
            self._used(report.usage, found)
        if report.outcome == "orphaned":  # nobody has timed it
            figures.expired.inc()
            return
        found.duration.observe(event.duration_s)
        if event.first_byte_s is not None and entry.draft.stream:
            found.first_chunk.observe(event.first_byte_s)

    def _used(self, usage: Usage, found: "_Model") -> None:
        found.prompt.inc(usage.prompt)
        found.completion.inc(usage.completion)
        for name in _DETAILS:
            count = getattr(usage, name)
            if count:
                self._of(self._figures.details, *found.labels, name).inc(count)

    def _of(self, counter: "Counter", *labels: str | int) -> "Counter":
        """A counter's child, which it takes a lock and some strings to find: as few are remembered as there are."""
        known = (counter, *labels)
        child = self._children.get(known)
        if child is None:
            child = self._children[known] = counter.labels(*labels)
        return child

    def _model(self, model_id: str) -> "_Model":
        """The figures of a model, by what the gateway calls it, or else those of its provider's ``other`` models."""
        found = self._models.get(model_id)
        if found is None:
            provider = model_id.partition("/")[0]
            name = next(filter(None, (each.called(model_id) for each in list(self._gateways))), OTHER)
            kept = f"{provider}/{name}"
            found = self._models.get(kept)
            if found is None:
                found = self._models[kept] = self._figures.of(provider, name)
        return found


class _Model(NamedTuple):
    """What every request adds to, by its model: looked up once."""

    labels: tuple[str, str]
    charged: Any
    credited: Any
    prompt: Any
    completion: Any
    duration: Any
    first_chunk: Any


class _Figures:
    """What is counted as it happens."""

    def __init__(self, registry: "CollectorRegistry") -> None:
        from prometheus_client import Counter, Histogram

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"hpp_{name}", words, labels, registry=registry)

        def histogram(name: str, words: str, *labels: str) -> Histogram:
            return Histogram(f"hpp_{name}", words, labels, registry=registry, buckets=BUCKETS_S)

        model = ("provider", "model")
        self.requests = counter(
            "requests",
            "Requests that have ended; the status is the last upstream's.",
            *model,
            "outcome",
            "status",
        )
        self.estimated = counter("requests_estimated", "Requests that were charged by an estimate.", *model)
        self.attempts = counter("attempts", "Calls to upstreams.", "upstream", "status", "error")
        self.retries = counter("retries", "Calls after a request's first, by whom they went to.", "upstream")
        self.tokens = counter("tokens", "Tokens that went in and came out.", *model, "type")
        self.details = counter("token_details", "Tokens of these kinds, all of them in hpp_tokens too.", *model, "type")
        self.charged = counter("charged_nanodollars", "Nano-dollars charged.", *model)
        self.credited = counter("credited_nanodollars", "Nano-dollars given back by corrections.", *model)
        self.duration = histogram("request_duration_seconds", "From the way upstream to the end of the answer.", *model)
        self.first_chunk = histogram("time_to_first_chunk_seconds", "Until a stream's first bytes.", *model)
        self.refusals = counter("refusals", "Requests refused before anything was held.", "code", "status")
        self.replays = counter("replays", "Answers given again under their Idempotency-Key.")
        self.shadowed = counter("shadowed", "Choices of hpprouter/auto that another policy was asked for too.", "alike")
        self.expired = counter("holds_expired", "Holds whose worker has died, charged by [billing] orphan.")
        self.alarms = counter("alarms", "What an operator should look at.", "kind")
        self.changes = counter("upstream_changes", "Circuits that have opened or closed.", "upstream", "state")

    def of(self, provider: str, model: str) -> _Model:
        """Those of a model."""
        labels = (provider, model)
        return _Model(
            labels,
            self.charged.labels(*labels),
            self.credited.labels(*labels),
            self.tokens.labels(*labels, "input"),
            self.tokens.labels(*labels, "output"),
            self.duration.labels(*labels),
            self.first_chunk.labels(*labels),
        )


class _Standings:
    """What is read off the gateways when it is asked for: a collector, as prometheus-client calls it."""

    def __init__(self, gateways: "WeakSet[Watchable]") -> None:
        self._gateways = gateways

    def collect(self) -> "Iterator[Metric]":
        """The gauges, as of now."""
        from prometheus_client.core import GaugeMetricFamily

        found = [gateway.standing() for gateway in list(self._gateways)]
        sums: tuple[tuple[str, str, Callable[[Any], int]], ...] = (
            ("in_flight", "Requests that have a place.", lambda each: each.running),
            ("queued", "Requests that wait for a place.", lambda each: each.waiting),
            ("places", "How many requests are answered at once; 0 for any number.", lambda each: each.places),
            ("held_nanodollars", "Held for the answers in flight in this process.", lambda each: each.held),
            ("journal_pending", "Settlements that the store has not taken yet.", lambda each: each.owed),
            ("journal_slots", "How many the settlement journal takes.", lambda each: each.slots),
            ("draining", "1 where no more is taken on.", lambda each: each.draining),
        )
        for name, words, of in sums:
            yield GaugeMetricFamily(f"hpp_{name}", words, value=sum(map(of, found)))
        states = GaugeMetricFamily("hpp_upstream_state", "1 for the state that it is in.", labels=("upstream", "state"))
        busy = GaugeMetricFamily("hpp_upstream_in_flight", "Calls that it is answering.", labels=("upstream",))
        for key, state in together(each.upstreams for each in found).items():
            busy.add_metric((key,), state.in_flight)
            for name in STATES:
                states.add_metric((key, name), name == state.state)
        yield from (states, busy)

    def describe(self) -> "list[Metric]":
        """The same without figures: that no name is taken twice is checked by it."""
        return list(_Standings(WeakSet()).collect())


def _status(attempt: Attempt) -> str | int:
    return NONE if attempt.status is None else attempt.status
