"""What limits have of a consumer, read from the store that counts them, beside what its ledger says."""

from typing import NamedTuple

from rig import ALICE, MODEL

from hpp_middleware import Gateway
from hpp_middleware.core.limits import Rules
from hpp_middleware.ports import LimitStore
from hpp_middleware.types.limits import Ask, Draw, RateLimit, Slot

__all__ = ["LIMIT", "Taken", "none_is_live", "taken", "tokens_of"]

LIMIT = RateLimit(requests_per_day=10**6, tokens_per_day=10**8, concurrency=1)
_PROBE = "the test itself"


class Taken(NamedTuple):
    """So many requests and tokens were drawn, and so many places are taken, of Alice's."""

    requests: int
    tokens: int
    places: int


async def taken(store: LimitStore, limit: RateLimit = LIMIT) -> Taken:
    """What was taken under one limit, by a clock that stands still; nothing is drawn for the question."""
    asked = Rules([limit], {"fake"}).asked(ALICE, MODEL, tokens=0, holder=_PROBE)
    assert asked is not None
    draws = tuple(Draw(draw.key, 0, draw.refill, draw.room) for draw in asked.ask.draws)
    slots = tuple(Slot(slot.key, 10**6, slot.holder) for slot in asked.ask.slots)
    standing = await store.take(Ask(asked.ask.home, draws, slots, 60.0))
    await store.correct(Ask(asked.ask.home, (), slots, 60.0))
    requests, tokens = (used // rule.size.each for used, rule in zip(standing.used, asked.drawn, strict=True))
    return Taken(requests, tokens, standing.busy[0] - 1)


async def tokens_of(found: Gateway) -> int:
    """What Alice's ledger says of tokens."""
    return (await found.store.balance("alice")).tokens


def none_is_live(found: Gateway) -> bool:
    """Whether no worker takes a request for one that runs."""
    limiters = [worker.limiter for worker in found.setup.workers()]
    return all(limiter is not None and not limiter._live for limiter in limiters)
