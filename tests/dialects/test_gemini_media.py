"""Embeddings and images of the Gemini API: asked in what Google's own types take, and answered in OpenAI's words."""

import base64
import json
import struct
from typing import Any

import pytest
from google.genai import types as genai
from openai.types import CreateEmbeddingResponse, ImagesResponse

from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.apis.images import IMAGES
from hpp_middleware.core import price as pricing
from hpp_middleware.core.bound import bound
from hpp_middleware.core.relay import ProtocolError, StreamedError
from hpp_middleware.dialects.gemini import Gemini, Vertex
from hpp_middleware.dialects.gemini.embeddings import VertexEmbeddings
from hpp_middleware.dialects.gemini.media import GeminiImages
from hpp_middleware.dialects.media import Media
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

DOLLAR = 10**12
PRICE = Price(base=Rates(input=3 * DOLLAR // 10, output=25 * DOLLAR // 10, output_image=30 * DOLLAR))
PNG = base64.b64encode(b"\x89PNG").decode()
USAGE = {"promptTokenCount": 6, "candidatesTokenCount": 1290, "totalTokenCount": 1296}


def target(name: str = "gemini-2.5-flash-image") -> Target:
    provider = Provider(base_url="https://g.test/v1beta", api_key="AIza")
    return Target(id=f"g/{name}", provider_name="g", model_name=name, provider=provider, model=Model(), price=PRICE)


GEMINI = Gemini()
EMBED, DRAW = GEMINI._embeddings, GEMINI._images


def texts(**fields: Any) -> Request:
    return EMBEDDINGS.request(json.dumps({"model": "g/m", "input": ["a", "b"], **fields}).encode(), Limits())


def picture(**fields: Any) -> Request:
    return IMAGES.request(json.dumps({"model": "g/m", "prompt": "A cat", **fields}).encode(), Limits())


def refused(dialect: Media, request: Request) -> str | None:
    with pytest.raises(RequestError) as caught:
        dialect.call(request, target(), cap=None, request_id="req_1")
    assert caught.value.status == 400
    assert str(caught.value.param) in caught.value.message
    return caught.value.param


def test_texts_are_asked_for_as_google_has_it() -> None:
    made = EMBED.call(texts(dimensions=256, user="me"), target("gemini-embedding-001"), cap=None, request_id="req_1")
    assert made.url.endswith("/models/gemini-embedding-001:batchEmbedContents")
    assert made.headers == [*made.shared, ("X-Request-Id", "req_1")]
    requests = json.loads(made.body)["requests"]
    assert [each["content"]["parts"][0]["text"] for each in requests] == ["a", "b"]
    for each in requests:
        genai.Content.model_validate(each["content"])
        assert (each["model"], each["outputDimensionality"]) == ("models/gemini-embedding-001", 256)
        assert each.keys() == {"model", "content", "outputDimensionality"}
    assert (made.dropped, made.more_tokens) == (("user",), 4)


@pytest.mark.parametrize(
    ("fields", "param"), [({"input": [1, 2]}, "input"), ({"input": ["a"] * 101}, "input"), ({"task": "x"}, "task")]
)
def test_what_google_cannot_embed_is_refused(fields: dict[str, Any], param: str) -> None:
    assert refused(EMBED, texts(**fields)) == param
    assert EMBED.call(texts(input=["a"] * 100), target(), cap=None, request_id="req_1").dropped == ()


@pytest.mark.parametrize("packed", [False, True])
def test_vectors_come_as_openais(packed: bool) -> None:  # noqa: FBT001
    vectors = [[0.5, -0.25], [1.0, 2.0]]
    answer = {"embeddings": [{"values": each} for each in vectors], "usageMetadata": {"promptTokenCount": 4}}
    genai.EmbedContentResponse.model_validate(answer)
    request = texts(encoding_format="base64") if packed else texts()
    body, seen = EMBED.answer(json.dumps(answer).encode(), request, target())
    found = json.loads(body)
    given = [each["embedding"] for each in found["data"]]
    assert ([list(struct.unpack("<2f", base64.b64decode(each))) for each in given] if packed else given) == vectors
    assert (found["model"], found["usage"]) == ("g/gemini-2.5-flash-image", {"prompt_tokens": 4, "total_tokens": 4})
    assert seen.usage == Usage(input=4)
    if not packed:
        CreateEmbeddingResponse.model_validate(found, strict=True)


def at_vertex(name: str = "text-embedding-005") -> Target:
    options = {"project": "p", "location": "europe-west4"}
    provider = Provider(base_url="https://aiplatform.googleapis.com/v1", dialect="vertex", options=options)
    return Target(id=f"v/{name}", provider_name="v", model_name=name, provider=provider, model=Model(), price=PRICE)


def test_vertex_predicts_vectors() -> None:
    dialect = Vertex().native("embeddings", at_vertex().provider)
    assert dialect is not None
    made = dialect.call(texts(dimensions=256, user="me"), at_vertex(), cap=None, request_id="req_1")
    place = "/v1/projects/p/locations/europe-west4/publishers/google/models/text-embedding-005:predict"
    assert made.url == f"https://europe-west4-aiplatform.googleapis.com{place}"
    assert json.loads(made.body) == {
        "instances": [{"content": "a"}, {"content": "b"}],
        "parameters": {"autoTruncate": False, "outputDimensionality": 256},
    }
    assert (made.dropped, made.more_tokens) == (("user",), 4)
    predictions = [
        {"embeddings": {"values": [0.5], "statistics": {"token_count": count, "truncated": False}}} for count in (3, 4)
    ]
    answer = {"predictions": predictions, "metadata": {"billableCharacterCount": 9}}
    body, seen = dialect.answer(json.dumps(answer).encode(), texts(), at_vertex())
    found = CreateEmbeddingResponse.model_validate_json(body)
    assert [each.embedding for each in found.data] == [[0.5], [0.5]]
    assert (found.usage.prompt_tokens, seen.usage) == (7, Usage(input=7))
    assert seen.usage is not None
    assert pricing.cost(seen.usage, PRICE) == 7 * 300
    del answer["predictions"][0]["embeddings"]["statistics"]  # type: ignore[index]
    assert dialect.answer(json.dumps(answer).encode(), texts(), at_vertex())[1].usage is None
    with pytest.raises(ProtocolError):
        dialect.answer(b'{"predictions":[{}]}', texts(), at_vertex())


def test_vertex_takes_as_many_texts_as_its_model_does() -> None:
    dialect = Vertex().native("embeddings", at_vertex().provider)
    assert dialect is not None
    made = dialect.call(texts(input=["a"] * 250), at_vertex(), cap=None, request_id="req_1")
    assert len(json.loads(made.body)["instances"]) == 250
    for count, name in ((251, "text-embedding-005"), (2, "gemini-embedding-001")):
        with pytest.raises(RequestError) as caught:
            dialect.call(texts(input=["a"] * count), at_vertex(name), cap=None, request_id="req_1")
        assert caught.value.param == "input"


def test_vectors_without_usage_report_none() -> None:
    body, seen = EMBED.answer(b'{"embeddings":[{"values":[1.0]}]}', texts(), target())
    assert seen.usage is None
    assert "usage" not in json.loads(body)


@pytest.mark.parametrize(
    ("size", "ratio"), [("1024x1024", "1:1"), ("1024x1536", "2:3"), ("1536x1024", "3:2"), (None, None)]
)
def test_an_image_is_asked_for_as_google_has_it(size: str | None, ratio: str | None) -> None:
    request = picture(size=size, quality="high", output_format="png")
    made = DRAW.call(request, target(), cap=None, request_id="req_1")
    assert made.url.endswith("/models/gemini-2.5-flash-image:generateContent")
    asked = json.loads(made.body)
    genai.Content.model_validate(asked["contents"][0])
    config = genai.GenerateContentConfig.model_validate(asked["generationConfig"])
    assert config.image_config is None if ratio is None else config.image_config is not None
    assert asked["generationConfig"].get("imageConfig") == (None if ratio is None else {"aspectRatio": ratio})
    assert config.response_modalities == ["IMAGE"]
    assert made.dropped == ("quality",)
    held = bound(request, target(), sent_bytes=len(made.body), limits=Limits(), more_tokens=made.more_tokens)
    most = Usage(input=64, output_image=config.max_output_tokens or 0)
    assert held.want >= pricing.cost(most, PRICE)
    assert held.cap == config.max_output_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "webp"}, "output_format"),
        ({"style": "vivid"}, "style"),
    ],
)
def test_what_google_cannot_draw_is_refused(fields: dict[str, Any], param: str) -> None:
    assert refused(DRAW, picture(**fields)) == param


def test_an_image_comes_as_openais() -> None:
    parts = [
        {"thought": True, "inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"text": "Here it is."},
        {"inlineData": {"mimeType": "image/png", "data": PNG}},
    ]
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}], "usageMetadata": USAGE}
    genai.GenerateContentResponse.model_validate(answer)
    body, seen = DRAW.answer(json.dumps(answer).encode(), picture(), target(), request_id="req_0192f0000000aaaa")
    found = ImagesResponse.model_validate_json(body)
    assert [each.b64_json for each in found.data or []] == [PNG]
    assert found.usage is not None
    assert (found.usage.output_tokens, found.output_format) == (1290, "png")
    assert (seen.usage, seen.images) == (Usage(input=6, output_image=1290), 1)
    assert seen.usage is not None
    assert pricing.cost(seen.usage, PRICE) == 6 * 300 + 1290 * 30_000


@pytest.mark.parametrize(
    "answer",
    [
        {"candidates": [{"content": {"parts": [{"text": "No."}]}, "finishReason": "IMAGE_SAFETY"}]},
        {"candidates": [{"finishReason": "IMAGE_SAFETY"}]},
        {"promptFeedback": {"blockReason": "SAFETY"}},
    ],
)
def test_where_none_is_drawn_it_is_an_error_that_costs_what_is_reported(answer: dict[str, Any]) -> None:
    with pytest.raises(StreamedError) as caught:
        DRAW.answer(json.dumps({**answer, "usageMetadata": USAGE}).encode(), picture(), target())
    assert json.loads(caught.value.args[0])["code"] == "content_policy_violation"
    assert caught.value.args[1].usage == Usage(input=6, output_image=1290)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"candidates":1}', b'{"embeddings":1}', b'{"usageMetadata":{}}'])
def test_what_is_no_answer_is_none(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        DRAW.answer(body, picture(), target())
    with pytest.raises(ProtocolError):
        EMBED.answer(body, texts(), target())


def test_vertex_draws_but_has_embeddings_in_another_form() -> None:
    provider = Provider(base_url="https://aiplatform.googleapis.com/v1", api_key="AIza")
    assert isinstance(Vertex().native("embeddings", provider), VertexEmbeddings)
    assert Vertex().native("embeddings", Provider(base_url="https://g.test/v1", native_apis=frozenset())) is None
    assert isinstance(Vertex().native("images", provider), GeminiImages)
    assert GEMINI.native("messages", provider) is None
    assert (GEMINI.native("embeddings", provider), GEMINI.native("images", provider)) == (EMBED, DRAW)
    assert GEMINI.native("images", Provider(base_url="https://g.test", native_apis=frozenset())) is None


def test_googles_errors_are_read() -> None:
    told = DRAW.refusal(400, {}, b'{"error":{"code":400,"message":"Bad prompt.","status":"INVALID_ARGUMENT"}}')
    assert json.loads(told)["error"]["message"] == "Bad prompt."
