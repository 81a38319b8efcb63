"""The baseline: what a team writes in an afternoon. FastAPI, httpx, and nothing else: no auth, no quota, no ledger."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

__all__ = ["build"]


def build(upstream: str) -> FastAPI:
    """An app before an upstream."""
    client = httpx2.AsyncClient(
        base_url=upstream, timeout=120, limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with client:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/llm/v1/chat/completions")
    async def completions(request: Request) -> StreamingResponse:
        call = client.build_request(
            "POST",
            "/v1/chat/completions",
            content=await request.body(),
            headers={"content-type": "application/json", "authorization": "Bearer of-the-operator"},
        )
        answer = await client.send(call, stream=True)
        return StreamingResponse(
            answer.aiter_raw(),
            status_code=answer.status_code,
            media_type=answer.headers["content-type"],
            background=BackgroundTask(answer.aclose),
        )

    return app
