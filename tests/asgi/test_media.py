"""Embeddings and images over the whole path: what is held, charged and told, and who is refused."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import pytest
from rig import BOB_KEY, KEY, check_books, gateway, read

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Declared, Limits
from hpp_middleware.types.replay import Idempotency

pytestmark = pytest.mark.anyio

EMBED = {"model": "fake/fake-1", "input": ["a", "b"]}
DRAW = {"model": "fake/fake-1", "prompt": "A cat", "n": 2, "size": "1024x1024", "quality": "low"}
EMBEDDED = {
    "object": "list",
    "data": [{"object": "embedding", "index": index, "embedding": [0.5]} for index in range(2)],
    "model": "fake-1",
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
DRAWN = {
    "created": 1795000000,
    "data": [{"b64_json": "aWY="}, {"b64_json": "bm90"}],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"image_tokens": 4, "text_tokens": 5},
        "output_tokens": 560,
        "output_tokens_details": {"image_tokens": 544, "text_tokens": 16},
        "total_tokens": 569,
    },
}
EMBEDDED_NANO = 7 * 1_000
DRAWN_NANO = 5 * 1_000 + 4 * 1_500 + 16 * 2_000 + 544 * 30_000
RATES = {"input": "1", "output": "2", "input_image": "1.5", "output_image": "30", "image_output_tokens": 272}

PATHS = [f"{prefix}{path}" for prefix in ("/llm/v1", "/v1") for path in ("/embeddings", "/images/generations")]
EVERY_PATH = pytest.mark.parametrize("path", PATHS)
BOTH = pytest.mark.parametrize("path", PATHS[:2])


def answer(body: Any, **settings: Any) -> Script:
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json", **settings)


def of(path: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A request to a path, an answer to it, and what that costs."""
    return (EMBED, EMBEDDED, EMBEDDED_NANO) if "embed" in path else (DRAW, DRAWN, DRAWN_NANO)


def ask(found: Gateway, path: str, *, key: str = KEY, headers: dict[str, str] | None = None, **fields: Any) -> Call:
    return post(found.app, path, {**of(path)[0], **fields}, headers={"apikey": key, **(headers or {})}, ahead=0)


async def asked(found: Gateway, path: str, **settings: Any) -> tuple[int, dict[str, str], Any]:
    async with ask(found, path, **settings) as call:
        status = await call.started()
        body = await call.json()
        headers = call.headers
        await call.returned()
    return status, headers, body


@pytest.fixture
async def upstream() -> AsyncGenerator[FakeUpstream]:
    async with FakeUpstream() as found:
        yield found


@EVERY_PATH
async def test_an_answer_is_passed_on_and_charged_to_the_nano_dollar(upstream: FakeUpstream, path: str) -> None:
    request, body, nano = of(path)
    async with gateway(upstream, model=RATES) as found:
        upstream.next(answer(body))
        status, headers, told = await asked(found, path)
        (entry,) = await check_books(found)
    assert status == 200
    assert told == ({**body, "model": "fake/fake-1"} if "model" in body else body)
    assert headers["x-hpp-router-resolved-model"] == "fake/fake-1"
    assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount == nano
    assert upstream.log[-1].path == path.removeprefix("/llm")
    assert upstream.log[-1].json() == {**request, "model": "fake-1"}
    assert entry.report is not None
    assert (entry.report.outcome, entry.report.estimated) == ("completed", False)
    assert json.loads(bytes(entry.report.usage_raw)) == body["usage"]
    assert entry.report.usage == (
        Usage(input=7) if "embed" in path else Usage(input=5, input_image=4, output=16, output_image=544)
    )


@BOTH
async def test_the_books_show_the_tokens_and_the_prices(upstream: FakeUpstream, path: str) -> None:
    async with gateway(upstream, model=RATES) as found:
        upstream.next(answer(of(path)[1]))
        _, headers, _ = await asked(found, path)
        audited = await read(found, f"/api/user/audit/{headers['x-request-id']}")
        usage = await read(found, "/api/usage")
    assert round(audited["cost"] * 10**9) == of(path)[2]
    assert usage["total_tokens"] == (7 if "embed" in path else 569)


@BOTH
async def test_a_client_that_is_told_the_cost_reads_it_in_the_usage(upstream: FakeUpstream, path: str) -> None:
    async with gateway(upstream, model=RATES, cost_in="usage") as found:
        upstream.next(answer(of(path)[1]))
        _, _, told = await asked(found, path)
    assert told["usage"] == {**of(path)[1]["usage"], "cost": told["usage"]["cost"]}
    assert round(told["usage"]["cost"] * 10**9) == of(path)[2]


@BOTH
@pytest.mark.parametrize(("policy", "charged"), [("estimate", "estimate"), ("hold", "hold"), ("free", "nothing")])
async def test_an_answer_without_usage_is_charged_by_the_policy(
    upstream: FakeUpstream, path: str, policy: str, charged: str
) -> None:
    body = {name: value for name, value in of(path)[1].items() if name != "usage"}
    async with gateway(upstream, model=RATES, missing_usage=policy) as found:
        upstream.next(answer(body))
        status, _, _ = await asked(found, path)
        (entry,) = await check_books(found)
    sent = len(upstream.log[-1].body)
    prompt = -(-sent // 4)
    if "embed" in path:
        estimate, held = prompt * 1_000, (-(-sent // 2) + 4) * 1_000
    else:
        estimate = prompt * 1_000 + 2 * 272 * 30_000
        held = (2 * -(-sent // 2) + 2 * 64) * 1_000 + 2 * 272 * 30_000
    assert status == 200
    assert entry.amount == {"estimate": estimate, "hold": held, "nothing": 0}[charged]
    assert entry.report is not None
    assert (entry.report.outcome, entry.report.estimated) == ("completed", True)


@BOTH
async def test_what_does_not_fit_in_the_quota_is_not_sent(upstream: FakeUpstream, path: str) -> None:
    consumers = {"alice": Declared(quota=1_000, keys=(KEY,))}
    async with gateway(upstream, model=RATES, consumers=consumers) as found:
        status, headers, body = await asked(found, path)
        assert (await found.store.balance("alice")).held == 0
    assert (status, body["error"]["code"], headers["x-should-retry"]) == (429, "insufficient_quota", "false")
    assert upstream.log == []


async def test_images_are_held_for_in_full_before_they_are_asked_for(upstream: FakeUpstream) -> None:
    images = 2 * 272 * 30_000
    for quota, status in ((images + 300_000, 200), (images, 429)):
        consumers = {"alice": Declared(quota=quota, keys=(KEY,))}
        async with gateway(upstream, model=RATES, consumers=consumers) as found:
            upstream.next(answer(DRAWN))
            assert (await asked(found, PATHS[1]))[0] == status
    assert len(upstream.log) == 1


@BOTH
@pytest.mark.parametrize(
    ("status", "ours", "code"),
    [(400, 400, "invalid_request"), (401, 502, "provider_unavailable"), (429, 429, "rate_limit_exceeded")],
)
async def test_an_upstreams_refusal_is_passed_on_and_costs_nothing(
    upstream: FakeUpstream, path: str, status: int, ours: int, code: str
) -> None:
    async with gateway(upstream, model=RATES) as found:
        upstream.next(
            Script(raw_body=b'{"error":{"message":"Not so."}}', status=status, content_type="application/json")
        )
        told, _, body = await asked(found, path)
        (entry,) = await check_books(found)
    assert (told, body["error"]["code"], entry.amount) == (ours, code, 0)
    assert body["error"]["provider"] == "fake"


@BOTH
@pytest.mark.parametrize("raw", [b"<html>", b"{}", b'{"data":', b'{"error":{"message":"No."}}'])
async def test_what_is_no_answer_is_a_bad_gateway(upstream: FakeUpstream, path: str, raw: bytes) -> None:
    async with gateway(upstream, model=RATES) as found:
        upstream.next(Script(raw_body=raw, content_type="application/json"))
        status, _, body = await asked(found, path)
        await check_books(found)
    assert (status, body["error"]["provider"]) == (502, "fake")


@BOTH
async def test_a_client_that_leaves_is_charged_what_was_used_all_the_same(upstream: FakeUpstream, path: str) -> None:
    async with gateway(upstream, model=RATES) as found:
        upstream.next(answer(of(path)[1], delay_head_s=0.3))
        async with ask(found, path) as call:
            while not upstream.log:  # noqa: ASYNC110  # it tells nobody
                await anyio.sleep(0.01)
            call.disconnect()
            await call.returned()
        (entry,) = await check_books(found)
    assert entry.amount == of(path)[2]
    assert entry.report is not None
    assert entry.report.outcome == "abandoned"


@BOTH
async def test_a_key_of_its_own_makes_a_request_safe_to_repeat(upstream: FakeUpstream, path: str) -> None:
    async with gateway(upstream, model=RATES, idempotency=Idempotency(keep=True)) as found:
        upstream.next(answer(of(path)[1]))
        first = await asked(found, path, headers={"idempotency-key": "once"})
        again = await asked(found, path, headers={"idempotency-key": "once"})
        (entry,) = await check_books(found)
    assert (first[0], first[2]) == (again[0], again[2])
    assert again[1]["idempotency-replayed"] == "true"
    assert entry.amount == of(path)[2]
    assert len(upstream.log) == 1


@BOTH
@pytest.mark.parametrize(
    ("settings", "status", "code"),
    [
        ({"key": "nobody-shows-this-key-of-his"}, 401, "unauthorized"),
        ({"model": "fake/unknown"}, 400, "unsupported_model"),
        ({"model": "nobody/fake-1"}, 400, "unsupported_model"),
        ({"model": "hpprouter/auto"}, 400, "smart_routing_failed"),
        ({"key": BOB_KEY}, 403, "model_not_allowed"),
        ({"stream": True}, 400, "invalid_request"),
        ({"api_key": "x"}, 400, "invalid_request"),
    ],
)
async def test_a_request_that_is_refused_is_not_sent(
    upstream: FakeUpstream, path: str, settings: dict[str, Any], status: int, code: str
) -> None:
    consumers = {
        "alice": Declared(quota=10**9, keys=(KEY,)),
        "bob": Declared(quota=10**9, keys=(BOB_KEY,), models=("fake/other",)),
    }
    async with gateway(upstream, model=RATES, consumers=consumers) as found:
        told, _, body = await asked(found, path, **settings)
    assert (told, body["error"]["code"]) == (status, code)
    assert upstream.log == []


@BOTH
async def test_a_provider_without_them_says_so(upstream: FakeUpstream, path: str) -> None:
    async with gateway(upstream, model=RATES, provider={"native_apis": frozenset()}) as found:
        status, _, body = await asked(found, path)
    name = "embeddings" if "embed" in path else "images"
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unsupported_model", "model")
    assert f"serves no {name}" in body["error"]["message"]


async def test_images_without_a_price_for_images_are_refused(upstream: FakeUpstream) -> None:
    async with gateway(upstream) as found:
        status, _, body = await asked(found, PATHS[1])
    assert (status, body["error"]["message"]) == (400, "fake/fake-1 has no price for image output.")
    assert upstream.log == []


@pytest.mark.parametrize(("asking", "resolved"), [({}, "gpt-image-1"), ({"model": "mine"}, "mine")])
async def test_a_bare_name_is_the_default_image_providers(
    upstream: FakeUpstream, asking: dict[str, str], resolved: str
) -> None:
    models = {f"fake/{name}": RATES for name in ("gpt-image-1", "mine")}
    async with gateway(upstream, models=models, image_provider="fake") as found:
        upstream.next(answer(DRAWN))
        body = {"prompt": "A cat", "n": 2, **asking}
        async with post(found.app, PATHS[1], body, headers={"apikey": KEY}) as call:
            assert await call.started() == 200
            await call.read()
        (entry,) = await check_books(found)
    assert upstream.log[-1].json()["model"] == resolved
    assert entry.draft is not None
    assert (entry.draft.model, entry.draft.requested_model) == (f"fake/{resolved}", resolved)


async def test_an_alias_is_before_the_default_provider(upstream: FakeUpstream) -> None:
    aliases = {"gpt-image-1": "fake/fake-1"}
    async with gateway(upstream, model=RATES, aliases=aliases) as found:
        upstream.next(answer(DRAWN))
        async with post(found.app, PATHS[1], {"prompt": "A cat"}, headers={"apikey": KEY}) as call:
            assert await call.started() == 200
            await call.read()
    assert upstream.log[-1].json()["model"] == "fake-1"


async def test_a_bare_name_of_an_embedding_model_is_no_models(upstream: FakeUpstream) -> None:
    async with gateway(upstream, model=RATES, image_provider="fake") as found:
        status, _, body = await asked(found, PATHS[0], model="fake-1")
    assert (status, body["error"]["code"]) == (400, "unsupported_model")


@BOTH
async def test_the_flat_form_of_errors_is_theirs_too(upstream: FakeUpstream, path: str) -> None:
    async with gateway(upstream, model=RATES, error_format="simple") as found:
        status, _, body = await asked(found, path, stream=True)
    assert (status, body["error"]) == (400, "invalid_request")
    assert "stream" in body["message"]


async def test_an_answer_of_images_may_be_larger_than_a_completion(upstream: FakeUpstream) -> None:
    limits = Limits(response_bytes=10_000, media_bytes=40_000)
    drawn = {**DRAWN, "data": [{"b64_json": "A" * 20_000}]}
    async with gateway(upstream, model=RATES, limits=limits) as found:
        upstream.next(answer(drawn), answer({**DRAWN, "data": [{"b64_json": "A" * 40_000}]}))
        assert (await asked(found, PATHS[1]))[2] == drawn
        assert (await asked(found, PATHS[1]))[0] == 502


GOOGLES = {
    PATHS[0]: (
        "batchEmbedContents",
        {"embeddings": [{"values": [0.5]}, {"values": [1.0]}], "usageMetadata": {"promptTokenCount": 7}},
        EMBEDDED_NANO,
    ),
    PATHS[1]: (
        "generateContent",
        {
            "candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "aWY="}}]}}],
            "usageMetadata": {
                "promptTokenCount": 6,
                "candidatesTokenCount": 1290,
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
                "thoughtsTokenCount": 10,
                "totalTokenCount": 1306,
            },
        },
        6 * 1_000 + 10 * 2_000 + 1290 * 30_000,
    ),
}


@BOTH
async def test_gemini_embeds_and_draws_and_is_charged_to_the_nano_dollar(upstream: FakeUpstream, path: str) -> None:
    method, body, nano = GOOGLES[path]
    model = {**RATES, "image_output_tokens": 1400}
    async with gateway(upstream, model=model, provider={"dialect": "gemini"}) as found:
        upstream.next(answer(body), answer({"error": {"code": 400, "message": "Not so.", "status": "X"}}, status=400))
        status, headers, told = await asked(found, path, **({"n": 1} if "images" in path else {}))
        refused = await asked(found, path, **({"n": 1} if "images" in path else {}))
        lines = await check_books(found)
    assert (status, len(told["data"])) == (200, 2 if "embed" in path else 1)
    assert upstream.log[0].path == f"/v1/models/fake-1:{method}"
    assert [line.amount for line in lines] == [nano, 0]
    assert round(float(headers["x-hpp-router-cost"]) * 10**9) == nano
    assert (refused[0], refused[2]["error"]["message"]) == (400, "Not so.")
    if "images" in path:
        assert headers["x-hpp-router-dropped-fields"] == "quality"
        assert told["usage"]["output_tokens"] == 1300


@BOTH
async def test_they_are_limited_as_completions_are(upstream: FakeUpstream, path: str) -> None:
    limit = RateLimit(requests_per_hour=2, tokens_per_hour=10_000)
    async with gateway(upstream, model=RATES, rate_limits=[limit]) as found:
        upstream.script = answer(of(path)[1])
        told = [await asked(found, path) for _ in range(3)]
        tokens = 7 if "embed" in path else 569
    assert [status for status, _, _ in told] == [200, 200, 429]
    left = [int(headers["x-ratelimit-remaining-tokens"]) for _, headers, _ in told[:2]]
    assert abs(left[0] - tokens - left[1]) <= 60  # what comes back of 10,000 an hour in 20 seconds
    assert told[2][2]["error"]["code"] == "rate_limit_exceeded"
    assert len(upstream.log) == 2
