"""
A gateway's settings, checked and turned into what the path uses.

Nothing is opened here; each event loop gets its :class:`~hpp_middleware.stages.worker.worker.Worker` when it first
asks.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary, ref

import anyio
import anyio.to_thread
from anyio.lowlevel import current_token

from hpp_middleware.accounts import Accounts
from hpp_middleware.audit import Sealing
from hpp_middleware.core import auth, route
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import (
    Capabilities,
    CredentialStore,
    Dialect,
    Ledger,
    LimitStore,
    Moved,
    Observer,
    PriceList,
    QuotaStore,
    RoutingPolicy,
    Store,
    Tokenizer,
    Transport,
)
from hpp_middleware.stages.limits.limiter import Limiter
from hpp_middleware.stages.relay.drain import Slots
from hpp_middleware.stages.reserve.ceilings import Ceilings
from hpp_middleware.stages.route.auto import Auto
from hpp_middleware.stages.settle.journal import SLOTS, Journal
from hpp_middleware.stages.settle.replay import Keeper, check_keeping
from hpp_middleware.stages.setup.checked import (
    backends_of,
    capabilities_of,
    checked_budgets,
    dialects_of,
    fallbacks_of,
    image_provider_of,
    journal_of,
    journal_slots_of,
    keep_alive_of,
    limited,
    load_of,
    model_from,
    needs_prices,
    one_of,
    price_list_of,
    rules_of,
    sealer_of,
    tokenizer_of,
)
from hpp_middleware.stages.upstream import pools
from hpp_middleware.stages.upstream.health import Health
from hpp_middleware.stages.worker.notice import Notice
from hpp_middleware.stages.worker.queue import Queue
from hpp_middleware.stages.worker.worker import CLOSE_S, Worker, declared_credentials
from hpp_middleware.stores.memory import MemoryStore
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.http import CostIn
from hpp_middleware.types.limits import OnOutage, RateLimit
from hpp_middleware.types.load import Load
from hpp_middleware.types.provider import Declared, Limits, MissingUsage, Model, OrphanPolicy, Provider
from hpp_middleware.types.replay import Idempotency
from hpp_middleware.types.streams import KeepAlive

if TYPE_CHECKING:
    from hpp_middleware.transports.httpx import HTTPClient

__all__ = ["Setup"]


class Setup:
    """
    What a gateway is made of.

    Args:
        providers: Upstreams by name; the name is the first part of a model id.
        models: What is known of single models, by ``provider/model``: a :class:`Model`, or a mapping of its fields
            whose prices are dollars a million tokens as strings: ``{"input": "1.25", "output": "10"}``; there
            ``reasoning`` is the price of reasoning tokens, and ``reasoning_model`` the flag.
        aliases: Names that stand for a model id.
        image_provider: Whose a model is that a request for images names without a provider; by default ``openai``.
        store: Keeps credentials, accounts and ledger; in memory by default.
        credentials: Keeps credentials instead.
        quota: Keeps accounts and holds instead; where it is a ``Ledger`` too, it also is the ledger.
        ledger: Reads the ledger instead.
        consumers: Consumers, quotas and keys that the configuration declares.
        accounts: Groups above consumers, teams and organisations, by name.
        budgets: What may be spent in a day, a week or a month.
        dialects: Dialects of the host's own, by the name that providers call them; besides ours, and those that
            installed packages bring.
        prices: A price list for models without a price of their own; by default genai-prices, where it is installed.
        capabilities: What is known of models where ``models`` leaves it open; by default the package's own catalogue.
        tokenizer: Counts prompts, so that less is held for them; by default tiktoken, where it is installed.
        pepper: At least 16 bytes; by default the credential store's own.
        previous_pepper: The one before it, while peppers are rotated: keys move to the current one as they are used.
        error_format: ``simple`` for the flat form of the router's own errors.
        quota_status: What HTTP clients without enough quota are told: 402, or by default OpenAI's 429.
        missing_usage: What a complete answer without usage is charged.
        orphan: What a hold is charged whose worker died.
        cost_in: ``usage`` to tell what was charged in the ``usage`` of each answer too, streams among them.
        journal: A folder for settlements whose store does not answer, one store's alone; None keeps them in memory. By
            default the one that the store names, by a ``journal_dir()``: SQLite's is beside its file.
        journal_slots: How many of them it takes, a worker; no more requests are in flight at once.
        limits: Bounds on one request.
        load: How much a worker does at once, and what becomes of the rest.
        keep_alive: What streams say while their provider is silent: a comment after 15 s by default.
        idempotency: What becomes of requests with an ``Idempotency-Key``.
        sealing: How the ledger is sealed where a lifespan opens the gateway; None for not at all.
        transports: HTTP clients by provider, or by one of its upstreams (``name#upstream``), instead of a pool of our
            own; the host closes them, and signs what is to be signed (:mod:`hpp_middleware.transports.signing`).
        client: A host's own ``httpx.AsyncClient`` for all providers.
        observers: Who is told what happened.
        auto: Chooses the model of requests for ``hpprouter/auto``: an
            :class:`~hpp_middleware.core.auto.AutoPolicy`, or a host's own; None refuses them.
        rate_limits: What consumers may ask for, per window and at once.
        limit_store: Counts that; by default the quota store where it can, else this process's memory.
        limit_outage: What becomes of requests while it does not answer: ``closed``, a 503, or ``open``, they pass.
        unhealthy: Whether it is to pass a model over for now, asked with its id; one whose upstreams are left alone
            for now it passes over in any case.
        fallbacks: By model id or alias, the models to be asked one after the other where it does not answer.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Provider],
        models: Mapping[str, Model | Mapping[str, Any]] | None = None,
        aliases: Mapping[str, str] | None = None,
        image_provider: str | None = None,
        store: Store | None = None,
        credentials: CredentialStore | None = None,
        quota: QuotaStore | None = None,
        ledger: Ledger | None = None,
        consumers: Mapping[str, Declared] | None = None,
        accounts: Mapping[str, Group] | None = None,
        budgets: Sequence[Budget] = (),
        dialects: Mapping[str, Dialect] | None = None,
        prices: PriceList | Literal["auto"] | None = "auto",
        capabilities: Capabilities | Literal["auto"] | None = "auto",
        tokenizer: Tokenizer | Literal["auto"] | None = "auto",
        pepper: bytes | None = None,
        previous_pepper: bytes | None = None,
        error_format: Literal["object", "simple"] = "object",
        quota_status: Literal[402, 429] = 429,
        missing_usage: MissingUsage = "estimate",
        orphan: OrphanPolicy = "estimate",
        cost_in: CostIn = "header",
        journal: str | Path | None = "auto",
        journal_slots: int = SLOTS,
        limits: Limits | None = None,
        load: Load | None = None,
        keep_alive: KeepAlive | None = None,
        idempotency: Idempotency | None = None,
        sealing: Sealing | None = None,
        transports: Mapping[str, Transport] | None = None,
        client: "HTTPClient | None" = None,
        observers: Sequence[Observer] = (),
        auto: RoutingPolicy | None = None,
        unhealthy: Callable[[str], bool] | None = None,
        fallbacks: Mapping[str, Sequence[str]] | None = None,
        rate_limits: Sequence[RateLimit] = (),
        limit_store: LimitStore | None = None,
        limit_outage: OnOutage = "closed",
    ) -> None:
        one_of("error_format", error_format, ("object", "simple"))
        one_of("quota_status", quota_status, (402, 429))
        one_of("missing_usage", missing_usage, ("estimate", "hold", "free"))
        one_of("orphan", orphan, ("estimate", "hold", "free"))
        one_of("cost_in", cost_in, ("header", "usage"))
        self.dialects = dialects_of(providers, dialects or {})
        pools.check(providers, transports or {})
        self.catalog = route.Catalog(
            providers=dict(providers),
            models={name: model_from(name, model) for name, model in (models or {}).items()},
            aliases=dict(aliases or {}),
            prices=price_list_of(prices),
            capabilities=capabilities_of(capabilities),
            image_provider=image_provider_of(image_provider, providers),
        )
        self.fallbacks = fallbacks_of(self.catalog, fallbacks or {})
        self.tokenizer = tokenizer_of(tokenizer)
        self.store = store or MemoryStore()
        if isinstance(self.store, type) or not hasattr(self.store, "apply"):
            raise ConfigurationError("store must be a store, such as SQLiteStore(path)", param="store")
        self._rules, self._limit_outage = rules_of(rate_limits, providers), limit_outage
        self.backends = limited(
            backends_of(self.store, credentials, quota, ledger), self._rules, limit_store, outage=limit_outage
        )
        self.consumers = dict(consumers or {})
        self.ceilings = Ceilings(
            accounts or {}, checked_budgets(budgets, self.catalog), self.consumers, quota=self.backends.quota
        )
        self.error_format, self.quota_status = error_format, quota_status
        self.missing_usage = missing_usage
        self.orphan = orphan
        self.cost_in = cost_in
        self.journal = journal_of(journal, self.backends.quota)
        self.journal_slots = journal_slots_of(journal_slots)
        self.limits = limits or Limits()
        self.load = load_of(load)
        self.unhealthy = unhealthy
        self.auto: Auto | None = None
        if auto is not None:
            known = self.catalog, self.dialects, self.limits, self.consumers
            self.auto = Auto(auto, *known, unhealthy=unhealthy, resting=self._is_resting)
        self.sealer = sealer_of(self.backends.ledger, sealing)
        self.mover = self.backends.ledger.mover if isinstance(self.backends.ledger, Moved) else None
        self.observers = tuple(observers or ())
        # Both are checked here; that the store's own is not the previous one, when it is read.
        self._peppers = auth.check_peppers(pepper, previous_pepper) if pepper is not None else None
        if previous_pepper is not None:
            auth.check_pepper(previous_pepper, "keys.previous_pepper")
        self._previous_pepper = previous_pepper
        if pepper is None and not hasattr(self.backends.credentials, "pepper"):
            raise auth.no_pepper()
        declared_credentials(self.consumers, pepper or bytes(32))  # refused here, where a key is none
        self._declared: dict[bytes, Credential] | None = None
        self.keep_alive = keep_alive_of(keep_alive)
        self._idempotency = idempotency or Idempotency()
        check_keeping(self._idempotency)
        self._keeper: Keeper | None = None
        self._transports = dict(transports or {})
        self._client = client
        self._lock = threading.Lock()
        self._workers: WeakKeyDictionary[Any, Worker] = WeakKeyDictionary()
        self._at_hand: tuple[ref[Any], Worker] | None = None  # the one that was asked for last

    @property
    def peppers(self) -> auth.Peppers:
        """What digests are made with; the store's own pepper is read at first use."""
        if self._peppers is None:
            self._peppers = auth.check_peppers(self.backends.pepper(), self._previous_pepper)
        return self._peppers

    @property
    def pepper(self) -> bytes:
        """The current one."""
        return self.peppers.current

    @property
    def keeper(self) -> Keeper:
        """Answers that are given again."""
        if self._keeper is None:
            previous = [self.peppers.previous] if self.peppers.previous is not None else []
            self._keeper = Keeper(self._idempotency, self.peppers.current, *previous)
        return self._keeper

    def clamp_floor(self, consumer: Consumer) -> int | None:
        """To how many tokens of output a consumer's requests may be clamped; None where they are not."""
        declared = self.consumers.get(consumer.id)
        if declared is None or declared.clamp_floor is None:
            return self.limits.clamp_floor if self.limits.clamp else None
        return declared.clamp_floor or None

    @property
    def accounts(self) -> Accounts:
        """Keys and quotas; what changes here, the workers of every event loop go by at once."""
        return Accounts(
            self.backends.quota,
            self.backends.credentials,
            self.pepper,
            previous_pepper=self.peppers.previous,
            changed=self._forget_keys,
        )

    def worker(self, notice: Notice) -> Worker:
        """The worker of the event loop that asks; made at the first asking, and not started here."""
        loop = _running_loop()
        worker = self._workers.get(loop)
        if worker is None:
            with self._lock:
                if self._declared is None:
                    self._declared = declared_credentials(self.consumers, self.pepper)
                worker = self._workers[loop] = Worker.make(
                    self.backends,
                    pools.given(self.catalog.providers, self._transports),
                    pools.own(self.catalog.providers, self._transports, self._client, loop),
                    self._declared,
                    peppers=self.peppers,
                    swept=notice.swept,
                    slots=Slots(self.limits.drain_slots, self.limits.consumer_drain_slots),
                    health=Health(self.catalog.providers, alarm=notice.alarm, changed=notice.upstream_changed),
                    queue=Queue(self.load),
                    journal=Journal(self.journal, slots=self.journal_slots, alarm=notice.alarm),
                    limiter=self._limiter(notice),
                )
        self._at_hand = ref(loop), worker
        return worker

    def workers(self) -> list[Worker]:
        """Those of all event loops."""
        with self._lock:
            return list(self._workers.values())

    def _limiter(self, notice: Notice) -> Limiter | None:
        if self._rules is None or self.backends.limits is None:
            return None
        return Limiter(self.backends.limits, self._rules, outage=self._limit_outage, alarm=notice.alarm)

    def at_hand(self) -> Worker | None:
        """The same, if it is the one that was asked for last, and ready."""
        found = self._at_hand  # looked at once: another thread's event loop may put its own there meanwhile
        if found is None or not found[1].ready or found[0]() is not _running_loop():
            return None
        return found[1]

    async def start(self, worker: Worker) -> None:
        """
        Start a worker, once; what is slow is done here, so that no request waits for it.

        Raises:
            StoreError: A backend cannot be reached.
            ConfigurationError: A declared quota cannot be.
        """
        load = getattr(self.catalog.prices, "load", None)
        if load is not None and needs_prices(self.catalog):
            await anyio.to_thread.run_sync(load)
        read = getattr(self.catalog.capabilities, "load", None)
        if read is not None:
            await anyio.to_thread.run_sync(read, [each.prices or name for name, each in self.catalog.providers.items()])
        prepare = getattr(self.tokenizer, "load", None)
        if prepare is not None:
            await anyio.to_thread.run_sync(lambda: prepare(target.model_name for target in self.catalog.targets()))
        await worker.start(self.consumers, self.ceilings.groups)
        if worker.end is None:
            worker.end = self._until_the_loop_ends(worker)
            await anext(worker.end)

    async def give_up(self) -> None:
        """Close what a start that failed has opened, unless another event loop's worker uses it."""
        if not any(worker.ready for worker in self.workers()):
            await self.backends.aclose()

    async def move(self, notice: Notice) -> None:
        """Run the ledger's mover, where it has one, until this is cancelled."""
        if self.mover is not None:
            await self.mover.run(told=notice.not_moved)

    async def close(self, worker: Worker) -> None:
        """Close a worker, and the backends with the last one; what the ledger's mover has left is moved before."""
        if self.mover is not None:
            with anyio.move_on_after(CLOSE_S), suppress(Exception):  # whoever starts next moves the rest
                await self.mover.empty()
        if worker.end is not None:
            await worker.end.aclose()
        with self._lock:
            last = not self._workers
        if last:
            await self.backends.aclose()

    def _is_resting(self, model_id: str) -> bool:
        """Whether all upstreams of a model are left alone for now."""
        worker, target = self.at_hand(), self.catalog.find(model_id)
        return worker is not None and target is not None and worker.health.wait_s(target) > 0

    def _forget_keys(self) -> None:
        for worker in self.workers():
            worker.authenticator.forget()

    async def _until_the_loop_ends(self, worker: Worker) -> AsyncGenerator[None]:
        """
        Closes a worker's pools when it is closed itself: at the latest by the event loop, which closes every generator
        that is left at its end. A gateway that no lifespan has opened hears of the end in no other way.
        """
        try:
            yield
        finally:
            with self._lock:
                self._workers.pop(_running_loop(), None)
                self._at_hand = None
            await worker.aclose()


def _running_loop() -> Any:
    """What stands for the event loop that runs: asyncio's own, or trio's token."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return current_token().native_token
