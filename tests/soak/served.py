"""
The router of the chaos soak: a configuration, served by uvicorn, which also says what it has open.

``python served.py CONFIG PORT``; ``GET /soak`` answers with its tasks, its requests under way, and the objects that
garbage collection knows of.
"""

import asyncio
import gc
import json
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from hpp_middleware.config import load

__all__ = ["Told"]


class Told:
    """An app that tells what it has open, beside another one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer ``/soak``, and pass all else on."""
        if scope["type"] == "http" and scope["path"] == "/soak":
            gc.collect()
            tasks, objects = len(asyncio.all_tasks()), len(gc.get_objects())
            told = {"tasks": tasks, "running": self._running, "objects": objects}
            body = json.dumps(told).encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": body})
            return
        is_request = scope["type"] == "http"
        self._running += is_request
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= is_request


if __name__ == "__main__":
    gateway = load(Path(sys.argv[1])).gateway()
    uvicorn.run(Told(gateway.app), host="127.0.0.1", port=int(sys.argv[2]), log_level="critical", access_log=False)
