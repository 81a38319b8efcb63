"""Whether a request is carried out by a chain of attempts, or by a cascade."""

from hpp_middleware.core.auto import agree
from hpp_middleware.stages.attempts.carried import Carried
from hpp_middleware.stages.attempts.cascade import Cascade
from hpp_middleware.stages.attempts.chain import Chain
from hpp_middleware.stages.attempts.means import Means
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stages.route.lineup import Lineup
from hpp_middleware.types.operations import Reserve

__all__ = ["carried"]


def carried(means: Means, planned: Plan, operation: Reserve, lineup: Lineup) -> Carried:
    """
    What carries out a request, not begun yet.

    Args:
        means: What it is carried out with.
        planned: The request.
        operation: What is reserved for it.
        lineup: Whom to ask where it fails, and who is chosen for an answer that is found wanting.
    """
    chosen = lineup.chosen
    if chosen.escalation is not None and planned.target.id == chosen.target.id:
        second = lineup.second(chosen.escalation)
        if second is not None:
            twice = chosen.samples > 1 and agree.can_differ(lineup.request)
            return Cascade(means, planned, operation, asked=lineup.request, second=second, twice=twice)
    return Chain(means, planned, operation, lineup)
