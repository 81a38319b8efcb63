"""
Limits: taken before anything is held or sent, put right when the request has ended, however it has.

What is taken is estimated; what the answer reports is put in its place. A place among the requests at once is given
back with that. A worker that died gives nothing back: its places come back of themselves, its tokens stay drawn.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio

from hpp_middleware.core import limits
from hpp_middleware.core.bound import Bound
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import LimitStore
from hpp_middleware.stages.limits.places import Places, only_places
from hpp_middleware.stages.tasks.guard import begin_within
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.limits import Ask, OnOutage, Standing

if TYPE_CHECKING:
    from hpp_middleware.stages.limits.admission import Admission

__all__ = ["Limiter"]

T = TypeVar("T")

STORE_S = 5.0
"""How long a limit store may take; after that nothing is known of what it was asked."""

GIVE_BACK_S = 2.0
MORE_TRIES = 4
"""So often a request is asked for again that is refused in the moment in which another one gives its place back."""

ENDING_S = 1.0
"""How long a request waits for one of its consumer whose answer is over and whose place is about to be given back."""


class Limiter:
    """
    One worker's part in the limits.

    Args:
        store: Counts.
        rules: What is limited.
        outage: What becomes of requests while the store does not answer.
        alarm: Told when it does not, once until it does again.

    Attributes:
        lost: Places that are given back before somebody is refused for them.
    """

    def __init__(
        self, store: LimitStore, rules: limits.Rules, *, outage: OnOutage, alarm: Callable[[Alarm], None]
    ) -> None:
        self._store = store
        self._rules = rules
        self._outage = outage
        self._alarm = alarm
        self._answers = True
        self._live: dict[str, set[Admission]] = {}
        self.lost = Places(self.put)
        self._ended: anyio.Event | None = None  # there where somebody waits

    async def keep(self) -> None:
        """Extend the places that are held, until cancelled; a failure is tried again at the next turn."""
        while True:
            await anyio.sleep(limits.SLOT_S / 4)
            await self.lost.give_all_back()
            asks = [ask for those in list(self._live.values()) for each in those for ask in each.placed()]
            if asks:
                with suppress(StoreError):
                    await self._tried(lambda: self._store.extend(asks))  # noqa: B023  # awaited at once

    def asked(
        self, consumer: Consumer, model: str, bound: Bound, request_id: str, besides: tuple[str, ...]
    ) -> limits.Asked | None:
        """What a request to a model asks for, besides what others of its models have asked for."""
        tokens = limits.estimate(bound)
        return self._rules.asked(consumer, model, tokens=tokens, holder=request_id, besides=besides)

    async def take(self, asked: limits.Asked, home: str) -> Standing | None:
        """
        Take it; a request that ends at this moment is waited for.

        Returns:
            How it stands; None where the store does not answer, and requests pass then.
        Raises:
            StoreError: 503.
        """
        try:
            standing = await self._tried(lambda: self._ask(asked))
            for _ in range(MORE_TRIES):  # another one may have what room there was meanwhile, and end itself
                if standing.admitted or not await self._made_room(home):
                    break
                standing = await self._tried(lambda: self._ask(asked))
            if not standing.admitted and home in self.lost:
                raise StoreError("Places that are nobody's could not be given back.")
        except StoreError as error:
            await self._taken_in_vain(asked, error)
            if self._outage == "open":
                return None
            raise StoreError(
                "Limits cannot be verified at the moment; nothing was forwarded.",
                code="limits_unavailable",
                headers={"Retry-After": "1"},
            ) from error
        except BaseException:  # cancelled by force: whether it was taken is not known, but places can be given back
            await self._vacate(asked)
            raise
        self._answers = True
        if self.lost and standing.admitted:
            self.lost.remove(asked.ask)
        return standing

    async def put(self, change: Ask) -> bool:
        """Put right what was taken; without an answer it stays as it is, and places run out if nobody misses them."""
        if not change.draws and not change.slots:
            return True
        done = False
        try:
            with anyio.move_on_after(GIVE_BACK_S, shield=True):
                await self._tried(lambda: self._store.correct(change))
                done = True
        except StoreError as error:
            self._silent("correct", error)
        finally:
            if not done:  # cancelled by force meanwhile, too
                self.lost.add(change)
        return done

    def began(self, admission: "Admission", home: str) -> None:
        """It is admitted."""
        self._live.setdefault(home, set()).add(admission)

    def ended(self, admission: "Admission", home: str) -> None:
        """What it held is given back."""
        there = self._live.get(home)
        if there is not None:
            there.discard(admission)
            if not there:
                del self._live[home]
        if self._ended is not None:
            self._ended.set()
            self._ended = None

    async def _taken_in_vain(self, asked: limits.Asked, error: StoreError) -> None:
        """Nobody knows whether it was taken: the places are given back, at once where there is hope of an answer."""
        answered = self._answers
        self._silent("take", error)
        if answered:
            await self._vacate(asked)
        else:
            self.lost.add_doubtful(asked.ask)

    async def _vacate(self, asked: limits.Asked) -> None:
        """Give back at once what may be taken; and once more if somebody misses it, since it may be under way still."""
        self.lost.add_doubtful(asked.ask)
        await self.put(only_places(asked.ask))

    async def _made_room(self, home: str) -> bool:
        """Whether there may be more places than a moment ago, for whom this waits if it has to."""
        given_back = await self.lost.give_back(home)
        ended = self._ending(home) and await self._one_has_ended(home)
        return given_back or ended

    def _ending(self, home: str) -> bool:
        return any(each.is_ending for each in self._live.get(home, ()))

    async def _one_has_ended(self, home: str) -> bool:
        """
        Wait until nothing of this consumer is ending: a client that has its last byte may ask again before we are
        through with its request.
        """
        with anyio.move_on_after(ENDING_S):
            while self._ending(home):
                self._ended = self._ended or anyio.Event()
                await self._ended.wait()
            return True
        return False

    async def _ask(self, asked: limits.Asked) -> Standing:
        """Ask the store; one that did not answer is opened first, since it may never have been."""
        reopen = None if self._answers else getattr(self._store, "open", None)
        if reopen is not None:
            await reopen()
        return await self._store.take(asked.ask)

    async def _tried(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            there, found = begin_within(STORE_S, ask())
            return found if there else await found  # type: ignore[misc, return-value]
        except StoreError:
            raise
        except Exception as error:
            raise StoreError("The limit store failed.") from error

    def _silent(self, what: str, error: StoreError) -> None:
        if self._answers:
            cause = error.__cause__ or error
            self._alarm(Alarm(kind="limits", request_id="", detail=f"{what}: {type(cause).__name__}"))
        self._answers = False
