"""What carries out a request: a chain of attempts, or a cascade."""

from hpp_middleware.core.auto import agree
from hpp_middleware.ports import Client, Transport
from hpp_middleware.stages.carried import Carried
from hpp_middleware.stages.cascade import Cascade
from hpp_middleware.stages.chain import Chain
from hpp_middleware.stages.limits import Admission
from hpp_middleware.stages.lineup import Lineup
from hpp_middleware.stages.means import Means
from hpp_middleware.stages.plan import Plan
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
    lineup: Lineup,
    transport: Transport | None,
    keyed: Keyed,
    admission: Admission | None,
    escalation: Target | None = None,
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
        lineup: Whom to ask where it fails.
        transport: What to send by, instead of the provider's own.
        keyed: The request's own key.
        admission: Takes what other models' own limits ask; None where nothing is limited.
        escalation: Whom to ask where the answer is found wanting.
        samples: How often the first is asked before it is believed, where there is an ``escalation``.
    """
    means = Means(setup, worker, client, keyed, transport, admission)
    second = lineup.second(escalation) if escalation is not None else None
    if second is None:
        return Chain(means, planned, operation, lineup)
    twice = samples > 1 and agree.can_differ(lineup.request)
    return Cascade(means, planned, operation, asked=lineup.request, second=second, twice=twice)
