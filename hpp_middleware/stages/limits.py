"""
Limits: taken before anything is held or sent, put right when the request has ended, however it has.

What is taken is estimated; what the answer reports is put in its place. A place among the requests at once is given
back with that. A worker that died gives nothing back: its places come back of themselves, its tokens stay drawn.
"""

import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from hpp_middleware.core import limits
from hpp_middleware.core.bound import Bound
from hpp_middleware.core.ceilings import OverBudget
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.errors import GatewayError, StoreError
from hpp_middleware.ports import Client, LimitStore
from hpp_middleware.stages.guard import begin_within
from hpp_middleware.stages.places import Places, only_places
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.http import Headers
from hpp_middleware.types.limits import Ask, OnOutage, Standing
from hpp_middleware.types.operations import Result

if TYPE_CHECKING:
    from hpp_middleware.stages.carried import Carried

__all__ = ["Admission", "Limiter"]

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

    def admission(
        self, consumer: Consumer, model: str, bound: Bound, client: Client, *, request_id: str, api: str
    ) -> "Admission":
        """One request; nothing is taken yet."""
        return Admission(self, consumer, model, bound, client, request_id=request_id, api=api)

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
            await self.put(only_places(asked.ask))
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
            await self.put(only_places(asked.ask))
        else:
            self.lost.add_doubtful(asked.ask)

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


class Admission:
    """
    One request's: its client, who is told how it stands, and what is to be put right at the end.

    Args:
        limiter: The worker's.
        consumer: Whose request it is.
        model: Where it goes.
        bound: How much it can come to.
        client: Where the answer goes.
        request_id: Its id.
        api: What the client speaks.
    """

    def __init__(
        self,
        limiter: Limiter,
        consumer: Consumer,
        model: str,
        bound: Bound,
        client: Client,
        *,
        request_id: str,
        api: str,
    ) -> None:
        self.patient = client.patient
        self.started = client.started
        self._limiter = limiter
        self._consumer = consumer
        self._models: tuple[str, ...] = (model,)
        self._bound = bound
        self._client = client
        self._request_id = request_id
        self._anthropic = api == "messages"
        self._headers: Headers = []
        self._taken: list[tuple[limits.Asked, Standing]] = []
        self._latest: limits.Asked | None = None  # what was taken for the model that is asked next
        self._exchange: Carried | None = None

    @property
    def is_ending(self) -> bool:
        """Whether the answer is over, and what it held is about to be given back."""
        return self._exchange is not None and self._exchange.ending.begun

    def start(self, status: int, headers: Headers) -> Coroutine[Any, Any, None]:
        """Send the head, with how it stands."""
        self.started = True
        return self._client.start(status, [*headers, *self._headers])

    def send(self, data: bytes, *, more: bool) -> Coroutine[Any, Any, None]:
        """Send a piece of the body."""
        return self._client.send(data, more=more)

    def hear(self, left: Callable[[], None]) -> Callable[[], None] | None:
        """See :class:`hpp_middleware.ports.Client`."""
        return self._client.hear(left)

    def gone(self) -> Coroutine[Any, Any, None]:
        """See :class:`hpp_middleware.ports.Client`."""
        return self._client.gone()

    def placed(self) -> list[Ask]:
        """What has places."""
        return [asked.ask for asked, _ in self._taken if asked.ask.slots]

    async def around(
        self, exchange: "Carried", work: Callable[[], Coroutine[Any, Any, Settlement | Result]]
    ) -> Settlement | Result:
        """
        Carry out the request under its limits.

        Args:
            exchange: What carries it out.
            work: Reserve, upstream, relay and settle.
        Raises:
            RequestError: 429: a limit is reached; nothing was held.
            StoreError: 503: that cannot be known.
        """
        self._exchange = exchange
        asked = self._limiter.asked(self._consumer, self._models[0], self._bound, self._request_id, ())
        if asked is not None:
            await self._take(asked)
        tokens: int | dict[str, int] | None = None  # as they were estimated, where nobody knows better
        requests = 1
        try:
            ended = await work()
            if isinstance(ended, Result):  # answered before, under the same key
                tokens = requests = 0
            elif len(exchange.exchanges) == 1:
                tokens = ended.usage.total if ended.outcome is not None else 0
            else:
                tokens = exchange.tokens(ended)
            if exchange.error is not None:
                exchange.error.headers.update(self._headers)
        except GatewayError as error:
            # Nothing was forwarded. What was refused was a request all the same; what is one already was not another.
            goes_on = isinstance(error, OverBudget) and error.instead is not None  # by a model that takes its own
            tokens, requests = 0, 0 if goes_on or error.status == 409 else 1
            error.headers.update(self._headers)
            raise
        finally:
            await self._put_right(tokens, requests)
            self._exchange = None  # which knows this object: let neither wait for the garbage collector
        return ended

    async def also(self, model: str, bound: Bound) -> bool:
        """
        Take what another model's own limits ask besides, before it is asked in the place of the one before.

        Args:
            model: Its id.
            bound: How much the request can come to there.
        Returns:
            False where it is to be passed over for now: one of its limits is reached, or cannot be verified.
        """
        self._latest = None
        asked = self._limiter.asked(self._consumer, model, bound, self._request_id, self._models)
        if asked is None:
            return True
        try:
            standing = await self._limiter.take(asked, self._consumer.id)
        except StoreError:
            return False
        if standing is None:
            return True
        if standing.admitted:
            self._models = (*self._models, model)
            self._latest = asked
            self._taken.append((asked, standing))
            self._told()
            self._limiter.began(self, self._consumer.id)
        return standing.admitted

    async def without(self) -> None:
        """Give back what :meth:`also` took the last time, for a model that is not asked after all."""
        asked, self._latest = self._latest, None
        if asked is None:
            return
        self._models = self._models[:-1]
        self._taken.pop()
        self._told()
        change = asked.correction(0, requests=0)
        try:
            if change is not None:
                await self._limiter.put(change)
        finally:
            if not self._taken:  # the model before has no limits of its own
                self._limiter.ended(self, self._consumer.id)

    async def _take(self, asked: limits.Asked) -> None:
        home = self._consumer.id
        standing = await self._limiter.take(asked, home)
        if standing is None:
            return
        self._headers = self._said((asked, standing))
        if not standing.admitted:
            refused = limits.refusal(asked, standing)
            refused.headers.update(self._headers)
            raise refused
        self._taken.append((asked, standing))
        self._limiter.began(self, home)

    def _told(self) -> None:
        """The client is to be told of the windows of all models that it was asked of."""
        self._headers = self._said(reduce(limits.together, self._taken)) if self._taken else []

    def _said(self, taken: tuple[limits.Asked, Standing]) -> Headers:
        return limits.headers(*taken, anthropic=_time_in if self._anthropic else None)

    async def _put_right(self, tokens: int | dict[str, int] | None, requests: int) -> None:
        taken, self._taken = self._taken, []
        try:
            for asked, _ in taken:
                change = asked.correction(asked.tokens if tokens is None else tokens, requests)
                if change is not None:
                    await self._limiter.put(change)
        except BaseException:  # cancelled by force
            for asked, _ in taken:
                self._limiter.lost.add(asked.ask)
            raise
        finally:
            if taken:
                self._limiter.ended(self, self._consumer.id)


def _time_in(micro: int) -> str:
    """The time that is so many microseconds from now, as RFC 3339 has it, in seconds rounded up."""
    return datetime.fromtimestamp(math.ceil(time.time() + micro / 1e6), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
