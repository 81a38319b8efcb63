"""
The path: auth, parse, route, reserve, upstream, relay, settle. Read :meth:`Gateway.answer`.

Nothing here knows a web framework; :mod:`hpp_middleware.asgi` gives it its HTTP face. A gateway is an object: no module
state, no work at import, and two gateways in one process share nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Unpack

import msgspec

from hpp_middleware.accounts import Accounts
from hpp_middleware.apis.chat import CHAT
from hpp_middleware.core import ceilings, names
from hpp_middleware.core.ceilings import OverBudget, Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import RequestError
from hpp_middleware.ports import API, Client, Transport
from hpp_middleware.stages.attempts import choose, plan
from hpp_middleware.stages.attempts.carried import Carried
from hpp_middleware.stages.attempts.means import Means
from hpp_middleware.stages.limits.admission import Admission
from hpp_middleware.stages.relay.caller import Caller
from hpp_middleware.stages.reserve import holds
from hpp_middleware.stages.route import auto, downgrade
from hpp_middleware.stages.route.lineup import Lineup
from hpp_middleware.stages.settle import replay, settling
from hpp_middleware.stages.settle.journal import Journal
from hpp_middleware.stages.setup.settings import GatewaySettings, check_kinds
from hpp_middleware.stages.setup.setup import Setup
from hpp_middleware.stages.tasks import apart
from hpp_middleware.stages.worker.lifecycle import Lifecycle
from hpp_middleware.stages.worker.worker import Worker, new_id
from hpp_middleware.types.auto import Hints
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.events import Replayed
from hpp_middleware.types.http import Reply
from hpp_middleware.types.operations import Reserve, Result
from hpp_middleware.types.quota import Balance, Entry

__all__ = ["Gateway"]


class Gateway(Lifecycle):
    """
    A complete LLM gateway, without HTTP.

    Open it with ``async with gateway:``, or by the host's lifespan; without either, the first request starts it.

    Args:
        settings: See :class:`hpp_middleware.stages.setup.setup.Setup`.
    Raises:
        ConfigurationError: A setting is wrong.
    """

    def __init__(self, **settings: Unpack[GatewaySettings]) -> None:
        check_kinds(settings)
        super().__init__(Setup(**settings))
        self.catalog = self.setup.catalog
        self.limits = self.setup.limits
        self.store = self.setup.store

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]], worker: Worker | None = None) -> Awaitable[Consumer]:
        """
        Who a request's headers name.

        Args:
            headers: Raw ASGI headers, names in lower case.
            worker: This event loop's, where it is known.
        Raises:
            RequestError: 401.
            StoreError: 503: it cannot be known.
        """
        worker = worker or self.setup.at_hand()
        return worker.authenticator.consumer(headers) if worker is not None else self._authenticated(headers)

    async def _authenticated(self, headers: Iterable[tuple[bytes, bytes]]) -> Consumer:
        return await (await self.worker()).authenticator.consumer(headers)

    async def answer(
        self,
        consumer: Consumer,
        body: bytes,
        client: Client,
        *,
        request_id: str,
        client_request_id: str | None = None,
        idempotency_key: str | None = None,
        host_left: End = End.LEFT,
        worker: Worker | None = None,
        api: API = CHAT,
        within: str | None = None,
        transport: Transport | None = None,
        hints: Hints | None = None,
        timeouts: Deadlines | None = None,
    ) -> Settlement:
        """
        One completion, from parsed to settled, for a consumer that has been authenticated.

        Args:
            consumer: Who is charged.
            body: The JSON body.
            client: Where the answer goes; told everything but an error before the first byte, which is raised.
            request_id: The ledger entry's id; see :func:`hpp_middleware.stages.worker.worker.new_id`.
            client_request_id: The client's own id, kept in the ledger.
            idempotency_key: The client's ``Idempotency-Key``: the request is run and charged once under it.
            host_left: What it counts as that the host cancels this call.
            worker: This event loop's, where it is known.
            api: What the client speaks.
            within: A provider: the request names its model without it, and so does the answer.
            transport: What to send by, instead of the provider's own.
            hints: What the client says beside its body, for ``hpprouter/auto``.
            timeouts: Deadlines lower than the provider's.
        Raises:
            RequestError: The caller can fix it; nothing was held. 409: the key is in use.
            UpstreamError: The provider failed; it is settled. 503 ``upstream_unavailable``: it is left alone for now.
            StoreError: The quota cannot be verified; nothing was forwarded.
        """
        names.check_consumer(consumer)
        if worker is None or not worker.ready:
            worker = self.setup.at_hand() or await self.worker()
        request = api.request(body, self.limits)  # parse, and then route
        anyway = idempotency_key is not None
        chosen = auto.resolve(
            self.setup.auto, self.catalog, request, consumer, api, within=within, hints=hints, anyway=anyway
        )
        lineup = Lineup(
            self.setup,
            api,
            request,
            consumer,
            chosen,
            health=worker.health,
            request_id=request_id,
            within=within,
            hints=hints,
            lower=timeouts,
            anyway=anyway,
        )
        while True:
            try:
                return await self._served(
                    lineup,
                    client,
                    worker,
                    request_id=request_id,
                    client_request_id=client_request_id,
                    idempotency_key=idempotency_key,
                    body=body,
                    host_left=host_left,
                    transport=transport,
                    may_downgrade=within is None and transport is None,
                )
            except downgrade.Downgraded as cheaper:
                lineup = cheaper.lineup

    async def _served(
        self,
        lineup: Lineup,
        client: Client,
        worker: Worker,
        *,
        request_id: str,
        client_request_id: str | None,
        idempotency_key: str | None,
        body: bytes,
        host_left: End,
        transport: Transport | None,
        may_downgrade: bool,
    ) -> Settlement:
        """
        One completion by whoever is lined up for it, from reserved to settled.

        Raises:
            Downgraded: A cheaper model is to be asked instead; nothing was held.
        """
        consumer, chosen, api = lineup.consumer, lineup.chosen, lineup.api.name
        planned = lineup.first()
        keyed = replay.KEYLESS
        if idempotency_key is not None:
            keyed = await replay.keyed(self.setup, worker, consumer, idempotency_key, body, api=api)
        if chosen.shadow is not None:
            self.notice.shadowed(chosen.shadow(request_id))
        operation = planned.reserve(
            consumer,
            worker.lease.owner,
            client_request_id=client_request_id,
            claim=keyed.claim,
            more_s=chosen.more_s if chosen.escalation is not None else 0.0,
        )
        if not worker.has_room():
            await worker.admit()
        admission = None
        if worker.limiter is not None:
            client = admission = Admission(
                worker.limiter, consumer, planned.target.id, planned.bound, client, request_id=request_id, api=api
            )
        means = Means(self.setup, worker, client, keyed, transport, admission)
        carried = choose.carried(means, planned, operation, lineup)
        others = lineup if may_downgrade else None
        if admission is None:
            work = self._carry_out(means, planned.scope, operation, carried, host_left=host_left, others=others)
        else:
            carry_out = partial(
                self._carry_out, means, planned.scope, operation, carried, host_left=host_left, others=others
            )
            work = admission.around(carried, carry_out)
        settlement = await apart.run(
            work,
            loop=worker.loop,
            hear=carried.hear,
            gone=carried.gone,
            dismissed=carried.dismiss,
            upkeep=None if worker.timed else worker.keep,
        )
        if isinstance(settlement, Result):
            again = await keyed.give_again(settlement, client)
            self.notice.replayed(Replayed(request_id=settlement.hold, consumer=consumer.id, model=planned.target.id))
            return again
        if not client.started and (error := carried.error) is not None:
            error.headers.update(carried.job.headers(cost=settlement.amount))
            raise error
        return settlement

    async def _carry_out(
        self,
        means: Means,
        scope: Scope | None,
        operation: Reserve,
        carried: Carried,
        *,
        host_left: End,
        others: Lineup | None,
    ) -> Settlement | Result:
        """
        Reserve, upstream, relay and settle: what is begun here is ended, whoever leaves meanwhile.

        Returns:
            What was charged; or what the store says of a request that was answered before, under the same key.
        """
        worker = means.worker
        worker.answering.began(carried)
        try:
            try:
                placed = await holds.place(worker.lease, operation, scope)  # reserve
            except OverBudget as over:  # nothing is held
                if others is None:
                    raise
                raise downgrade.instead(over, others) from None
            if placed.status == "finished":
                return placed
            try:
                carried.under(placed.amount)
            except RequestError as error:  # it cannot do with so little output
                await holds.give_back(worker.lease, operation.id)
                raise ceilings.refusal("", None) from error
            if carried.job.request.stream and self.setup.orphan == "estimate":
                worker.lease.watch(operation.id, carried.so_far, operation.orphan_amount)
            try:
                await carried.run(worker.lease, worker.loop)  # upstream, relay
                if carried.job.request.stream:
                    await worker.answering.give_way(worker.loop)
            finally:
                settlement = await self._settle(means, operation.id, carried, host_left)
        finally:
            worker.answering.ended(carried)
        return settlement

    async def _settle(self, means: Means, request_id: str, carried: Carried, host_left: End) -> Settlement:
        """Swap the hold for what the request came to."""
        worker, keyed = means.worker, means.keyed
        if carried.job.request.stream:
            worker.lease.unwatch(request_id)
        try:
            settlement = carried.settlement(host_left=host_left)
            result = await settling.settle(  # settle
                worker.lease,
                request_id,
                settlement,
                plan.report(carried, settlement),
                account=carried.job.account,
                alarm=self.notice.alarm,
                kept=keyed.kept(carried.answer, request_id) if keyed.claim is not None else None,
                amends=carried.amends,
            )
        finally:
            carried.ending.settled()
        self.notice.settled(request_id, carried, settlement, result)
        return settlement

    async def complete(
        self,
        consumer: Consumer,
        body: bytes | Mapping[str, Any],
        *,
        send: Callable[[bytes], Awaitable[None]] | None = None,
        client_request_id: str | None = None,
        idempotency_key: str | None = None,
        api: API = CHAT,
        timeouts: Deadlines | None = None,
    ) -> Reply:
        """
        One completion without HTTP, for a host's own code. Cancelling it closes the upstream and settles.

        Args:
            consumer: Who is charged; the host has authenticated it.
            body: The request, as JSON bytes or as a mapping.
            send: Called with each piece of the answer as it arrives: SSE where ``stream`` is true.
            client_request_id: The host's own id, kept in the ledger.
            idempotency_key: Run and charge it once under this key; asked again, the answer is given again.
            api: What ``body`` and the answer are written in.
            timeouts: Deadlines lower than the provider's; a higher one changes nothing.
        Raises:
            RequestError: The caller can fix it; nothing was held.
            OverloadedError: This worker has too much to do; nothing was held.
            UpstreamError: The provider failed before the answer began; it is settled.
            StoreError: The quota cannot be verified; nothing was forwarded.
        """
        names.check_given(consumer, client_request_id)
        client, request_id = Caller(send), new_id()
        with await self.here().queue.place(consumer.id, timeouts):
            settlement = await self.answer(
                consumer,
                body if isinstance(body, bytes) else msgspec.json.encode(body),
                client,
                request_id=request_id,
                client_request_id=client_request_id,
                idempotency_key=idempotency_key,
                host_left=End.DEADLINE,
                api=api,
                timeouts=timeouts,
            )
        return client.reply(request_id, settlement)

    async def balance(self, consumer: Consumer) -> Balance:
        """
        A consumer's account, read fresh, with its requests that this worker has answered counted.

        Raises:
            StoreError: It cannot be read.
        """
        if not names.can_pay(consumer.account):
            return Balance(account=consumer.account)
        worker = await self.worker()
        await worker.pending.wait(consumer.account, self.limits.read_wait_s)
        await holds.verified(worker.lease.catch_up(consumer.account))
        found = await holds.verified(worker.backends.quota.balance(consumer.account))
        if found.account != consumer.account:
            raise holds.unavailable()
        return found

    async def entries(self, consumer: Consumer, request_id: str) -> list[Entry]:
        """
        The ledger lines of one of a consumer's own requests; none for anybody else's.

        Raises:
            RequestError: 404: there is none.
            StoreError: It cannot be read.
        """
        if not (names.can_be_kept(request_id) and names.can_pay(consumer.account)):
            raise RequestError("There is no such entry.", status=404, code="not_found")
        worker = await self.worker()
        await worker.pending.wait(consumer.account, self.limits.read_wait_s)
        await holds.verified(worker.lease.catch_up(consumer.account))
        found = await holds.verified(worker.backends.ledger.entries(consumer.account, request_id))
        if any((entry.account, entry.hold) != (consumer.account, request_id) for entry in found):
            raise holds.unavailable()
        if not any(entry.draft.consumer == consumer.id for entry in found):
            raise RequestError("There is no such entry.", status=404, code="not_found")
        return found

    async def ready(self) -> None:
        """
        Whether credentials, accounts and ledger can be read, and what they do not take can be kept.

        Raises:
            JournalError: The settlement journal is full, or cannot be written.
            StoreError: One of the stores cannot be read.
        """
        nobody = Consumer(id="readyz")
        worker = await self.worker()
        await self.balance(nobody)
        await holds.verified(worker.backends.credentials.find(bytes(32)))
        await holds.verified(worker.backends.ledger.lines(nobody.account, most=1))
        self.journal.check()

    @property
    def journal(self) -> Journal:
        """What this event loop's worker owes to the store."""
        return self.setup.worker(self.notice).lease.journal

    @property
    def accounts(self) -> Accounts:
        """Keys and quotas; the gateway must be open."""
        return self.setup.accounts
