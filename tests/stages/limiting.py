"""A gateway with limits whose clock a test sets."""

from typing import Any

from rig import ask, gateway

from hpp_middleware import Gateway
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.limits import Ask, RateLimit, Standing

Headers = dict[str, str]


class Counted(MemoryLimits):
    """Limits whose clock a test sets, and which fail where they are told to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.error: Exception | None = None
        self.corrected: list[Ask] = []
        super().__init__(clock=self.clock)

    async def take(self, ask: Ask) -> Standing:
        """Fail, or count."""
        if self.error is not None:
            raise self.error
        return await super().take(ask)

    async def correct(self, ask: Ask) -> None:
        """Fail, or put right."""
        if self.error is not None:
            raise self.error
        self.corrected.append(ask)
        await super().correct(ask)

    @property
    def places(self) -> int:
        """How many places are taken."""
        return sum(map(len, self._holders.values()))


def limited(upstream: FakeUpstream, *limits: RateLimit, store: Counted | None = None, **more: Any) -> Gateway:
    return gateway(upstream, rate_limits=limits, limit_store=store or Counted(), **more)


async def asked(found: Gateway, **more: Any) -> tuple[int, Headers, bytes]:
    async with ask(found, **more) as call:
        status = await call.started()
        body = await call.read()
        await call.returned()
        return status, dict(call.headers), body
