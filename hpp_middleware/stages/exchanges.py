"""Which exchange carries out a request: one with a model, a chain of attempts, or a cascade."""

from hpp_middleware.core.auto import agree
from hpp_middleware.errors import RequestError
from hpp_middleware.ports import Client, Transport
from hpp_middleware.stages.cascade import Cascade
from hpp_middleware.stages.chain import Chain
from hpp_middleware.stages.further import Further
from hpp_middleware.stages.limits import Admission
from hpp_middleware.stages.lineup import Lineup
from hpp_middleware.stages.plan import Plan
from hpp_middleware.stages.relay import Exchange
from hpp_middleware.stages.replay import Keyed
from hpp_middleware.stages.setup import Setup
from hpp_middleware.stages.worker import Worker
from hpp_middleware.types.completion import Target
from hpp_middleware.types.operations import Reserve

__all__ = ["Carried", "exchange"]

Carried = Exchange | Chain | Cascade
"""What carries out a request."""


def exchange(
    setup: Setup,
    worker: Worker,
    planned: Plan,
    operation: Reserve,
    client: Client,
    *,
    transport: Transport | None = None,
    keyed: Keyed,
    lineup: Lineup,
    escalation: Target | None = None,
    admission: Admission | None = None,
    samples: int = 1,
) -> Carried:
    """
    What carries out a request.

    Args:
        setup: The gateway's.
        worker: This event loop's.
        planned: The request.
        operation: What is reserved for it.
        client: Where the answer goes.
        transport: What to send by, instead of the provider's own.
        keyed: The request's own key.
        lineup: Whom to ask where it fails.
        escalation: Whom to ask where the answer is found wanting.
        admission: Takes what other models' own limits ask.
        samples: How often the first is asked before it is believed, where there is an ``escalation``.
    """
    target = planned.target
    health = worker.health if transport is None else None  # of a host's app that is called in process there is none

    def sent_by(target: Target) -> Transport:
        return transport or worker.transports[target.key]

    second = _second(setup, worker, operation, keyed=keyed, lineup=lineup, target=escalation) if escalation else None
    if second is not None:
        twice = samples > 1 and agree.can_differ(lineup.request)
        return Cascade(
            target,
            planned.dialect,
            sent_by(target),
            client,
            pending=worker.pending,
            slots=worker.slots,
            record=keyed.record,
            health=health,
            asked=lineup.request,
            second=second,
            again=Further(setup, planned, operation, sent_by(target), keyed=keyed) if twice else None,
            draft=operation.draft,
            scope=planned.scope,
            admission=admission,
        )
    if lineup.has_others or (target.provider.retries and transport is None):
        first = Further(setup, planned, operation, sent_by(target), keyed=keyed)
        others = (Further(setup, each, operation, sent_by(each.target), keyed=keyed) for each in lineup.others())
        return Chain(first, others, client, worker=worker, record=keyed.record, health=health, admission=admission)
    return Exchange(
        target,
        planned.dialect,
        sent_by(target),
        client,
        pending=worker.pending,
        slots=worker.slots,
        record=keyed.record,
        health=health,
    )


def _second(
    setup: Setup, worker: Worker, operation: Reserve, *, keyed: Keyed, lineup: Lineup, target: Target
) -> Further | None:
    """The stronger model's part; None where it cannot be told all of the request."""
    try:
        planned = lineup.plan(target)
    except RequestError:
        return None
    return Further(setup, planned, operation, worker.transports[target.key], keyed=keyed)
