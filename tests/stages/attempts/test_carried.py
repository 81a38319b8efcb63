"""What carries a request out: an object for each, that leaves nothing behind."""

import gc

import pytest
from rig import ask, gateway

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.streams import KeepAlive

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("retries", [0, 1])
async def test_a_request_leaves_no_garbage_that_has_to_be_looked_for(retries: int, *, stream: bool) -> None:
    async with FakeUpstream() as upstream:
        upstream.script = Script(texts=("Hello", " you"))
        async with gateway(upstream, provider={"retries": retries}, keep_alive=KeepAlive()) as found:
            await _asked(found, stream=stream)  # what is made once is made
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(3):
                    await _asked(found, stream=stream)
                gc.collect()
                kinds = {f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert not {kind for kind in kinds if kind.startswith(("hpp_middleware.stages", "hpp_middleware.core"))}


async def _asked(found: Gateway, *, stream: bool) -> None:
    async with ask(found, stream=stream) as call:
        assert await call.started() == 200
        await call.read()
        await call.returned()
