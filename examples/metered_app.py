"""
Auth, prepaid quota and billing around an app that serves completions itself: a route of FastAPI's, say, or vLLM's app.

    uvicorn --app-dir examples metered_app:app
    curl localhost:8000/v1/chat/completions -H 'apikey: made-up-key-of-alice' \
        --json '{"model": "parrot", "messages": [{"role": "user", "content": "Hello"}], "stream": true}'
    curl localhost:8000/billing/api/usage -H 'apikey: made-up-key-of-alice'

The model is a parrot of this file's own. vLLM's server is wrapped alike: its ``build_app(args)`` makes an app.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from hpp_middleware import Gateway, Provider
from hpp_middleware.asgi.metering import MeteringMiddleware
from hpp_middleware.types.provider import Declared

gateway = Gateway(
    providers={"local": Provider(base_url="http://app/v1")},  # /v1 is where the app serves; nothing connects to it
    models={"local/parrot": {"input": "0.50", "output": "1.50"}},  # dollars a million tokens
    consumers={"alice": Declared(quota=5_000_000_000, keys=("made-up-key-of-alice",))},  # five dollars
)

serving = FastAPI(lifespan=gateway.lifespan)
serving.mount("/billing", gateway.app)


@serving.post("/v1/chat/completions")
async def complete(request: Request) -> Response:
    """The team's own endpoint, as it was before: it knows of no keys and no money."""
    asked: dict[str, Any] = await request.json()
    words = str(asked["messages"][-1]["content"]).split(" ")
    usage = {"prompt_tokens": len(words), "completion_tokens": len(words), "total_tokens": 2 * len(words)}
    head = {"id": "parrot-1", "created": 1, "model": asked["model"]}
    if asked.get("stream"):
        return StreamingResponse(stream(head, words, usage), media_type="text/event-stream")
    message = {"role": "assistant", "content": " ".join(words)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def stream(head: dict[str, Any], words: list[str], usage: dict[str, int]) -> AsyncIterator[str]:
    """A word an event, then the usage, which the meter asks for and takes out again."""
    head = {**head, "object": "chat.completion.chunk"}
    for number, word in enumerate(words):
        delta = {"content": word if number == 0 else f" {word}"}
        yield event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield event({**head, "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def event(data: dict[str, Any]) -> str:
    """One of SSE's."""
    return f"data: {json.dumps(data)}\n\n"


app = MeteringMiddleware(serving, gateway, provider="local")
