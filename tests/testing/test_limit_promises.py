"""The suite of limit stores: whoever breaks a promise is told which."""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing import check_limits
from hpp_middleware.types.limits import Ask, Standing

pytestmark = pytest.mark.anyio

Clock = Callable[[], float]


class Generous(MemoryLimits):
    """Draws one unit less than it is asked."""

    async def take(self, ask: Ask) -> Standing:
        draws = tuple(msgspec.structs.replace(each, amount=max(0, each.amount - 1)) for each in ask.draws)
        return await super().take(msgspec.structs.replace(ask, draws=draws))


class OneByOne(MemoryLimits):
    """Takes what there is, although not all is there."""

    async def take(self, ask: Ask) -> Standing:
        parts = [
            *(msgspec.structs.replace(ask, draws=(each,), slots=()) for each in ask.draws),
            *(msgspec.structs.replace(ask, draws=(), slots=(each,)) for each in ask.slots),
        ]
        told = [await super(OneByOne, self).take(part) for part in parts]
        used = tuple(number for each in told for number in each.used)
        busy = tuple(number for each in told for number in each.busy)
        return Standing(all(each.admitted for each in told), used, busy)


class Homeless(MemoryLimits):
    """Gives everybody the same windows."""

    async def take(self, ask: Ask) -> Standing:
        return await super().take(msgspec.structs.replace(ask, home="everybody"))

    async def correct(self, ask: Ask) -> None:
        await super().correct(msgspec.structs.replace(ask, home="everybody"))

    async def extend(self, asks: Sequence[Ask]) -> None:
        await super().extend([msgspec.structs.replace(ask, home="everybody") for ask in asks])


class Forgetful(MemoryLimits):
    """Puts nothing right."""

    async def correct(self, ask: Ask) -> None:
        await super().correct(msgspec.structs.replace(ask, draws=()))


class Merciful(MemoryLimits):
    """Lets no window into debt."""

    async def correct(self, ask: Ask) -> None:
        draws = tuple(msgspec.structs.replace(each, amount=min(0, each.amount)) for each in ask.draws)
        await super().correct(msgspec.structs.replace(ask, draws=draws))


class Sticky(MemoryLimits):
    """Never gets a place back."""

    async def correct(self, ask: Ask) -> None:
        await super().correct(msgspec.structs.replace(ask, slots=()))


class Eternal(MemoryLimits):
    """Holds places for ever."""

    async def take(self, ask: Ask) -> Standing:
        return await super().take(msgspec.structs.replace(ask, ttl_s=500))

    async def extend(self, asks: Sequence[Ask]) -> None:
        await super().extend([msgspec.structs.replace(ask, ttl_s=500) for ask in asks])


class Deaf(MemoryLimits):
    """Extends nothing."""

    async def extend(self, asks: Sequence[Ask]) -> None:
        """Do nothing."""


class Reviving(MemoryLimits):
    """Takes a place where it should be extended."""

    async def extend(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            await super().take(ask)


class Rounding(MemoryLimits):
    """Counts in floats."""

    async def take(self, ask: Ask) -> Standing:
        found = await super().take(ask)
        return Standing(found.admitted, tuple(round(each / 64) * 64 for each in found.used), found.busy)


class Timeless(MemoryLimits):
    """Its windows never fill."""

    def __init__(self, *, clock: Clock) -> None:
        begin = clock()
        super().__init__(clock=lambda: begin)


class Hasty(MemoryLimits):
    """Its windows fill twice as fast."""

    def __init__(self, *, clock: Clock) -> None:
        begin = clock()
        super().__init__(clock=lambda: begin + 2 * (clock() - begin))


BROKEN: dict[type[MemoryLimits], str] = {
    Generous: "lacks what is drawn",
    OneByOne: "has no place|no place is free|drawn from no window",
    Homeless: "of its own|not taken by being extended",
    Forgetful: "put back can be drawn again",
    Merciful: "in debt admits nothing",
    Sticky: "given back is free",
    Eternal: "time is over is free",
    Deaf: "extended is held for longer",
    Reviving: "not taken by being extended",
    Rounding: "lacks what is drawn|up to what the window holds",
    Timeless: "comes back by the store's own time",
    Hasty: "and no sooner",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
async def test_a_store_that_breaks_a_promise_is_told_which(broken: type[MemoryLimits]) -> None:
    async def make(*, clock: Clock) -> MemoryLimits:
        return broken(clock=clock)

    with pytest.raises(AssertionError, match=BROKEN[broken]):
        await check_limits(make)


async def test_a_good_store_passes() -> None:
    async def make(*, clock: Clock) -> MemoryLimits:
        return MemoryLimits(clock=clock)

    await check_limits(make)
