"""
The gateway in a Starlette app that has no lifespan at all, and knows its users by a session cookie of its own.

    uvicorn --app-dir examples starlette_mount:app
    curl localhost:8000/teams/red/ai/llm/v1/chat/completions -b session=made-up-session \
        --json '{"model": "upstream/echo", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}'
    curl localhost:8000/teams/red/ai/api/quota-check -b session=made-up-session

The first request starts the gateway. The model is an echo in this process. OPENAI_BASE_URL, OPENAI_API_KEY and
OPENAI_MODEL name a real one.
"""

import os

from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import Mount

from hpp_middleware import Consumer, Gateway, Provider
from hpp_middleware.cli.echo import Echo
from hpp_middleware.types.provider import Declared

BASE_URL = os.environ.get("OPENAI_BASE_URL")
API_KEY = os.environ.get("OPENAI_API_KEY") or None
MODEL = "upstream/" + os.environ.get("OPENAI_MODEL", "echo")

SESSIONS = {"made-up-session": Consumer(id="alice", account="red-team", username="Alice", custom_id="user-17")}


async def who(connection: HTTPConnection) -> Consumer | None:
    """Whoever the host says it is, and whose account pays; nobody gets a 401. It may be async, and read a database."""
    return SESSIONS.get(connection.cookies.get("session", ""))


gateway = Gateway(
    authenticate=who,
    providers={"upstream": Provider(base_url=BASE_URL or "http://in-this-process", api_key=API_KEY)},
    transports={} if BASE_URL else {"upstream": Echo()},
    models={MODEL: {"input": "0.50", "output": "1.50"}},  # dollars a million tokens
    consumers={"red-team": Declared(quota=5_000_000_000)},  # five dollars that the whole team shares; no keys
)

app = Starlette(routes=[Mount("/teams/red", routes=[Mount("/ai", gateway.app)])])
