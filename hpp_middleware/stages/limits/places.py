"""
Places for requests at once that the store may count although nobody has them: its answer was lost, or nobody waited.

They would come back by themselves after a minute. They are given back sooner: by whoever would be refused for them, and
now and then by what keeps places, since another worker may refuse somebody for them.
"""

from collections.abc import Awaitable, Callable

from hpp_middleware.types.limits import Ask, Slot

__all__ = ["Places", "only_places"]

MOST_HOMES = 64
MOST_OF_ONE = 64
"""
More that may not be taken are not remembered: a store that does not answer would have more and more of them. The first
are those that it may have taken before it fell silent.
"""


def only_places(ask: Ask) -> Ask:
    """What of an ask may be given back twice."""
    return Ask(ask.home, (), ask.slots, ask.ttl_s)


class Places:
    """
    Such places of one worker's requests.

    Args:
        put: Gives back; whether that was done.
    """

    def __init__(self, put: Callable[[Ask], Awaitable[bool]]) -> None:
        self._put = put
        self._found: dict[str, dict[tuple[str, str], Slot]] = {}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._found)

    def __contains__(self, home: str) -> bool:
        """Whether there are any of a home."""
        return home in self._found

    def add(self, ask: Ask) -> None:
        """Those of an ask are taken, and nobody's; of which there are never more than requests at once."""
        if ask.slots:
            there = self._found.setdefault(ask.home, {})
            there.update(((slot.key, slot.holder), slot) for slot in ask.slots)

    def add_doubtful(self, ask: Ask) -> None:
        """Those of an ask may be taken, and are nobody's."""
        there = self._found.get(ask.home)
        if len(self._found) < MOST_HOMES if there is None else len(there) < MOST_OF_ONE:
            self.add(ask)

    def remove(self, ask: Ask) -> None:
        """Those of an ask are nobody's any more, or their holder's after all."""
        there = self._found.get(ask.home)
        if there is not None:
            for slot in ask.slots:
                there.pop((slot.key, slot.holder), None)
            if not there:
                del self._found[ask.home]

    async def give_back(self, home: str) -> bool:
        """Give those of a home back; whether there were any. They stay here until that is done: others want it too."""
        there = self._found.get(home)
        if not there:
            return False
        change = Ask(home, (), tuple(there.values()), 0.0)
        done = await self._put(change)
        if done:
            self.remove(change)
        return done

    async def give_all_back(self) -> None:
        """Give all back, until the store does not answer."""
        for home in list(self._found):
            if not await self.give_back(home):
                break
