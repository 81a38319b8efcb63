"""
A team's own endpoint around a real model: llama.cpp in this very process, behind FastAPI, metered.

Run under a server, with the model's path in ``MODEL``; ``serving`` is the app alone, ``app`` the metered one.
"""

import json
import os
import queue
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import xllamacpp
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from hpp_middleware import Gateway, Provider
from hpp_middleware.asgi.metering import MeteringMiddleware
from hpp_middleware.types.provider import Declared


def load() -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = os.environ["MODEL"]
    params.n_ctx, params.n_parallel, params.cpuparams.n_threads = 2048, 2, 1
    return xllamacpp.Server(params)


model = load()
gateway = Gateway(
    providers={"local": Provider(base_url="http://app/v1")},
    models={"local/tiny-random": {"input": "1", "output": "2"}},
    consumers={"alice": Declared(quota=5_000_000_000, keys=("made-up-key-of-alice",))},
    prices=None,
)
serving = FastAPI(lifespan=gateway.lifespan)
serving.mount("/billing", gateway.app)


@serving.post("/v1/chat/completions")
async def complete(request: Request) -> Response:
    asked = await request.json()
    if asked.get("stream"):
        return StreamingResponse(streamed(asked), media_type="text/event-stream")
    return Response(await anyio.to_thread.run_sync(whole, asked), media_type="application/json")


def whole(asked: dict[str, Any]) -> str:
    found: list[str] = []
    model.handle_chat_completions(json.dumps(asked), found.append)
    return found[-1]


async def streamed(asked: dict[str, Any]) -> AsyncIterator[str]:
    chunks: queue.Queue[str | None] = queue.Queue()

    def run() -> None:
        model.handle_chat_completions(json.dumps(asked), chunks.put)
        chunks.put(None)

    threading.Thread(target=run, daemon=True).start()
    while (chunk := await anyio.to_thread.run_sync(chunks.get)) is not None:
        yield f"data: {chunk}\n\n"
    yield "data: [DONE]\n\n"


app = MeteringMiddleware(serving, gateway, provider="local")
