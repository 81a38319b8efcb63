"""Azure OpenAI: OpenAI's dialect at Azure's addresses, with what Azure adds to answers."""

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, CompletionCreateParams
from pydantic import TypeAdapter

from hpp_middleware.core import parse, relay, reply
from hpp_middleware.core import price as pricing
from hpp_middleware.core.settlement import End, settle
from hpp_middleware.dialects.azure import Azure, url
from hpp_middleware.dialects.presets import provider as preset
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

HI: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
BASE = "https://acme.openai.azure.com"
PRICE = Price(base=pricing.rates_from_usd({"input": "2.5", "output": "10", "cache_read": "1.25"}, "price"))


def target(deployment: str = "our-4o", base_url: str = BASE, **provider: Any) -> Target:
    settings: dict[str, Any] = {"dialect": "azure", "api_key": "azure-key", **provider}
    return Target(
        id=f"azure/{deployment}",
        provider_name="azure",
        model_name=deployment,
        provider=Provider(base_url=base_url, **settings),
        model=Model(),
        price=PRICE,
    )


def request(**fields: Any) -> Request:
    return parse.completion(json.dumps({"model": "azure/our-4o", "messages": HI, **fields}).encode(), Limits())


def call(where: Target | None = None, cap: int | None = 50, **fields: Any) -> HTTPCall:
    return Azure().call(request(**fields), where or target(), cap=cap, request_id="req_1")


def test_the_v1_api_has_the_deployment_in_the_body() -> None:
    made = call(stream=True)
    assert made.url == f"{BASE}/openai/v1/chat/completions"
    sent = json.loads(made.body)
    TypeAdapter(CompletionCreateParams).validate_python(sent)
    assert (sent["model"], sent["stream_options"]) == ("our-4o", {"include_usage": True})
    heads = dict(made.headers)
    assert heads["api-key"] == "azure-key"
    assert "Authorization" not in heads
    assert heads["X-Request-Id"] == "req_1"


@pytest.mark.parametrize("deployment", ["our-4o", "gpt 4/o:x"])
def test_a_dated_version_is_where_openai_s_own_client_for_azure_sends_it(deployment: str) -> None:
    theirs = openai.AzureOpenAI(azure_endpoint=BASE, api_version="2024-10-21", api_key="azure-key")
    options = openai._models.FinalRequestOptions.construct(
        method="post", url="/chat/completions", json_data={"model": "our-4o", "messages": HI}
    )
    built = theirs._build_request(options, retries_taken=0)
    made = call(target(options={"api_version": "2024-10-21"}))
    assert made.url == str(built.url)
    assert dict(made.headers)["api-key"] == built.headers["api-key"]
    encoded = url(target(options={"api_version": "2024-10-21"}).provider, "chat/completions", deployment)
    assert encoded.count("/") == 7  # a deployment's name adds no segment


@pytest.mark.parametrize(
    ("options", "operation", "expected"),
    [
        ({}, "embeddings", "/openai/v1/embeddings"),
        ({"api_version": "v1"}, "responses", "/openai/v1/responses"),
        ({"api_version": "preview"}, "responses", "/openai/v1/responses?api-version=preview"),
        (
            {"api_version": "2024-10-21"},
            "images/generations",
            "/openai/deployments/d/images/generations?api-version=2024-10-21",
        ),
        ({"api_version": "2025-04-01-preview"}, "responses", "/openai/responses?api-version=2025-04-01-preview"),
    ],
)
@pytest.mark.parametrize("ending", ["", "/", "/openai", "/openai/v1", "/openai/v1/"])
def test_where_operations_are(options: Any, operation: str, expected: str, ending: str) -> None:
    found = target(base_url=BASE + ending, options=options).provider
    deployment = None if operation == "responses" else "d"
    assert url(found, operation, deployment) == BASE + expected
    place, shared = Azure().endpoint(found, operation, stream=False, deployment=deployment)
    assert (place, dict(shared)["api-key"]) == (BASE + expected, "azure-key")


def test_a_token_of_entra_s_is_a_bearer_s() -> None:
    heads = dict(call(target(options={"auth": "bearer"})).headers)
    assert heads["Authorization"] == "Bearer azure-key"
    assert "api-key" not in heads
    by_header = dict(call(target(api_key=None, headers={"Authorization": "Bearer token"})).headers)
    assert by_header["Authorization"] == "Bearer token"


def test_what_calls_share_is_the_same_object_each_time() -> None:
    dialect, where = Azure(), target()
    one = dialect.call(request(), where, cap=1, request_id="a")
    other = dialect.call(request(), where, cap=2, request_id="b")
    assert one.shared is other.shared
    assert tuple(one.headers[: len(one.shared)]) == one.shared
    streamed = dialect.call(request(stream=True), where, cap=1, request_id="c")
    assert dict(streamed.shared)["Accept"] == "text/event-stream"


def test_what_is_not_priced_is_refused() -> None:
    for field in ("data_sources", "Data_Sources", "web_search_options"):
        with pytest.raises(RequestError) as caught:
            Azure().call(request(**{field: [{"type": "azure_search"}]}), target(), cap=1, request_id="r")
        assert caught.value.param == field
    assert call(data_sources=None).url


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"options": {"api-version": "v1"}}, "options.api-version"),
        ({"options": {"auth": "basic"}}, "options.auth"),
        ({"base_url": f"{BASE}/openai/deployments/our-4o"}, "base_url"),
        ({"base_url": f"{BASE}?api-version=v1"}, "base_url"),
    ],
)
def test_wrong_settings_are_refused_when_the_gateway_is_built(settings: Any, param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Azure().check(target(**settings).provider)
    assert caught.value.param == param
    Azure().check(target().provider)


def test_the_preset_needs_a_resource() -> None:
    found = preset("azure", api_key="key", options={"resource": "acme"})
    assert (found.base_url, found.dialect, found.prices) == (BASE, "azure", "azure")
    Azure().check(found)
    for options in ({}, {"resource": "acme.example/x"}):
        with pytest.raises(ConfigurationError) as caught:
            preset("azure", api_key="key", options=options)
        assert caught.value.param == "options.resource"


FILTERS = {"hate": {"filtered": False, "severity": "safe"}}
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 3,
    "total_tokens": 1203,
    "prompt_tokens_details": {"audio_tokens": 0, "cached_tokens": 1024},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
HEAD = {"id": "chatcmpl-az", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-11-20"}
STREAM = [
    {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": FILTERS}],
    },
    {
        **HEAD,
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": ""},
                "finish_reason": None,
                "content_filter_results": {},
            }
        ],
        "usage": None,
    },
    *(
        {
            **HEAD,
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": text},
                    "finish_reason": None,
                    "logprobs": None,
                    "content_filter_results": FILTERS,
                }
            ],
            "usage": None,
        }
        for text in ("Hel", "lo", "!")
    ),
    {
        **HEAD,
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "content_filter_results": {}}],
        "usage": None,
    },
    {**HEAD, "choices": [], "usage": USAGE},
]
BYTES = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in STREAM) + b"data: [DONE]\n\n"


def passed_on(*pieces: bytes, include_usage: bool) -> tuple[list[Any], Any]:
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    reader = Azure().stream(request(stream=True, **options), target(), event_bytes=10_000, cap=100)
    data = b"".join(reader.feed(piece) for piece in pieces) + reader.close()
    assert reader.done
    *events, done = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
    assert done == "[DONE]"
    return [json.loads(event) for event in events], reader.seen


def test_a_stream_with_filter_results_is_read_and_billed_as_any_other() -> None:
    chunks, seen = passed_on(BYTES, include_usage=True)
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    assert [chunk.get("prompt_filter_results") for chunk in chunks] == [
        STREAM[0]["prompt_filter_results"],  # with the first event that has choices: no client indexes into none
        *[None] * (len(STREAM) - 2),
    ]
    assert all(chunk["choices"] for chunk in chunks[:-1])
    assert {chunk["model"] for chunk in chunks} == {"azure/our-4o"}
    assert chunks[-1]["usage"] == USAGE
    assert seen.upstream_id == "chatcmpl-az"  # and not the empty one of the filters' event
    assert seen.usage == Usage(input=176, cache_read=1024, output=3)
    charged = settle(End.COMPLETED, seen, price=PRICE, hold=10**9, prompt_estimate=1)
    assert charged.amount == 176 * 2_500 + 1024 * 1_250 + 3 * 10_000
    assert not any("usage" in chunk for chunk in passed_on(BYTES, include_usage=False)[0])


def test_it_may_be_cut_at_every_byte() -> None:
    expected = passed_on(BYTES, include_usage=True)
    for cut in range(1, len(BYTES)):
        assert passed_on(BYTES[:cut], BYTES[cut:], include_usage=True) == expected


@pytest.mark.parametrize("first", [b"data: {\n\n", b"data: 5\n\n"])
def test_a_first_event_that_is_none_is_a_fault(first: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        passed_on(first, include_usage=False)


def test_an_error_in_the_place_of_the_first_event_is_told() -> None:
    with pytest.raises(relay.StreamedError):
        passed_on(b"data: " + json.dumps(FILTERED).encode() + b"\n\n", include_usage=False)


FILTERED = {
    "error": {
        "inner_error": {"code": "ResponsibleAIPolicyViolation", "content_filter_results": {"jailbreak": {}}},
        "code": "content_filter",
        "message": "The response was filtered due to the prompt triggering Azure's content management policy.",
        "param": "prompt",
        "type": None,
    }
}


@pytest.mark.parametrize(
    ("status", "body", "ours", "code"),
    [
        (400, FILTERED, 400, "content_policy_violation"),
        (400, {"error": {"code": "context_length_exceeded", "message": "too long"}}, 400, "context_length_exceeded"),
        (404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment ..."}}, 404, "not_found"),
        (429, {"error": {"code": "429", "message": "Requests have exceeded the limit."}}, 429, "rate_limit_exceeded"),
        (401, {"statusCode": 401, "message": "Unauthorized. Access token is missing."}, 502, "provider_unavailable"),
    ],
)
def test_errors(status: int, body: Any, ours: int, code: str) -> None:
    found = reply.upstream_error("azure", status, json.dumps(body).encode())
    assert (found.status, found.code) == (ours, code)


def test_a_filter_s_error_in_a_stream() -> None:
    assert reply.streamed_error("azure", json.dumps(FILTERED["error"]).encode()).code == "content_policy_violation"
