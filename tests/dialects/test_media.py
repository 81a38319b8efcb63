"""Embeddings and images as OpenAI's dialect sends them on, and what it makes of the answers."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CreateEmbeddingResponse, ImagesResponse
from openai.types.embedding_create_params import EmbeddingCreateParams
from openai.types.image_generate_params import ImageGenerateParamsNonStreaming
from pydantic import TypeAdapter

from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.apis.images import IMAGES
from hpp_middleware.core import price as pricing
from hpp_middleware.core.bound import bound
from hpp_middleware.core.drawing import QUALITIES, SIZES, most_tokens
from hpp_middleware.core.relay import ProtocolError, StreamedError
from hpp_middleware.core.settlement import End, Settlement, settle
from hpp_middleware.dialects.azure import Azure
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.errors import RequestError
from hpp_middleware.ports import API, Dialect
from hpp_middleware.types.completion import Drawing, Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

LIMITS = Limits()
DOLLAR = 10**12
PRICE = Price(base=Rates(input=5 * DOLLAR, output=10 * DOLLAR, input_image=8 * DOLLAR, output_image=32 * DOLLAR))
PNG = base64.b64encode(b"\x89PNG no image at all").decode()
BOTH = pytest.mark.parametrize("api", [EMBEDDINGS, IMAGES], ids=lambda api: api.name)


def target(name: str = "gpt-image-1", **provider: Any) -> Target:
    return Target(
        id=f"p/{name}",
        provider_name="p",
        model_name=name,
        provider=Provider(**{"base_url": "https://p.test/v1/", "api_key": "sk-operator", **provider}),
        model=Model(),
        price=PRICE,
    )


def asked(api: API, **fields: Any) -> Request:
    least = {"input": "Hello"} if api is EMBEDDINGS else {"prompt": "A cat"}
    return api.request(json.dumps({"model": "p/m", **least, **fields}).encode(), LIMITS)


def dialect(api: API, where: Target | None = None) -> Dialect:
    found: Dialect | None = OpenAI().native(api.name, (where or target()).provider)
    assert found is not None
    return found


def call(api: API, *, where: Target | None = None, **fields: Any) -> HTTPCall:
    return dialect(api).call(asked(api, **fields), where or target(), cap=None, request_id="req-1")


@BOTH
def test_a_call_goes_where_openai_has_it_and_says_no_more_than_the_client(api: API) -> None:
    made = call(api, user="me", x=[1, {"y": None}])
    assert made.url == "https://p.test/v1/" + {"embeddings": "embeddings", "images": "images/generations"}[api.name]
    assert ("Authorization", "Bearer sk-operator") in made.headers
    assert made.headers[-1] == ("X-Request-Id", "req-1")
    assert made.headers[:-1] == list(made.shared)
    least = {"input": "Hello"} if api is EMBEDDINGS else {"prompt": "A cat"}
    assert json.loads(made.body) == {"model": "gpt-image-1", **least, "user": "me", "x": [1, {"y": None}]}


@pytest.mark.parametrize("value", ["Hello", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_a_call_for_embeddings_is_what_openais_own_type_takes(value: Any) -> None:
    made = call(EMBEDDINGS, input=value, dimensions=256, encoding_format="base64", user="me")
    TypeAdapter(EmbeddingCreateParams).validate_json(made.body)
    assert json.loads(made.body)["input"] == value


def test_a_call_for_images_is_what_openais_own_type_takes() -> None:
    made = call(IMAGES, n=4, size="1024x1536", quality="high", background="opaque", output_format="webp", stream=False)
    TypeAdapter(ImageGenerateParamsNonStreaming).validate_json(made.body)


def test_a_request_without_a_model_names_it_all_the_same() -> None:
    request = IMAGES.request(b'{"prompt":"A cat"}', LIMITS)
    made = dialect(IMAGES).call(request, target("gpt-image-1"), cap=None, request_id="req-1")
    assert json.loads(made.body) == {"prompt": "A cat", "model": "gpt-image-1"}


def test_a_provider_that_has_none_of_them_is_not_asked() -> None:
    provider = Provider(base_url="https://p.test", native_apis=frozenset({"images"}))
    assert OpenAI().native("embeddings", provider) is None
    assert OpenAI().native("images", provider) is not None
    assert OpenAI().native("rerank", Provider(base_url="https://p.test", native_apis=frozenset({"rerank"}))) is None


@BOTH
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("partial_images", 2),
        ("image", "data:image/png;base64,AA=="),
        ("images", [{"file_id": "f"}]),
        ("MASK", "x"),
        ("input_fidelity", "high"),
        ("service_tier", "priority"),
        ("Service_Tier", "priority"),
        ("best_of", 3),
        ("turbo", True),
        ("reference_images", ["https://x.example/a.png"]),
        ("input_references", [{"type": "image_url"}]),
        ("fallbacks", ["text-embedding-3-large"]),
        ("mock_testing_fallbacks", True),
        ("providerOptions", {"gateway": {"models": ["dear"]}}),
        ("guardrails", ["pii"]),
        ("safety_model", "guard"),
    ],
)
def test_what_changes_the_cost_without_a_price_is_refused(api: API, field: str, value: Any) -> None:
    where = target(cost_fields=frozenset({"turbo"}))
    with pytest.raises(RequestError) as caught:
        call(api, where=where, **{field: value})
    assert (caught.value.status, caught.value.param) == (400, field)
    call(api, where=where, **{field: None})
    call(api, service_tier="flex")
    call(api, moderation="low")


# --- holds are upper bounds ------------------------------------------------------------------------

TEXTS = st.text(min_size=1, max_size=12)


def hold(api: API, request: Request, where: Target) -> int:
    made = dialect(api).call(request, where, cap=None, request_id="req-1")
    found = bound(request, where, sent_bytes=len(made.body), limits=LIMITS, more_tokens=made.more_tokens)
    assert (found.want, found.ours) == (found.floor, False)
    return found.want


@given(st.lists(TEXTS, min_size=1, max_size=50))
def test_texts_are_held_for_with_a_token_each_byte_and_two_around_each(texts: list[str]) -> None:
    where = target(bytes_per_token=1)
    most = sum(len(text.encode()) + 2 for text in texts)  # no tokenizer of bytes makes more of them
    held = hold(EMBEDDINGS, asked(EMBEDDINGS, input=texts), where)
    assert held >= pricing.cost(Usage(input=most), PRICE)


@given(st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30), min_size=1, max_size=10))
def test_tokens_are_held_for_exactly(tokens: list[list[int]]) -> None:
    held = hold(EMBEDDINGS, asked(EMBEDDINGS, input=tokens), target())
    assert held == pricing.cost(Usage(input=sum(map(len, tokens))), PRICE)


@given(
    st.text(min_size=1, max_size=100),
    st.integers(1, 4),
    st.sampled_from([None, *SIZES]),
    st.sampled_from([None, "auto", *QUALITIES]),
    st.data(),
)
def test_images_are_held_for_by_the_most_that_they_can_be(
    prompt: str, n: int, size: str | None, quality: str | None, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["gpt-image-1", "gpt-image-1.5", "gpt-image-2", "flux"]))
    where = target(name, bytes_per_token=1)
    request = asked(IMAGES, prompt=prompt, n=n, size=size, quality=quality)
    drawn_size = size or data.draw(st.sampled_from(SIZES))
    drawn_quality = quality if quality in QUALITIES else data.draw(st.sampled_from(QUALITIES))
    each = most_tokens(where, Drawing(drawn_size, drawn_quality))
    usage = Usage(input=n * (len(prompt.encode()) + 64), output_image=n * each)
    assert hold(IMAGES, request, where) >= pricing.cost(usage, PRICE)


def test_the_hold_of_an_image_is_the_published_figure_at_the_rate_of_images() -> None:
    low = asked(IMAGES, size="1024x1024", quality="low")
    made = dialect(IMAGES).call(low, target(), cap=None, request_id="req-1")
    prompt = -(-len(made.body) // 2) + 64
    assert hold(IMAGES, low, target()) == prompt * 8_000 * 5 // 8 + 272 * 32_000


# --- answers ---------------------------------------------------------------------------------------

EMBEDDED = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
DRAWN = {
    "created": 1795000000,
    "background": "opaque",
    "data": [{"b64_json": PNG}, {"b64_json": PNG}],
    "output_format": "png",
    "quality": "low",
    "size": "1024x1024",
    "usage": {
        "input_tokens": 8,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 8},
        "output_tokens": 544,
        "total_tokens": 552,
    },
}


def answered(api: API, body: Any, charge: Any = None) -> tuple[bytes, Seen]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return dialect(api).answer(raw, asked(api), target(), charge=charge)


def charge(end: End, seen: Seen) -> Settlement:
    return settle(end, seen, price=PRICE, hold=10**12, prompt_estimate=100, image_estimate=272)


def test_embeddings_come_as_they_are_with_the_resolved_model() -> None:
    body, seen = answered(EMBEDDINGS, EMBEDDED)
    assert json.loads(body) == {**EMBEDDED, "model": "p/gpt-image-1"}
    assert CreateEmbeddingResponse.model_validate_json(body).data[0].embedding == [0.25, -1.5]
    assert (seen.usage, seen.usage_doubtful, seen.images, seen.finished) == (Usage(input=8), False, 0, True)
    assert json.loads(bytes(seen.usage_raw or b"")) == EMBEDDED["usage"]


def test_images_come_as_the_very_bytes_that_they_were() -> None:
    raw = json.dumps(DRAWN, indent=2).encode()
    body, seen = answered(IMAGES, raw)
    assert body is raw
    assert ImagesResponse.model_validate_json(body).usage is not None
    assert (seen.usage, seen.images) == (Usage(input=8, output_image=544), 2)


def test_an_answer_of_images_that_names_its_model_has_the_resolved_one() -> None:
    body, _ = answered(IMAGES, {**DRAWN, "model": "gpt-image-1-2025"})
    assert json.loads(body) == {**DRAWN, "model": "p/gpt-image-1"}


@pytest.mark.parametrize(
    ("api", "body", "usage"),
    [
        (EMBEDDINGS, EMBEDDED, {"prompt_tokens": 8, "total_tokens": 8, "cost": 4e-05}),
        (IMAGES, DRAWN, {**DRAWN["usage"], "cost": 0.017448}),  # type: ignore[dict-item]
        (
            EMBEDDINGS,
            {**EMBEDDED, "usage": None},
            {"prompt_tokens": 100, "total_tokens": 100, "cost": 0.0005, "estimated": True},
        ),
        (
            IMAGES,
            {**DRAWN, "usage": None},
            {
                "input_tokens": 100,
                "input_tokens_details": {"image_tokens": 0, "text_tokens": 100},
                "output_tokens": 544,
                "output_tokens_details": {"image_tokens": 544, "text_tokens": 0},
                "total_tokens": 644,
                "cost": 0.017908,
                "estimated": True,
            },
        ),
    ],
)
def test_a_client_that_is_told_the_cost_reads_it_in_its_own_form_of_usage(
    api: API, body: dict[str, Any], usage: dict[str, Any]
) -> None:
    told, seen = answered(api, body, charge)
    assert json.loads(told)["usage"] == usage
    assert round(usage["cost"] * 10**9) == charge(End.COMPLETED, seen).amount


@BOTH
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"{", b'{"data":1}', b'{"data":{}}', b'{"data":null}', b'{"\xff":1}']
)
def test_what_is_no_answer_is_none(api: API, body: bytes) -> None:
    with pytest.raises(ProtocolError):
        answered(api, body)


@BOTH
def test_an_error_in_spite_of_its_status_is_one_and_its_usage_is_kept(api: API) -> None:
    whole = EMBEDDED if api is EMBEDDINGS else DRAWN
    with pytest.raises(StreamedError) as caught:
        answered(api, {**whole, "error": {"message": "No."}})
    assert json.loads(caught.value.args[0]) == {"message": "No."}
    assert caught.value.args[1].usage is not None


@BOTH
def test_an_unusable_usage_is_no_report(api: API) -> None:
    whole = EMBEDDED if api is EMBEDDINGS else DRAWN
    _, seen = answered(api, {**whole, "usage": {"prompt_tokens": "many", "input_tokens": "many"}})
    assert seen.usage is None


@given(st.integers(0, 4), st.sampled_from(list(End)))
def test_images_without_usage_are_charged_an_estimate_that_no_hold_is_below(count: int, end: End) -> None:
    request = asked(IMAGES, n=4, quality="high")
    where = target()
    held = hold(IMAGES, request, where)
    estimate = most_tokens(where, Drawing(None, "high"))
    seen = Seen(images=count, finished=True)
    found = settle(end, seen, price=PRICE, hold=held, prompt_estimate=10, image_estimate=estimate)
    assert found.amount <= held
    if end is End.COMPLETED:
        assert found.amount == pricing.cost(Usage(input=10, output_image=count * estimate), PRICE)
        assert found.estimated


@pytest.mark.parametrize(
    ("version", "place"),
    [("v1", "/openai/v1/"), ("2024-10-21", "/openai/deployments/gpt-image-1/")],
)
@BOTH
def test_azure_has_them_at_its_own_address_with_its_own_header(api: API, version: str, place: str) -> None:
    where = target(base_url="https://me.openai.azure.com", options={"api_version": version}, dialect="azure")
    native = Azure().native(api.name, where.provider)
    made = native.call(asked(api), where, cap=None, request_id="req-1")
    path = {"embeddings": "embeddings", "images": "images/generations"}[api.name]
    assert made.url.partition("?")[0] == f"https://me.openai.azure.com{place}{path}"
    assert ("api-version" in made.url) == (version != "v1")
    assert dict(made.headers)["api-key"] == "sk-operator"
    assert "Authorization" not in dict(made.headers)
