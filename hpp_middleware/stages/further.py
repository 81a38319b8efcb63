"""One more call for a request whose hold is there: what it is, and what would be held for it alone."""

from collections.abc import Callable

import msgspec

from hpp_middleware.core.bound import Bound
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.ports import Dialect, Transport
from hpp_middleware.stages.job import Job
from hpp_middleware.stages.plan import Plan
from hpp_middleware.stages.replay import Keyed
from hpp_middleware.stages.setup import Setup
from hpp_middleware.types.completion import Target
from hpp_middleware.types.operations import Reserve

__all__ = ["Further", "further"]


class Further(msgspec.Struct, frozen=True, kw_only=True):
    """
    A model, should it be asked.

    Attributes:
        target: The model.
        dialect: What its provider speaks.
        transport: How to reach it.
        operation: What would be reserved for it alone.
        bound: How much it can come to.
        scope: What that would be in.
        job: What to do, under a hold, after what the calls before it were charged.
        within_s: How long all calls may take, where the client says so.
    """

    target: Target
    dialect: Dialect
    transport: Transport
    operation: Reserve
    bound: Bound
    job: Callable[[int, Settlement | None], Job]
    within_s: float | None = None
    scope: Scope | None = None


def further(setup: Setup, planned: Plan, operation: Reserve, transport: Transport, *, keyed: Keyed) -> Further:
    """
    The call of a plan, for a request that has a hold already.

    Args:
        setup: The gateway's.
        planned: The call.
        operation: What was reserved for the request's first call.
        transport: How to reach it.
        keyed: The request's own key.
    """
    return Further(
        target=planned.target,
        dialect=planned.dialect,
        transport=transport,
        operation=planned.operation(operation),
        bound=planned.bound,
        scope=planned.scope,
        within_s=planned.lower.total if planned.lower is not None else None,
        job=lambda hold, before: planned.job(
            operation.accounts[0],
            hold,
            missing_usage=setup.missing_usage,
            cost_in=setup.cost_in,
            keyed=keyed.claim is not None,
            before=before,
            keep_alive=setup.keep_alive,
        ),
    )
