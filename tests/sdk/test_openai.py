"""OpenAI's official SDK, sync and async, against the router on uvicorn in front of a fake upstream."""

import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import openai
import pytest
from background import BackgroundUpstream
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel
from rig import BOB_KEY, KEY, MODEL, USAGE_NANO
from rig import gateway as make_gateway
from servers import serve
from starlette.types import ASGIApp, Receive, Scope, Send

from hpp_middleware import Gateway
from hpp_middleware.testing import USAGE, Script
from hpp_middleware.testing.script import error_body
from hpp_middleware.types.provider import Declared, Timeouts

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


@pytest.fixture
def router(background_upstream: BackgroundUpstream) -> Iterator[Router]:
    model = {"context": 128_000, "max_output": 4_096, "tool": True, "description": "Not a model."}
    with served(background_upstream, make_gateway(background_upstream.url, consumers=CONSUMERS, model=model)) as found:
        yield found


def sdk(router: Router, key: str = KEY, **settings: Any) -> openai.OpenAI:
    """A client as a user makes it, but for proxies of the environment."""
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=router.url, api_key=key, http_client=http_client, **settings)


@pytest.fixture
def client(router: Router) -> Iterator[openai.OpenAI]:
    with sdk(router) as found:
        yield found


@pytest.fixture
async def async_client(router: Router) -> AsyncGenerator[openai.AsyncOpenAI]:
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
    async with openai.AsyncOpenAI(base_url=router.url, api_key=KEY, http_client=http_client) as found:
        yield found


def error_of(raised: pytest.ExceptionInfo[openai.APIStatusError]) -> dict[str, Any]:
    """The error object, as the SDK keeps it."""
    body = raised.value.body
    assert isinstance(body, dict)
    return body


def test_a_completion_is_read_as_one(client: openai.OpenAI, router: Router) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HI, temperature=0.5, seed=7)
    assert completion.choices[0].message.content == "Hello world"
    assert completion.model == MODEL
    assert completion.usage is not None
    assert completion.usage.total_tokens == USAGE["total_tokens"]
    sent = router.upstream.last.json()
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("fake-1", 0.5, 7)


@pytest.mark.anyio
async def test_the_async_client_reads_completions_models_and_errors(async_client: openai.AsyncOpenAI) -> None:
    completion = await async_client.chat.completions.create(model=MODEL, messages=HI)
    assert completion.choices[0].message.content == "Hello world"
    assert (await async_client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.BadRequestError):
        await async_client.chat.completions.create(model="fake/unknown", messages=HI)


# The SDK leaves the generators of its streams to the garbage collector, which trio reports.
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@ON_ASYNCIO
@pytest.mark.anyio
async def test_the_async_client_reads_streams(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    text = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(text) == "Hello world"


@ON_ASYNCIO
@pytest.mark.anyio
async def test_the_async_client_may_leave_a_stream(async_client: openai.AsyncOpenAI, router: Router) -> None:
    router.upstream.next(Script(stall_after_events=2))
    stream = await async_client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    async with stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    router.upstream.wait_until_idle()
    assert router.upstream.last.closed_early


def test_a_stream_brings_the_text_and_no_usage_that_was_not_asked_for(client: openai.OpenAI, router: Router) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert router.upstream.last.json()["stream_options"] == {"include_usage": True}


def test_a_stream_brings_the_usage_that_was_asked_for(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True, stream_options=options))
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == USAGE["total_tokens"]
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])


def test_the_stream_helper_puts_a_completion_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HI) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content == "Hello world"


def test_the_raw_response_carries_the_routers_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
    assert raw.headers["x-hpp-router-resolved-model"] == MODEL
    assert float(raw.headers["x-hpp-router-cost"]) == pytest.approx(USAGE_NANO / 10**9)
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.parse()._request_id == raw.request_id
    streamed = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True)
    assert streamed.headers["x-hpp-router-resolved-model"] == MODEL
    assert streamed.headers["x-request-id"] not in {None, raw.request_id}
    assert "x-hpp-router-cost" not in streamed.headers
    assert len(list(streamed.parse())) > 1


TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "How the weather is.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            "strict": True,
        },
    }
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}


def tool_answer() -> bytes:
    """A completion that calls a tool."""
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake-1"}
    return json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()


def test_tools_their_calls_and_their_answers_pass_through(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(Script(raw_body=tool_answer(), content_type="application/json"))
    first = client.chat.completions.create(
        model=MODEL, messages=HI, tools=TOOLS, tool_choice="auto", parallel_tool_calls=False
    )
    calls = first.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert (calls[0].id, calls[0].function.arguments) == ("call_1", '{"city": "Ulm"}')
    sent = router.upstream.last.json()
    assert (sent["tools"], sent["tool_choice"], sent["parallel_tool_calls"]) == (TOOLS, "auto", False)

    asked: Any = [*HI, first.choices[0].message, {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}]
    second = client.chat.completions.create(model=MODEL, messages=asked, tools=TOOLS)
    assert second.choices[0].message.content == "Hello world"
    sent = router.upstream.last.json()["messages"]
    assert sent[1]["tool_calls"] == [CALL]
    assert sent[2] == asked[2]


def test_tool_calls_of_a_stream_pass_through(client: openai.OpenAI, router: Router) -> None:
    deltas = [
        {"tool_calls": [{"index": 0, **CALL, "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]},
    ]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake-1"}
    body = b"".join(b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n" for choice in choices)
    router.upstream.next(Script(raw_body=body + b"data: [DONE]\n\n", content_type="text/event-stream"))
    with client.chat.completions.stream(model=MODEL, messages=HI, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.arguments == '{"city": "Ulm"}'


def test_image_parts_pass_through(client: openai.OpenAI, router: Router) -> None:
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}},
    ]
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert router.upstream.last.json()["messages"][0]["content"] == parts


class Answer(BaseModel):
    """What is asked of the model below."""

    city: str


def test_a_schema_passes_through_and_the_answer_is_parsed_by_it(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(Script(texts=('{"city": ', '"Ulm"}')))
    completion = client.chat.completions.parse(model=MODEL, messages=HI, response_format=Answer)
    assert completion.choices[0].message.parsed == Answer(city="Ulm")
    assert router.upstream.last.json()["response_format"]["json_schema"]["name"] == "Answer"


def test_fields_that_nobody_knows_pass_through_both_ways(client: openai.OpenAI, router: Router) -> None:
    answer: dict[str, Any] = {**json.loads(tool_answer()), "x_new": {"deep": [1, 2.50]}}
    router.upstream.next(Script(raw_body=json.dumps(answer).encode(), content_type="application/json"))
    completion = client.chat.completions.create(model=MODEL, messages=HI, extra_body={"x_also_new": [None, "ü"]})
    assert router.upstream.last.json()["x_also_new"] == [None, "ü"]
    assert completion.model_extra is not None
    assert completion.model_extra["x_new"] == {"deep": [1, 2.50]}


def test_nothing_of_the_sdk_but_the_body_reaches_the_upstream(client: openai.OpenAI, router: Router) -> None:
    client.chat.completions.create(model=MODEL, messages=HI, extra_headers={"x-own": "1", "cookie": "a=b"})
    names = {name for name, _ in router.upstream.last.headers}
    assert not any(name.startswith("x-stainless") for name in names)
    assert names.isdisjoint({"x-own", "cookie", "apikey"})
    assert KEY not in str(router.upstream.last.headers)


def test_the_key_may_be_shown_in_both_headers_if_it_is_the_same(router: Router) -> None:
    with sdk(router, default_headers={"apikey": KEY}) as same:
        assert same.chat.completions.create(model=MODEL, messages=HI).model == MODEL
    with sdk(router, default_headers={"apikey": BOB_KEY}) as different, pytest.raises(openai.AuthenticationError):
        different.chat.completions.create(model=MODEL, messages=HI)


def test_a_wrong_key_is_an_authentication_error(router: Router) -> None:
    key = "nobody-shows-this-key-of-his"
    with sdk(router, key) as stranger, pytest.raises(openai.AuthenticationError) as raised:
        stranger.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (401, "unauthorized")
    assert error_of(raised)["message"] == "Invalid API key"
    assert raised.value.request_id is not None
    assert router.requests == 1
    assert router.upstream.log == []


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": HI, "n": 99}, "invalid_request", "n"),
        ({"messages": HI, "extra_body": {"api_base": "http://elsewhere.example"}}, "invalid_request", "api_base"),
        ({"messages": HI, "model": "fake/unknown"}, "unsupported_model", "model"),
        ({"messages": HI, "model": "hpprouter/auto"}, "smart_routing_failed", "model"),
    ],
)
def test_a_bad_request_is_one_and_names_the_field(
    client: openai.OpenAI, router: Router, fields: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": MODEL, **fields})
    assert (raised.value.code, raised.value.param) == (code, param)
    assert router.requests == 1
    assert router.upstream.log == []


def test_a_model_that_the_key_may_not_use_is_a_permission_error(router: Router) -> None:
    with sdk(router, BOB_KEY) as bob, pytest.raises(openai.PermissionDeniedError) as raised:
        bob.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (403, "model_not_allowed")
    assert router.upstream.log == []


def test_what_is_not_there_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("fake/unknown")
    assert raised.value.code == "not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="Hi")


def test_no_money_is_a_rate_limit_error_that_is_not_tried_again(router: Router) -> None:
    with sdk(router, POOR_KEY) as carol, pytest.raises(openai.RateLimitError) as raised:
        carol.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code, raised.value.type) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert router.requests == 1
    assert router.upstream.log == []


@pytest.mark.parametrize("status", [401, 402, 403])
def test_an_upstream_that_refuses_the_operators_key_is_a_502_that_is_not_tried_again(
    client: openai.OpenAI, router: Router, status: int
) -> None:
    router.upstream.next(Script(status=status))
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    error = error_of(raised)
    assert (raised.value.status_code, error["provider"], error["upstream_status"]) == (502, "fake", status)
    assert error["retryable"] is False
    assert (router.requests, len(router.upstream.log)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, openai.BadRequestError, "invalid_request"),
        (404, openai.NotFoundError, "not_found"),
        (413, openai.APIStatusError, "payload_too_large"),
        (422, openai.UnprocessableEntityError, "unprocessable"),
    ],
)
def test_an_upstreams_refusal_of_the_request_keeps_its_status_and_its_words(
    client: openai.OpenAI, router: Router, status: int, kind: type[openai.APIStatusError], code: str
) -> None:
    router.upstream.next(Script(status=status, error=error_body(status, "The request is odd.")))
    with pytest.raises(kind) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert error_of(raised)["message"] == "The request is odd."
    assert router.requests == 1


@pytest.mark.parametrize("status", [409, 429, 500, 503, 529])
def test_what_may_pass_is_tried_again_and_then_succeeds(client: openai.OpenAI, router: Router, status: int) -> None:
    router.upstream.next(Script(status=status, headers=[("retry-after", "0.01")]))
    completion = client.chat.completions.create(model=MODEL, messages=HI)
    assert completion.choices[0].message.content == "Hello world"
    assert (router.requests, len(router.upstream.log)) == (2, 2)
    assert [exchange.status for exchange in router.upstream.log] == [status, 200]


def test_what_does_not_pass_is_raised_after_the_sdks_own_retries(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(*[Script(status=503, headers=[("retry-after", "0.01")])] * 3)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    error = error_of(raised)
    assert (raised.value.status_code, error["upstream_status"], error["code"]) == (502, 503, "provider_overloaded")
    assert (router.requests, len(router.upstream.log)) == (3, 3)


def test_an_upstreams_rate_limit_is_a_rate_limit_error(router: Router) -> None:
    router.upstream.next(Script(status=429, headers=[("retry-after", "7")]))
    with sdk(router, max_retries=0) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    assert raised.value.code == "rate_limit_exceeded"
    assert raised.value.response.headers["retry-after"] == "7"


def test_an_upstream_that_says_nothing_in_time_is_a_504(background_upstream: BackgroundUpstream) -> None:
    background_upstream.next(Script(delay_head_s=60))
    hasty = make_gateway(background_upstream.url, timeouts=Timeouts(connect=0.5, first_byte=0.1))
    with (
        served(background_upstream, hasty) as router,
        sdk(router, max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (504, "timeout")


@pytest.mark.parametrize("kind", ["breaks off", "reports an error"])
def test_a_stream_that_fails_in_the_middle_raises_after_what_came_before(
    client: openai.OpenAI, router: Router, kind: str
) -> None:
    router.upstream.next(
        Script(truncate_after_events=3) if kind == "breaks off" else Script(error_event=error_body(500))
    )
    text: list[str] = []
    with pytest.raises(openai.APIError) as raised:
        text.extend(
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        )
    assert "".join(text) == "Hello world"
    assert not isinstance(raised.value, openai.APIConnectionError)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["provider"] == "fake"
    assert router.requests == 1


def test_a_stream_that_the_sdk_closes_is_settled_and_its_upstream_closed(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(Script(stall_after_events=2))
    with client.chat.completions.create(model=MODEL, messages=HI, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    router.upstream.wait_until_idle()
    assert router.upstream.last.closed_early
    usage = client.get("../../api/usage", cast_to=object)
    assert isinstance(usage, dict)
    assert usage["requests"] == 1
    assert 0 < usage["used"] < 1e-4


def test_the_models_are_listed_with_what_is_known_of_them(client: openai.OpenAI) -> None:
    (listed,) = client.models.list()
    retrieved = client.models.retrieve(MODEL)
    assert listed == retrieved
    assert (listed.id, listed.object, listed.owned_by) == (MODEL, "model", "fake")
    extra = listed.model_extra
    assert extra is not None
    assert extra["pricing"]["input"] == 1e-06
    assert extra["pricing"]["cache_read"] is None
    assert (extra["context"], extra["max_output"], extra["tool"]) == (128_000, 4_096, True)
    assert extra["description"] == "Not a model."


def test_the_models_of_a_key_are_those_that_it_may_use(router: Router) -> None:
    with sdk(router, BOB_KEY) as bob:
        assert list(bob.models.list()) == []
