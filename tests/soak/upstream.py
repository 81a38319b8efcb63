"""
The upstream of the soak: does what the last message of a request says, and writes down whom it answered.

``python upstream.py PORT WITNESS``; each line of the witness is the id of a request that arrived.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

BEHAVIOURS = ("plain", "slow", "no usage", "cut", "refuse", "limit", "long")
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
PIECES = {"long": 200}
PAUSE_S = {"slow": 0.05, "long": 0.02}


class Upstream:
    """An OpenAI-compatible API whose faults are asked for."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness.open("a", buffering=1)

    async def complete(self, request: Request) -> Response:
        """One completion."""
        body = await request.json()
        self._witness.write(request.headers["x-request-id"] + "\n")
        behaviour = body["messages"][-1]["content"]
        if behaviour in {"refuse", "limit"}:
            return JSONResponse({"error": {"message": "no"}}, status_code=500 if behaviour == "refuse" else 429)
        if body.get("stream"):
            return StreamingResponse(self._stream(behaviour), media_type="text/event-stream")
        await asyncio.sleep(10 * PAUSE_S.get(behaviour, 0))
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
        answer: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "choices": [choice]}
        return JSONResponse(answer if behaviour == "no usage" else {**answer, "usage": USAGE})

    async def _stream(self, behaviour: str) -> AsyncIterator[bytes]:
        for number in range(PIECES.get(behaviour, 5)):
            if behaviour == "cut" and number == 3:
                raise RuntimeError("cut off, as asked for")
            yield _event({"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]})
            await asyncio.sleep(PAUSE_S.get(behaviour, 0))
        yield _event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if behaviour != "no usage":
            yield _event({"choices": [], "usage": USAGE})
        yield b"data: [DONE]\n\n"


def _event(fields: dict[str, Any]) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps({**head, **fields}).encode() + b"\n\n"


if __name__ == "__main__":
    upstream = Upstream(Path(sys.argv[2]))
    app = Starlette(routes=[Route("/v1/chat/completions", upstream.complete, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
