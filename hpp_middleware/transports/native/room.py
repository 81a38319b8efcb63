"""Room for a number of things, and who waits for some."""

import asyncio
from collections import deque
from contextlib import suppress

__all__ = ["Room"]


class Room:
    """
    How many more there may be.

    Args:
        number: So many.

    Attributes:
        left: May be lowered by who takes one where this is above 0: then nobody waits.
    """

    def __init__(self, number: int) -> None:
        self.left = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for one, behind those who wait already."""
        if self.left > 0:
            self.left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # it was passed over already
                    self._waiting.remove(turn)
            else:
                self.give()  # it came when nobody waited for it any more
            raise

    def give(self) -> None:
        """Give one back: to who has waited longest, if anybody does."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.left += 1
