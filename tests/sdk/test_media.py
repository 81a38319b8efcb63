"""OpenAI's official SDK embeds and draws through the router, as its users write it."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from background import BackgroundUpstream
from rig import KEY, MODEL
from rig import gateway as make_gateway

from hpp_middleware import Gateway
from hpp_middleware.testing import Script
from sdk.served import CONSUMERS, POOR_KEY, Router, error_of, sdk, served

VECTORS = [[0.5, -0.25, 1.0], [0.0, 2.0, -1.5]]
USAGE = {"prompt_tokens": 5, "total_tokens": 5}
PNG = b"\x89PNG\r\n\x1a\n and the rest"
MODELS = {
    MODEL: {"input": "0.02", "output": "0"},
    "fake/gpt-image-1": {"input": "5", "output": "40", "output_image": "40"},
}


def scripted(body: Any) -> Script:
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


def embedded(*embeddings: Any) -> Script:
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(embeddings)]
    return scripted({"object": "list", "data": data, "model": "fake-1", "usage": USAGE})


@pytest.fixture
def gateway(background_upstream: BackgroundUpstream) -> Gateway:
    return make_gateway(background_upstream.url, consumers=CONSUMERS, models=MODELS, image_provider="fake")


@pytest.fixture
def media_router(background_upstream: BackgroundUpstream, gateway: Gateway) -> Iterator[Router]:
    with served(background_upstream, gateway) as found:
        yield found


@pytest.fixture
def media(media_router: Router) -> Iterator[openai.OpenAI]:
    with sdk(media_router) as found:
        yield found


def test_vectors_come_in_base64_unless_the_user_asks_otherwise(
    media: openai.OpenAI, background_upstream: BackgroundUpstream
) -> None:
    background_upstream.next(embedded(*(base64.b64encode(struct.pack("<3f", *each)).decode() for each in VECTORS)))
    found = media.embeddings.create(model=MODEL, input=["Hello", "world"])
    assert [each.embedding for each in found.data] == VECTORS
    assert (found.model, found.usage.prompt_tokens, found.usage.total_tokens) == (MODEL, 5, 5)
    sent = background_upstream.last.json()
    assert sent == {"input": ["Hello", "world"], "model": "fake-1", "encoding_format": "base64"}


def test_vectors_come_as_floats_where_they_are_asked_for(
    media: openai.OpenAI, background_upstream: BackgroundUpstream
) -> None:
    background_upstream.next(embedded(*VECTORS))
    raw = media.embeddings.with_raw_response.create(
        model=MODEL, input=[[1, 2], [3, 4, 5]], dimensions=3, encoding_format="float", user="me"
    )
    assert [each.embedding for each in raw.parse().data] == VECTORS
    assert raw.headers["x-hpp-router-cost"] == "0.0000001"  # 5 tokens at $0.02 a million, exactly
    assert raw.headers["x-hpp-router-resolved-model"] == MODEL


def test_images_are_drawn_by_the_default_model(media: openai.OpenAI, background_upstream: BackgroundUpstream) -> None:
    usage = {
        "input_tokens": 13,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 13},
        "output_tokens": 544,
        "total_tokens": 557,
    }
    data = [{"b64_json": base64.b64encode(PNG).decode()}] * 2
    background_upstream.next(scripted({"created": 1795000000, "data": data, "quality": "low", "usage": usage}))
    raw = media.images.with_raw_response.generate(prompt="A cat", n=2, size="1024x1024", quality="low")
    found = raw.parse()
    assert [base64.b64decode(each.b64_json or "") for each in found.data or []] == [PNG, PNG]
    assert found.usage is not None
    assert (found.usage.output_tokens, found.quality) == (544, "low")
    assert raw.headers["x-hpp-router-cost"] == "0.021825"  # 13 x $5 and 544 x $40 a million
    assert raw.headers["x-hpp-router-resolved-model"] == "fake/gpt-image-1"
    assert background_upstream.last.json()["model"] == "gpt-image-1"


def test_the_sdk_raises_what_the_router_refuses(media: openai.OpenAI, media_router: Router) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        media.images.generate(prompt="A cat", size="256x256")
    assert error_of(caught)["param"] == "size"
    with pytest.raises(openai.BadRequestError) as caught:
        media.images.generate(prompt="A cat", stream=True)
    assert error_of(caught)["param"] == "stream"
    with pytest.raises(openai.BadRequestError) as caught:
        media.embeddings.create(model=MODEL, input=["a", ""])
    assert error_of(caught)["param"] == "input[1]"
    with sdk(media_router, POOR_KEY) as poor, pytest.raises(openai.RateLimitError) as broke:
        poor.images.generate(prompt="A cat")
    assert error_of(broke)["code"] == "insufficient_quota"
    assert media_router.upstream.log == []


@pytest.mark.anyio
async def test_the_async_client_draws_too_at_either_address(media_router: Router) -> None:
    usage = {"input_tokens": 1, "output_tokens": 6240}
    media_router.upstream.next(scripted({"created": 1, "data": [{"b64_json": ""}], "usage": usage}))
    url, http_client = media_router.url.replace("/llm", ""), openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, http_client=http_client) as client:
        raw = await client.images.with_raw_response.generate(
            model="fake/gpt-image-1", prompt="A cat", size="1024x1536", quality="high"
        )
    assert raw.headers["x-hpp-router-cost"] == "0.249605"
