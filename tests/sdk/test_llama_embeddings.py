"""llama.cpp's own server embeds behind the router: vectors and tokens are its own, and so is the bill."""

from collections.abc import Iterator
from typing import Literal

import llama as llama_server
import openai
import pytest
from rig import KEY
from servers import serve

from hpp_middleware import Gateway, Provider
from hpp_middleware.types.provider import Declared

MODEL = "local/tiny-random"
NANO = 3_000
"""What a token costs."""

INPUTS: list[str | list[str] | list[int] | list[list[int]]] = [
    "hello world",
    ["hello", "the world", "a" * 300, "\U0001f600 \u65e5\u672c\u8a9e"],
    [1, 262, 270, 5],
    [[1, 262], [270, 5, 6]],
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_server.Llama]:
    with llama_server.running(tmp_path_factory.mktemp("embedder"), embeddings=True) as found:
        yield found


@pytest.fixture(scope="module")
def gateway(server: llama_server.Llama) -> Gateway:
    return Gateway(
        providers={"local": Provider(base_url=server.url, bytes_per_token=1)},
        models={MODEL: {"input": "3", "output": "0"}},
        consumers={"alice": Declared(quota=10**10, keys=(KEY,))},
        prices=None,
    )


@pytest.fixture(scope="module")
def through(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with serve(gateway.app) as url, openai.DefaultHttpxClient(trust_env=False) as http_client:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, http_client=http_client)


@pytest.fixture(scope="module")
def direct(server: llama_server.Llama) -> Iterator[openai.OpenAI]:
    with openai.DefaultHttpxClient(trust_env=False) as http_client:
        yield openai.OpenAI(base_url=server.url, api_key="none", http_client=http_client)


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: str(given)[:20])
@pytest.mark.parametrize("as_floats", [False, True])
def test_vectors_and_usage_are_the_servers_own_and_are_charged(
    through: openai.OpenAI,
    direct: openai.OpenAI,
    given: str | list[str] | list[int] | list[list[int]],
    as_floats: bool,  # noqa: FBT001
) -> None:
    encoding: Literal["float"] | openai.Omit = "float" if as_floats else openai.omit
    raw = through.embeddings.with_raw_response.create(model=MODEL, input=given, encoding_format=encoding)
    found, alone = raw.parse(), direct.embeddings.create(model="tiny-random", input=given, encoding_format=encoding)
    assert [each.index for each in found.data] == [each.index for each in alone.data]
    for ours, theirs in zip(found.data, alone.data, strict=True):
        assert len(ours.embedding) == llama_server.EMBEDDING
        assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-5)
    assert found.usage == alone.usage
    assert found.model == MODEL
    assert round(float(raw.headers["x-hpp-router-cost"]) * 10**9) == found.usage.prompt_tokens * NANO


@pytest.mark.anyio
async def test_no_bill_was_above_its_hold(through: openai.OpenAI, gateway: Gateway) -> None:
    for given in INPUTS:
        through.embeddings.create(model=MODEL, input=given)
    lines = await gateway.store.lines("alice")
    assert len(lines) >= len(INPUTS)
    assert {line.line for line in lines} == {"resolution"}  # what is above a hold has a line of its own
    assert all(0 < line.amount <= line.held for line in lines)
