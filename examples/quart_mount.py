"""
The gateway beside a Quart app, opened and closed with it. Quart has no mounts: what dispatches comes with its server.

    uvicorn --app-dir examples quart_mount:app
    curl localhost:8000/ai/llm/v1/chat/completions -H 'apikey: made-up-key-of-alice' \
        --json '{"model": "upstream/echo", "messages": [{"role": "user", "content": "Hello"}]}'
    curl localhost:8000/ai/api/usage -H 'apikey: made-up-key-of-alice'

The model is an echo in this process. OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL name a real one.
"""

import os
from typing import Any

from hypercorn.middleware import DispatcherMiddleware
from quart import Quart

from hpp_middleware import Gateway, Provider
from hpp_middleware.cli.echo import Echo
from hpp_middleware.types.provider import Declared

BASE_URL = os.environ.get("OPENAI_BASE_URL")
API_KEY = os.environ.get("OPENAI_API_KEY") or None
MODEL = "upstream/" + os.environ.get("OPENAI_MODEL", "echo")

gateway = Gateway(
    providers={"upstream": Provider(base_url=BASE_URL or "http://in-this-process", api_key=API_KEY)},
    transports={} if BASE_URL else {"upstream": Echo()},
    models={MODEL: {"input": "0.50", "output": "1.50"}},  # dollars a million tokens
    consumers={"alice": Declared(quota=5_000_000_000, keys=("made-up-key-of-alice",))},  # five dollars
)
host = Quart(__name__)


@host.get("/")
async def hello() -> dict[str, str]:
    """The host's own route."""
    return {"models": "/ai/llm/v1/models"}


apps: dict[str, Any] = {"/ai": gateway.app, "": host}
app = DispatcherMiddleware(apps)  # which runs the lifespans of both
