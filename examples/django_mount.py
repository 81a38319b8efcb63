"""
The gateway beside a Django app. Django has neither mounts nor a lifespan; Starlette, which comes with us, has both.

    uvicorn --app-dir examples django_mount:app
    curl localhost:8000/ai/llm/v1/chat/completions -H 'apikey: made-up-key-of-alice' \
        --json '{"model": "upstream/echo", "messages": [{"role": "user", "content": "Hello"}]}'
    curl localhost:8000/ai/api/usage -H 'apikey: made-up-key-of-alice'

The model is an echo in this process. OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL name a real one. In a project of
your own all this stands in its asgi.py, below what Django has written there.
"""

import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path
from starlette.applications import Starlette
from starlette.routing import Mount

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


async def hello(_request: Any) -> Any:
    """The host's own route."""
    return JsonResponse({"models": "/ai/llm/v1/models"})


settings.configure(
    SECRET_KEY="made-up",  # noqa: S106  # and said to be
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=(path("", hello),),
)
django = get_asgi_application()

app = Starlette(routes=[Mount("/ai", gateway.app), Mount("/", django)], lifespan=gateway.lifespan)
