"""One more call for a request whose hold is there: what it is, and what would be held for it alone."""

from functools import cached_property

from hpp_middleware.core.settlement import Settlement
from hpp_middleware.ports import Transport
from hpp_middleware.stages.job import Job
from hpp_middleware.stages.plan import Plan
from hpp_middleware.stages.replay import Keyed
from hpp_middleware.stages.setup import Setup
from hpp_middleware.types.operations import Reserve

__all__ = ["Further"]


class Further:
    """
    A model, should it be asked.

    Args:
        setup: The gateway's.
        planned: The call.
        first: What was reserved for the request's first call.
        transport: How to reach it.
        keyed: The request's own key.

    Attributes:
        target: The model.
        dialect: What its provider speaks.
        transport: How to reach it.
        bound: How much it can come to.
        scope: What that would be in.
        within_s: How long all calls may take, where the client says so.
    """

    def __init__(self, setup: Setup, planned: Plan, first: Reserve, transport: Transport, *, keyed: Keyed) -> None:
        self.target = planned.target
        self.dialect = planned.dialect
        self.transport = transport
        self.bound = planned.bound
        self.scope = planned.scope
        self.within_s = planned.lower.total if planned.lower is not None else None
        self._setup = setup
        self._planned = planned
        self._reserved = first
        self._keyed = keyed

    @cached_property
    def operation(self) -> Reserve:
        """What would be reserved for it alone; made where it is needed only, since most requests need one call."""
        return self._planned.operation(self._reserved)

    def job(self, hold: int, before: Settlement | None) -> Job:
        """What to do, under a hold, after what the calls before it were charged."""
        return self._planned.job(
            self._reserved.accounts[0],
            hold,
            missing_usage=self._setup.missing_usage,
            cost_in=self._setup.cost_in,
            keyed=self._keyed.claim is not None,
            before=before,
            keep_alive=self._setup.keep_alive,
        )
