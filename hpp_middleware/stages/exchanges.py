"""Which exchange carries out a request: one with a model, or a cascade of two."""

from hpp_middleware.errors import RequestError
from hpp_middleware.ports import Client, Transport
from hpp_middleware.stages.cascade import Cascade, Second
from hpp_middleware.stages.plan import Plan
from hpp_middleware.stages.relay import Exchange
from hpp_middleware.stages.replay import Keyed
from hpp_middleware.stages.setup import Setup
from hpp_middleware.stages.worker import Worker
from hpp_middleware.types.completion import Target
from hpp_middleware.types.operations import Reserve

__all__ = ["exchange"]


def exchange(
    setup: Setup,
    worker: Worker,
    planned: Plan,
    operation: Reserve,
    client: Client,
    *,
    transport: Transport | None = None,
    keyed: Keyed,
    escalation: Target | None = None,
) -> Exchange | Cascade:
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
        escalation: Whom to ask where the answer is found wanting.
    """
    target = planned.target
    transport = transport or worker.transports[target.provider_name]
    second = (
        _second(setup, worker, planned, operation, keyed=keyed, target=escalation) if escalation is not None else None
    )
    if second is None:
        return Exchange(
            target,
            planned.dialect,
            transport,
            client,
            pending=worker.pending,
            slots=worker.slots,
            record=keyed.record,
        )
    return Cascade(
        target,
        planned.dialect,
        transport,
        client,
        pending=worker.pending,
        slots=worker.slots,
        record=keyed.record,
        second=second,
        draft=operation.draft,
    )


def _second(
    setup: Setup, worker: Worker, planned: Plan, operation: Reserve, *, keyed: Keyed, target: Target
) -> Second | None:
    """The stronger model's part; None where it cannot be told all of the request."""
    dialect = setup.dialects[target.provider.dialect]
    try:
        again = Plan(
            planned.request,
            target,
            dialect,
            request_id=operation.id,
            limits=setup.limits,
            orphan=setup.orphan,
            tokenizer=setup.tokenizer,
            routed=operation.draft.routed,
            lower=planned.lower,
        )
    except RequestError:
        return None
    alone = again.operation(operation)
    return Second(
        target=target,
        dialect=dialect,
        transport=worker.transports[target.provider_name],
        operation=alone,
        within_s=planned.lower.total if planned.lower is not None else None,
        job=lambda hold, before: again.job(
            operation.accounts[0],
            hold,
            missing_usage=setup.missing_usage,
            cost_in=setup.cost_in,
            keyed=keyed.claim is not None,
            before=before,
        ),
    )
