"""Ollama's own embeddings: asked in its words, answered in OpenAI's, and billed by its count."""

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from background import BackgroundUpstream
from openai.types import CreateEmbeddingResponse
from rig import gateway as make_gateway
from sdk.served import CONSUMERS, Router, sdk, served

from hpp_middleware import Gateway
from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.core.relay import ProtocolError
from hpp_middleware.dialects.ollama import Ollama
from hpp_middleware.errors import RequestError
from hpp_middleware.testing import Script
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

VECTORS = [[0.5, -0.25], [1.0, 2.0]]
TOO_LONG = b'{"error":"the input length exceeds the context length"}'
ANSWER = {"model": "m", "embeddings": VECTORS, "total_duration": 9, "load_duration": 1, "prompt_eval_count": 8}


def target(**provider: Any) -> Target:
    configured: dict[str, Any] = {"base_url": "http://127.0.0.1:11434/v1", "dialect": "ollama", **provider}
    return Target(
        id="ollama/nomic-embed-text",
        provider_name="ollama",
        model_name="nomic-embed-text",
        provider=Provider(**configured),
        model=Model(),
        price=Price(base=Rates(input=10**12, output=0)),
    )


def texts(**fields: Any) -> Request:
    return EMBEDDINGS.request(json.dumps({"model": "ollama/m", "input": ["a", "b"], **fields}).encode(), Limits())


def dialect() -> Any:
    found = Ollama().native("embeddings", target().provider)
    assert found is not None
    return found


def test_texts_are_asked_for_at_its_own_api() -> None:
    made = dialect().call(texts(user="me", dimensions=64), target(), cap=None, request_id="req_1")
    assert made.url == "http://127.0.0.1:11434/api/embed"
    assert json.loads(made.body) == {
        "model": "nomic-embed-text",
        "input": ["a", "b"],
        "truncate": False,
        "dimensions": 64,
    }
    assert (made.dropped, made.more_tokens) == (("user",), 4)
    assert made.headers[-1] == ("X-Request-Id", "req_1")
    assert "Authorization" not in dict(made.headers)
    set_here = target(options={"keep_alive": "10m", "num_ctx": "512"}, api_key="k")
    made = dialect().call(texts(input="a"), set_here, cap=None, request_id="req_1")
    assert json.loads(made.body)["input"] == ["a"]
    assert (json.loads(made.body)["keep_alive"], json.loads(made.body)["options"]) == ("10m", {"num_ctx": 512})
    assert dict(made.headers)["Authorization"] == "Bearer k"


@pytest.mark.parametrize(("fields", "param"), [({"input": [1, 2]}, "input"), ({"task": "x"}, "task")])
def test_what_it_has_no_word_for_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as raised:
        dialect().call(texts(**fields), target(), cap=None, request_id="req_1")
    assert raised.value.param == param


def test_vectors_come_as_openai_s_and_are_counted() -> None:
    body, seen = dialect().answer(json.dumps(ANSWER).encode(), texts(), target())
    found = CreateEmbeddingResponse.model_validate_json(body)
    assert [each.embedding for each in found.data] == VECTORS
    assert (found.model, found.usage.prompt_tokens, seen.usage) == ("ollama/nomic-embed-text", 8, Usage(input=8))
    assert bytes(seen.usage_raw) == b'{"prompt_eval_count":8}'
    packed, _ = dialect().answer(json.dumps(ANSWER).encode(), texts(encoding_format="base64"), target())
    given = [each["embedding"] for each in json.loads(packed)["data"]]
    assert [list(struct.unpack("<2f", base64.b64decode(each))) for each in given] == VECTORS
    silent, seen = dialect().answer(b'{"embeddings":[[1.0]]}', texts(), target())
    assert (seen.usage, "usage" in json.loads(silent)) == (None, False)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"embeddings":[["x"]]}', b"\xff"])
def test_what_is_no_answer_is_a_fault(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        dialect().answer(body, texts(), target())


def test_only_where_the_provider_is_said_to_have_them() -> None:
    assert Ollama().native("embeddings", Provider(base_url="http://o.test", native_apis=frozenset())) is None
    assert Ollama().native("images", target().provider) is None


@pytest.fixture
def gateway(background_upstream: BackgroundUpstream) -> Gateway:
    return make_gateway(
        background_upstream.url,
        provider={"dialect": "ollama"},
        models={"fake/nomic-embed-text": {"input": "0.02", "output": "0"}},
        consumers=CONSUMERS,
    )


@pytest.fixture
def router(background_upstream: BackgroundUpstream, gateway: Gateway) -> Iterator[Router]:
    with served(background_upstream, gateway) as found:
        yield found


@pytest.mark.anyio
async def test_openai_s_sdk_embeds_and_the_ledger_has_the_count(router: Router, gateway: Gateway) -> None:
    router.upstream.next(
        Script(raw_body=json.dumps(ANSWER).encode(), content_type="application/json"),
        Script(status=400, raw_body=TOO_LONG, content_type="application/json"),
    )
    with sdk(router, max_retries=0) as client:
        raw = client.embeddings.with_raw_response.create(model="fake/nomic-embed-text", input=["Hello", "world"])
        assert [each.embedding for each in raw.parse().data] == VECTORS
        assert raw.headers["x-hpp-router-cost"] == "0.00000016"
        assert router.upstream.last.path == "/api/embed"
        with pytest.raises(openai.BadRequestError) as raised:
            client.embeddings.create(model="fake/nomic-embed-text", input="x")
    assert raised.value.code == "context_length_exceeded"
    assert [line.amount for line in await gateway.store.lines("alice")] == [8 * 20, 0]
