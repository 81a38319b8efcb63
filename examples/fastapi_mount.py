"""
The gateway in a FastAPI app, opened and closed by the app's own lifespan; and the app's own use of a model.

    uvicorn --app-dir examples fastapi_mount:app
    curl localhost:8000/ai/llm/v1/chat/completions -H 'apikey: made-up-key-of-alice' \
        --json '{"model": "upstream/echo", "messages": [{"role": "user", "content": "Hello"}]}'
    curl -X POST localhost:8000/greetings/alice
    curl localhost:8000/ai/api/usage -H 'apikey: made-up-key-of-alice'

The model is an echo in this process. OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL name a real one.
"""

import json
import os
from typing import Any

from fastapi import FastAPI

from hpp_middleware import Consumer, Gateway, Provider
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

app = FastAPI(lifespan=gateway.lifespan)
app.mount("/ai", gateway.app)


@app.post("/greetings/{name}")
async def greet(name: str) -> dict[str, Any]:
    """The host's own call, without HTTP in between: it is held for, metered and settled like any other."""
    question = {"model": MODEL, "messages": [{"role": "user", "content": f"Good morning, {name}!"}]}
    reply = await gateway.complete(Consumer(id="alice"), question)
    text = json.loads(reply.body)["choices"][0]["message"]["content"]
    return {"greeting": text, "nano_dollars": reply.cost, "audit_id": reply.id}
