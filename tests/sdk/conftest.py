"""A served router, and clients of it."""

from collections.abc import AsyncGenerator, Iterator

import openai
import pytest
from background import BackgroundUpstream
from rig import KEY
from rig import gateway as make_gateway

from sdk.served import CONSUMERS, Router, sdk, served


@pytest.fixture
def router(background_upstream: BackgroundUpstream) -> Iterator[Router]:
    model = {"context": 128_000, "max_output": 4_096, "tool": True, "description": "Not a model."}
    with served(background_upstream, make_gateway(background_upstream.url, consumers=CONSUMERS, model=model)) as found:
        yield found


@pytest.fixture
def client(router: Router) -> Iterator[openai.OpenAI]:
    with sdk(router) as found:
        yield found


@pytest.fixture
async def async_client(router: Router) -> AsyncGenerator[openai.AsyncOpenAI]:
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(base_url=router.url, api_key=KEY, http_client=http_client) as found:
        yield found
