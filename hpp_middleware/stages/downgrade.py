"""
Which model is asked instead where a budget has no room for the one that was asked for.

Every gate is passed again: the key's allow-list, what the model can do, its price, and a hold of its own.
"""

import msgspec

from hpp_middleware.core import auth
from hpp_middleware.core.auto import facts, filters
from hpp_middleware.core.ceilings import OverBudget
from hpp_middleware.errors import RequestError, UpstreamError
from hpp_middleware.ports import API
from hpp_middleware.stages.auto import Chosen
from hpp_middleware.stages.lineup import Lineup
from hpp_middleware.stages.setup import Setup
from hpp_middleware.types.completion import Request
from hpp_middleware.types.consumer import Consumer

__all__ = ["instead"]

_CHATS = frozenset({"chat", "messages", "responses"})


def instead(over: OverBudget, lineup: Lineup) -> Chosen:
    """
    Where the request goes now.

    Args:
        over: The refusal, which names the model.
        lineup: Whom it was to be asked of.
    Raises:
        RequestError: 429: what the budget said, since that model cannot be asked, or was.
    """
    setup, api, consumer, before = lineup.setup, lineup.api, lineup.consumer, lineup.chosen
    target = setup.catalog.find(over.model)
    tried = (*before.tried, before.target.id)
    if target is None or target.id in tried or not auth.allows(consumer, target.id):
        raise over
    if api.name in _CHATS and not _is_able(setup, lineup.request, consumer, api, target.id):
        raise over
    found = msgspec.structs.replace(
        before, target=target, tried=tried, downgraded=over.budget, escalation=None, shadow=None, then=()
    )
    try:
        lineup.otherwise(found).first()
    except (RequestError, UpstreamError):  # the client has not named that model, and is not to hear of it
        raise over from None
    return found


def _is_able(setup: Setup, request: Request, consumer: Consumer, api: API, model: str) -> bool:
    """Whether a model can do what a chat asks, as far as it is known; what cannot be read of it is the provider's."""
    try:
        chat = request if api.name == "chat" else api.as_chat(request, setup.limits)
    except RequestError:
        return True
    found = filters.candidate(
        model,
        facts.asked(chat, requires=frozenset(), stream=request.stream),
        request,
        consumer,
        setup.catalog.find(model),
        limits=setup.limits,
    )
    return not found.why_not
