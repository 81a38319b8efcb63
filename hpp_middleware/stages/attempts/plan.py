"""What the path decides before it acts: the call, its bound, the reserve, and in the end the report. All of it pure."""

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from hpp_middleware.core import bound, deadlines, prompt, relay, relay_json, sse
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.core.usage import MOST_TOKENS
from hpp_middleware.ports import Dialect, Tokenizer
from hpp_middleware.stages.attempts.job import Job
from hpp_middleware.stages.relay.exchange import Exchange
from hpp_middleware.types.auto import Routed
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.http import CostIn
from hpp_middleware.types.operations import Claim, Reserve
from hpp_middleware.types.provider import Limits, MissingUsage, OrphanPolicy
from hpp_middleware.types.quota import Attempt, Draft, Report
from hpp_middleware.types.streams import KeepAlive

if TYPE_CHECKING:
    from hpp_middleware.stages.attempts.carried import Carried

__all__ = ["Plan", "report"]

_NULL = msgspec.Raw(b"null")

HOLD_GRACE_S = 120.0
"""A hold's own deadline lies this far behind the exchange's, for settling."""


class Plan:
    """
    One request, ready to be held for.

    Args:
        request: What is asked.
        target: Where it goes.
        dialect: How it is said there.
        request_id: Its id, and the hold's.
        tokenizer: Counts the prompt; None leaves it to its bytes.
        routed: How its model was chosen, where the router did.
        lower: What the client asks of the deadlines.
        scope: What the hold is to be in; None for the payer's account alone.
        downgraded: The budget that had no room for the model that was to be asked before.
        clamp_floor: To how many tokens any cap may be lowered that is not afforded; None for none of the client's.

    Attributes:
        bound: How much it can come to.

    Raises:
        RequestError: The dialect cannot express it, or cannot price it.
    """

    def __init__(
        self,
        request: Request,
        target: Target,
        dialect: Dialect,
        *,
        request_id: str,
        limits: Limits,
        orphan: OrphanPolicy,
        tokenizer: Tokenizer | None = None,
        routed: Routed | None = None,
        lower: Deadlines | None = None,
        scope: Scope | None = None,
        downgraded: str | None = None,
        clamp_floor: int | None = None,
    ) -> None:
        self.request_id = request_id
        self.request = request
        self.target = target
        self.dialect = dialect
        self.lower = lower
        self.timeouts = deadlines.lowered(target.provider.timeouts, lower)
        self.scope = scope
        self._downgraded = downgraded
        self._limits = limits
        self._routed = routed
        ours = bound.own_cap(request, target, limits) if request.cap is None else None
        self._call = dialect.call(request, target, cap=ours, request_id=request_id)
        text = None
        if tokenizer is not None and (not hasattr(tokenizer, "knows") or tokenizer.knows(target.model_name)):
            text = prompt.text(request, target, self._call.body)
        self.bound = bound.bound(
            request,
            target,
            sent_bytes=len(self._call.body),
            limits=limits,
            more_tokens=self._call.more_tokens,
            least_cap=self._call.least_cap,
            long_cache=self._call.long_cache,
            orphan=orphan,
            counted=tokenizer.count(text, target.model_name) if tokenizer is not None and text is not None else None,
            clamp_floor=clamp_floor,
        )

    @property
    def dropped(self) -> tuple[str, ...]:
        """Fields of the client's that the provider is not told."""
        return tuple(self._call.dropped)

    @property
    def prompt_estimate(self) -> int:
        """Tokens of the prompt, estimated."""
        return self.bound.prompt_estimate

    def lapse(self, job: Job, waited_s: float, *, flowing: bool) -> End:
        """
        How it counts that a deadline ran out after sending: the client's own is its departure.

        Args:
            job: The call.
            waited_s: How long it took.
            flowing: Whether the answer had begun.
        """
        own, total = self.target.provider.timeouts, job.timeouts.total
        its = deadlines.is_clients(own, self.lower, total=total, flowing=flowing, waited_s=waited_s)
        return End.LAPSED if its else End.DEADLINE

    def usage_in(self, body: bytes) -> Seen:
        """What a body of the provider's that is no answer says of usage."""
        read = getattr(self.dialect, "usage_in", None) or relay_json.usage_in
        found: Seen = read(body)
        return found if found.usage is not None or not sse.has_event(body) else self._streamed(body)

    def _streamed(self, body: bytes) -> Seen:
        """The same of a stream in the place of an answer in one piece: some servers know nothing else."""
        most, found = self._limits.event_bytes, Seen()
        with suppress(relay.ProtocolError, relay.StreamedError, NotImplementedError):  # media have no streams
            reader = self.dialect.stream(self.request, self.target, event_bytes=most, cap=MOST_TOKENS)
            try:
                reader.feed(body)
                reader.close()
            finally:
                found = reader.seen
        return found if found.usage is not None else Seen()

    def reserve(
        self,
        consumer: Consumer,
        owner: str,
        *,
        client_request_id: str | None,
        claim: Claim | None = None,
        more_s: float = 0.0,
    ) -> Reserve:
        """The operation that places the hold, which outlasts the exchange, and ``more_s`` for another one."""
        scope, found = self.scope, self.bound
        return Reserve(
            id=self.request_id,
            accounts=scope.accounts if scope is not None else (consumer.account,),
            want=found.want,
            floor=found.floor,
            owner=owner,
            ttl_s=self.timeouts.total + more_s + HOLD_GRACE_S,
            orphan_amount=found.orphan_amount,
            claim=claim,
            limits=scope.limits if scope is not None else (),
            rest=found.clamped,
            draft=Draft(
                consumer=consumer.id,
                model=self.target.id,
                requested_model=self.request.model,
                price=self.target.price,
                key_id=consumer.key_id,
                client_request_id=client_request_id,
                stream=self.request.stream,
                estimator_version=found.estimator_version,
                policy=self._routed.version if self._routed is not None else None,
                routed=self._routed,
                also=scope.accounts[1:] if scope is not None else (),
                downgraded=self._downgraded,
            ),
        )

    def draft(self, first: Draft) -> Draft:
        """The entry to be of this call, of the request whose first call has one."""
        return msgspec.structs.replace(
            first,
            model=self.target.id,
            price=self.target.price,
            estimator_version=self.bound.estimator_version,
            also=self.scope.accounts[1:] if self.scope is not None else (),
        )

    def job(
        self,
        account: str,
        hold: int,
        *,
        missing_usage: MissingUsage,
        cost_in: CostIn = "header",
        keyed: bool = False,
        before: Settlement | None = None,
        keep_alive: KeepAlive | None = None,
        attempts: int = 0,
    ) -> Job:
        """
        What is sent under this hold: a lower grant lowers the cap.

        Raises:
            RequestError: The request cannot be told with so low a cap, as where it asks for more thought than that.
        """
        found = self.bound
        alone = hold if before is None else hold - before.amount
        cap = bound.cap_within(found, alone) if found.ours or found.clamped else found.cap
        request, call, clamped = self.request, self._call, False
        if cap < found.cap:
            clamped = found.clamped
            ours: int | None = cap
            if request.cap is not None:
                request, ours = bound.lowered(request, cap), None
            call = self.dialect.call(request, self.target, cap=ours, request_id=self.request_id)
        return Job(
            id=self.request_id,
            account=account,
            request=request,
            target=self.target,
            call=call,
            bound=found,
            hold=hold,
            cap=cap,
            limits=self._limits,
            timeouts=self.timeouts,
            missing_usage=missing_usage,
            cost_in=cost_in,
            keyed=keyed,
            routed=self._routed,
            before=before,
            clamped=clamped,
            downgraded=self._downgraded is not None,
            keep_alive=keep_alive,
            attempts=attempts,
        )


def report(carried: "Carried", settlement: Settlement) -> Report:
    """The other half of the ledger entry."""
    *before, last = carried.exchanges
    priced, seen = carried.priced, last.seen
    raw = seen.usage_raw
    attempts: tuple[Attempt, ...] = (_attempt(last, seen, settlement, priced=priced),)
    if before:
        attempts = (*(_attempt(each, each.seen, each.settlement(), priced=priced) for each in before), *attempts)
    return Report(
        outcome=settlement.outcome or "failed",
        estimated=settlement.estimated,
        usage=settlement.usage,
        usage_raw=raw if raw is not None and memoryview(raw).nbytes <= MOST_RAW_BYTES else _NULL,
        attempts=attempts,
        spared=_spared(carried, settlement) if before else (),
    )


def _spared(carried: "Carried", whole: Settlement) -> tuple[tuple[str, int], ...]:
    """By how much less than the whole each budget of only some of the calls is charged: by what the others came to."""
    parts: dict[str, int] = {}
    for each in carried.exchanges:
        cost = _own(each, whole if each is carried.last else each.settlement())
        scope = each.planned.scope
        for account in scope.accounts[1:] if scope is not None else ():
            parts[account] = parts.get(account, 0) + cost
    return tuple((account, whole.amount - part) for account, part in parts.items() if part < whole.amount)


def _own(exchange: Exchange, charged: Settlement) -> int:
    """What one call alone is charged."""
    before = exchange.job.before
    return charged.amount if before is None else charged.amount - before.amount


def _attempt(exchange: Exchange, seen: Seen, charged: Settlement, *, priced: bool) -> Attempt:
    """One call; one of several has its own price, and what it alone has come to."""
    target, error = exchange.job.target, exchange.error
    return Attempt(
        provider=target.provider_name,
        model=target.model_name,
        status=exchange.status,
        upstream_id=seen.upstream_id,
        error=error.code if error is not None else None,
        usage=seen.usage,
        cost=_own(exchange, charged),
        price=target.price if priced else None,
        upstream=target.upstream,
    )


MOST_RAW_BYTES = 4096
"""A usage object larger than this is no usage object; the ledger keeps the normalised tokens alone."""
