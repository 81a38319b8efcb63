"""How a gateway lives: opened by a lifespan or by its first request, once for each event loop, and closed with it."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Self

import anyio

from hpp_middleware.errors import NotOpenedError
from hpp_middleware.ports import HealthStore
from hpp_middleware.stages.setup.setup import Setup
from hpp_middleware.stages.tasks.beside import beside
from hpp_middleware.stages.tasks.guard import asyncios
from hpp_middleware.stages.upstream.sharing import share
from hpp_middleware.stages.worker.notice import Notice
from hpp_middleware.stages.worker.signals import heeding
from hpp_middleware.stages.worker.worker import Worker
from hpp_middleware.types.health import STATES, CircuitState, UpstreamState, together
from hpp_middleware.types.load import Standing

__all__ = ["Lifecycle"]

_logger = logging.getLogger("hpp_middleware")


class Lifecycle:
    """
    What opens and closes.

    Args:
        setup: The settings.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.notice = Notice(setup.observers)
        for observer in setup.observers:
            watch = getattr(observer, "watch", None)
            if watch is not None:
                watch(self)
        self._said: str | None = None
        self._entered: dict[int, list[AbstractAsyncContextManager[Self]]] = {}

    async def worker(self) -> Worker:
        """This event loop's worker, started if it is not; what keeps a request from starting it is logged, once."""
        try:
            worker = await self._started()
        except NotOpenedError as error:
            said, self._said = self._said, str(error)
            if said != self._said:
                _logger.error("%s", error)  # noqa: TRY400  # all there is to say; the rest may hold a URL
            raise
        self._said = None
        return worker

    def here(self) -> Worker:
        """This event loop's worker, started or not."""
        return self.setup.at_hand() or self.setup.worker(self.notice)

    async def _started(self) -> Worker:
        worker = self.setup.worker(self.notice)
        if not worker.ready:
            await self.setup.start(worker)
        return worker

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Open the gateway in this event loop, with timers for lease, sweep, seals and mover; close it at the end."""
        try:
            worker = await self._started()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.setup.give_up()
            raise
        worker.opened += 1
        try:
            async with beside(*self._timers(worker)):
                worker.timed = True
                yield self
        finally:
            worker.opened -= 1
            if not worker.opened:
                worker.timed = False
                with anyio.CancelScope(shield=True):
                    await worker.settled()
                    await self.setup.close(worker)

    def _timers(self, worker: Worker) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        timers = [partial(_keep, worker), partial(self.setup.move, self.notice)]
        if isinstance(self.setup.backends.quota, HealthStore):
            timers.append(partial(share, worker.health, self.setup.backends.quota))
        if self.setup.sealer is not None:
            timers.append(partial(self.setup.sealer.keep, self.notice.alarm))
        return timers

    async def drain(self, grace_s: float | None = None) -> None:
        """
        Stop in good order: refuse what comes, let what is in flight end, and return when all of it is settled.

        To be called when the host hears that it is to stop, before its server waits for the open streams: a lifespan
        ends after that. From now on ``/readyz`` is a 503, and so is every new request in this event loop. Called again
        meanwhile with a shorter grace, that one counts.

        Args:
            grace_s: How long answers may go on, in seconds; then streams end with an error event. By default
                ``load.grace_s``.
        """
        await self.here().drain(self.setup.load.grace_s if grace_s is None else grace_s)

    def heeding(self, *numbers: int) -> AbstractAsyncContextManager[None]:
        """
        Have :meth:`drain` called at these signals, besides whatever the server does at them.

            async with gateway.opened(), gateway.heeding(signal.SIGTERM):
                yield

        Raises:
            ConfigurationError: This is not the main thread.
        """
        return heeding(self.drain, *numbers)

    def health(self) -> dict[str, UpstreamState]:
        """
        How each upstream is doing, as this event loop's worker sees it: for a host's metrics, or its dashboard.

        Returns:
            By key: the provider's name, or ``name#upstream`` for one of several.
        """
        return self.setup.worker(self.notice).health.states()

    def standing(self) -> Standing:
        """What this gateway is doing now, in all event loops of this process; any thread may ask."""
        workers = self.setup.workers()
        journals = [each.lease.journal for each in workers]
        return Standing(
            running=sum(each.queue.running for each in workers),
            waiting=sum(each.queue.waiting for each in workers),
            places=self.setup.load.in_flight * len(workers),
            held=sum(each.answering.held for each in workers),
            owed=sum(each.pending for each in journals),
            slots=sum(each.slots for each in journals),
            draining=any(each.queue.closed for each in workers),
            upstreams=together(each.health.states() for each in workers),
        )

    def called(self, model_id: str) -> str | None:
        """What figures call a ``provider/model``: see :meth:`hpp_middleware.core.route.Catalog.called`."""
        return self.setup.catalog.called(model_id)

    def provider_states(self) -> dict[str, CircuitState]:
        """How each provider is doing: as well as the best of its upstreams, which are not named."""
        best: dict[str, CircuitState] = {}
        for key, found in self.health().items():
            name = key.partition("#")[0]
            best[name] = min(found.state, best.get(name, found.state), key=STATES.index)
        return best

    async def __aenter__(self) -> Self:
        opened = self.opened()
        await opened.__aenter__()
        self._entered.setdefault(_enterer(), []).append(opened)
        return self

    async def __aexit__(self, *reason: object) -> None:
        enterer = _enterer()
        opened = self._entered[enterer].pop()
        if not self._entered[enterer]:
            del self._entered[enterer]
        await opened.__aexit__(None, None, None)


async def _keep(worker: Worker) -> None:
    """Keep its lease; should that ever fail, requests do it again."""
    try:
        await worker.keep()
    except Exception:
        worker.timed = False
        raise


def _enterer() -> int:
    """Who leaves what it has entered: the task, or any of its event loop where those can (see :mod:`beside`)."""
    loop = asyncios()
    return anyio.get_current_task().id if loop is None else id(loop)
