"""The same as :mod:`hosted`, in a host that hears of SIGTERM itself."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount

from embedding.hosted import gateway


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with gateway.opened(), gateway.heeding(signal.SIGTERM):
        yield


app = Starlette(routes=[Mount("/", gateway.app)], lifespan=lifespan)
