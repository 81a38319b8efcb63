"""
One request's part in the limits: what it takes before anything is held, and puts right when it has ended.

It stands between the request and its client, so that the head of the answer says how the limits stand.
"""

import math
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

from hpp_middleware.core import limits
from hpp_middleware.core.bound import Bound
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.errors import GatewayError, StoreError
from hpp_middleware.ports import Client
from hpp_middleware.stages.limits.limiter import Limiter
from hpp_middleware.stages.route.downgrade import Downgraded
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.http import Headers
from hpp_middleware.types.limits import Ask, Standing
from hpp_middleware.types.operations import Result

if TYPE_CHECKING:
    from hpp_middleware.stages.attempts.carried import Carried

__all__ = ["Admission"]


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
        self._carried: Carried | None = None

    @property
    def is_ending(self) -> bool:
        """Whether the answer is over, and what it held is about to be given back."""
        return self._carried is not None and self._carried.ending.begun

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
        self, carried: "Carried", work: Callable[[], Coroutine[Any, Any, Settlement | Result]]
    ) -> Settlement | Result:
        """
        Carry out the request under its limits.

        Args:
            carried: What carries it out.
            work: Reserve, upstream, relay and settle.
        Raises:
            RequestError: 429: a limit is reached; nothing was held.
            StoreError: 503: that cannot be known.
        """
        self._carried = carried
        asked = self._limiter.asked(self._consumer, self._models[0], self._bound, self._request_id, ())
        if asked is not None:
            await self._take(asked)
        tokens: int | dict[str, int] | None = None  # as they were estimated, where nobody knows better
        requests = 1
        try:
            ended = await work()
            if isinstance(ended, Result):  # answered before, under the same key
                tokens = requests = 0
            elif len(carried.exchanges) == 1:
                tokens = ended.usage.total if ended.outcome is not None else 0
            else:
                tokens = carried.tokens(ended)
            if carried.error is not None:
                carried.error.headers.update(self._headers)
        except GatewayError as error:
            # Nothing was forwarded. What was refused was a request all the same; what is one already was not another.
            goes_on = isinstance(error, Downgraded)  # by a model that takes its own
            tokens, requests = 0, 0 if goes_on or error.status == 409 else 1
            error.headers.update(self._headers)
            raise
        finally:
            await self._put_right(tokens, requests)
            self._carried = None  # which knows this object: let neither wait for the garbage collector
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
