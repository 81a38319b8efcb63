"""The router on uvicorn in front of a fake upstream, and OpenAI's SDK as a user makes it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import openai
import pytest
from background import BackgroundUpstream
from openai.types.chat import ChatCompletionMessageParam
from rig import BOB_KEY, KEY
from servers import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from hpp_middleware import Gateway
from hpp_middleware.types.provider import Declared

__all__ = ["CONSUMERS", "HI", "POOR_KEY", "Counter", "Router", "error_of", "sdk", "served"]

HI: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
POOR_KEY = "poor-carol-shows-this-key"
CONSUMERS = {
    "alice": Declared(quota=10 * 10**9, keys=(KEY,)),
    "bob": Declared(quota=10 * 10**9, keys=(BOB_KEY,), models=("fake/another",)),
    "carol": Declared(quota=1, keys=(POOR_KEY,)),
}


class Counter:
    """An ASGI app that counts what comes to the one behind it: how often the SDK has really asked."""

    def __init__(self, app: ASGIApp) -> None:
        self.count = 0
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += scope["type"] == "http"
        await self._app(scope, receive, send)


class Router:
    """A served router: its upstream, its address, and how many requests it was sent."""

    def __init__(self, upstream: BackgroundUpstream, url: str, counter: Counter) -> None:
        self.upstream = upstream
        self.url = f"{url}/llm/v1"
        self._counter = counter

    @property
    def requests(self) -> int:
        return self._counter.count


Start = Callable[..., AbstractContextManager[Router]]


@contextmanager
def served(upstream: BackgroundUpstream, gateway: Gateway) -> Iterator[Router]:
    counter = Counter(gateway.app)
    with serve(counter) as url:
        yield Router(upstream, url, counter)


def sdk(router: Router, key: str = KEY, **settings: Any) -> openai.OpenAI:
    """A client as a user makes it, but for proxies of the environment."""
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=router.url, api_key=key, http_client=http_client, **settings)


def error_of(raised: pytest.ExceptionInfo[openai.APIStatusError]) -> dict[str, Any]:
    """The error object, as the SDK keeps it."""
    body = raised.value.body
    assert isinstance(body, dict)
    return body
