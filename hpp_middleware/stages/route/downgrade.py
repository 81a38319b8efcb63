"""
Which model is asked instead where a budget has no room for the one that was asked for.

Every gate is passed again: the key's allow-list, what the model can do, its price, and a hold of its own.
"""

import msgspec

from hpp_middleware.core.ceilings import OverBudget
from hpp_middleware.errors import RequestError, UpstreamError
from hpp_middleware.stages.route.lineup import Lineup

__all__ = ["Downgraded", "instead"]


class Downgraded(OverBudget):
    """
    The model that is to be asked instead has passed every gate.

    Attributes:
        lineup: Its line-up.
    """

    def __init__(self, over: OverBudget, lineup: Lineup) -> None:
        super().__init__(over, over.model, over.budget)
        self.lineup = lineup


def instead(over: OverBudget, lineup: Lineup) -> Downgraded:
    """
    Whom the request is asked of now, to be raised.

    Args:
        over: The refusal, which names the model.
        lineup: Whom it was to be asked of.
    Raises:
        RequestError: 429: what the budget said, since that model cannot be asked, or was.
    """
    before = lineup.chosen
    target = lineup.setup.catalog.find(over.model)
    tried = (*before.tried, before.target.id)
    if target is None or target.id in tried:
        raise over
    found = msgspec.structs.replace(
        before, target=target, tried=tried, downgraded=over.budget, escalation=None, shadow=None, then=()
    )
    try:
        lineup.check(target)
        lineup.otherwise(found).first()
    except (RequestError, UpstreamError):  # the client has not named that model, and is not to hear of it
        raise over from None
    return Downgraded(over, lineup.otherwise(found))
