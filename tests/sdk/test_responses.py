"""The Responses API as clients speak it: OpenAI's SDK, LangChain and pydantic-ai, before both kinds of provider."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import openai
import pytest
from background import BackgroundUpstream
from langchain_openai import ChatOpenAI
from openai.types.responses import Response
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from rig import KEY, MODEL, USAGE_NANO
from rig import gateway as make_gateway

from hpp_middleware import Gateway, MemoryStore
from hpp_middleware.testing import Script
from hpp_middleware.types.quota import Entry
from sdk.served import Router, error_of, sdk, served

PNG = "data:image/png;base64,iVBORw0KGgo="
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 25,
}
NANO = 12 * 1_000 + 8 * 250 + 5 * 2_000
"""What that costs, by the test's own arithmetic, at $1 in, $0.25 cached and $2 out a million tokens."""


class Served:
    """A router, its clients and its books."""

    def __init__(self, router: Router, gateway: Gateway, store: MemoryStore, client: openai.OpenAI) -> None:
        self.router = router
        self.upstream = router.upstream
        self.client = client
        self.gateway = gateway
        self._store = store

    @property
    def lines(self) -> list[Entry]:
        """Alice's ledger, when nothing is held any more."""
        self.upstream.wait_until_idle()
        with httpx2.Client(headers={"apikey": KEY}, trust_env=False) as http:
            http.get(f"{self.router.url.removesuffix('/llm/v1')}/api/usage")  # waits for settlements
        account = self._store._books.account("alice")
        assert account is not None
        assert account.held == 0
        return list(self._store._books.lines("alice"))


@pytest.fixture
def start(background_upstream: BackgroundUpstream) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def started(*apis: str, **settings: Any) -> Served:
            store = MemoryStore()
            provider = {"native_apis": frozenset(apis)}
            model = {"cache_read": "0.25"}
            gateway = make_gateway(background_upstream.url, store=store, provider=provider, model=model, **settings)
            router = stack.enter_context(served(background_upstream, gateway))
            client = stack.enter_context(sdk(router, max_retries=0))
            return Served(router, gateway, store, client)

        yield started


@pytest.fixture
def by_chat(start: Callable[..., Served]) -> Served:
    """Before a provider of chat completions."""
    return start()


@pytest.fixture
def passed_on(start: Callable[..., Served]) -> Served:
    """Before a provider that has the API itself."""
    return start("responses")


def completion(message: dict[str, Any], finish: str = "stop") -> Script:
    """A chat completion with this message."""
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


def whole(text: str = "Hello world", **fields: Any) -> dict[str, Any]:
    """A Response as OpenAI gives it."""
    content = [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "fake-2026",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE,
        **fields,
    }


def native(text: str = "Hello world", **fields: Any) -> Script:
    return Script(raw_body=json.dumps(whole(text, **fields)).encode(), content_type="application/json")


def native_stream(*texts: str, last: str = "completed", **faults: Any) -> Script:
    """A stream as OpenAI gives it."""
    done = whole("".join(texts))
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    told: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": begun}),
        ("in_progress", {"response": begun}),
        (
            "output_item.added",
            {"output_index": 0, "item": {**done["output"][0], "content": [], "status": "in_progress"}},
        ),
        ("content_part.added", {**place, "part": part}),
        *(("output_text.delta", {**place, "delta": text, "logprobs": []}) for text in texts),
        ("output_text.done", {**place, "text": "".join(texts), "logprobs": []}),
        ("content_part.done", {**place, "part": {**part, "text": "".join(texts)}}),
        ("output_item.done", {"output_index": 0, "item": done["output"][0]}),
        (last, {"response": {**done, "status": last}}),
    ]
    events = [{"type": f"response.{kind}", "sequence_number": at, **fields} for at, (kind, fields) in enumerate(told)]
    data = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    return Script(raw_body=data, content_type="text/event-stream", **faults)


# --- by way of chat completions -------------------------------------------------------------------


def test_a_response_by_way_of_chat_is_one_and_is_billed_as_that(by_chat: Served) -> None:
    found = by_chat.client.responses.create(model=MODEL, input="Hi", instructions="Be brief.", max_output_tokens=50)
    assert found.output_text == "Hello world"
    assert (found.model, found.status, found.to_dict()["store"]) == (MODEL, "completed", False)
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (9, 2)
    sent = by_chat.upstream.last.json()
    assert by_chat.upstream.last.path == "/v1/chat/completions"
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert sent["max_completion_tokens"] == 50
    (line,) = by_chat.lines
    assert (line.amount, line.report.outcome, line.report.estimated) == (USAGE_NANO, "completed", False)


def test_a_stream_by_way_of_chat_is_taken_by_the_sdks_own_helper(by_chat: Served) -> None:
    with by_chat.client.responses.stream(model=MODEL, input="Hi") as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert text == final.output_text == "Hello world"
    assert final.usage is not None
    assert final.usage.total_tokens == 11
    assert by_chat.upstream.last.json()["stream_options"] == {"include_usage": True}
    assert [line.amount for line in by_chat.lines] == [USAGE_NANO]


class City(BaseModel):
    """What is asked for."""

    name: str


def test_structured_output_is_parsed(by_chat: Served) -> None:
    by_chat.upstream.next(completion({"content": '{"name":"Ulm"}'}))
    found = by_chat.client.responses.parse(model=MODEL, input="Where?", text_format=City)
    assert found.output_parsed == City(name="Ulm")
    sent = by_chat.upstream.last.json()["response_format"]
    assert (sent["type"], sent["json_schema"]["name"], sent["json_schema"]["strict"]) == ("json_schema", "City", True)


def test_a_tool_is_called_and_its_output_handed_back(by_chat: Served) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    by_chat.upstream.next(completion({"tool_calls": [call], "reasoning_content": "Hm"}, "tool_calls"))
    first = by_chat.client.responses.create(
        model=MODEL, input="Rain?", tools=[WEATHER], include=["reasoning.encrypted_content"]
    )
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    items: Any = [{"role": "user", "content": "Rain?"}, *(item.to_dict() for item in first.output)]
    items.append({"type": "function_call_output", "call_id": "c1", "output": "wet"})
    second = by_chat.client.responses.create(model=MODEL, input=items, tools=[WEATHER])
    assert second.output_text == "Hello world"
    sent = by_chat.upstream.last.json()["messages"]
    assert sent[1]["tool_calls"] == [call]
    assert sent[1]["reasoning_content"] == "Hm"
    assert sent[2] == {"role": "tool", "tool_call_id": "c1", "content": "wet"}


def test_an_image_is_sent_as_a_part(by_chat: Served) -> None:
    content: Any = [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "detail": "auto", "image_url": PNG},
    ]
    by_chat.client.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
    parts = by_chat.upstream.last.json()["messages"][0]["content"]
    assert parts[1] == {"type": "image_url", "image_url": {"url": PNG, "detail": "auto"}}


def test_a_stream_that_breaks_off_raises_in_the_sdk_and_is_settled(by_chat: Served) -> None:
    by_chat.upstream.next(Script(truncate_after_events=3))
    seen: list[str] = []
    with pytest.raises(openai.APIError) as raised:
        seen.extend(event.type for event in by_chat.client.responses.create(model=MODEL, input="Hi", stream=True))
    assert seen[0] == "response.created"
    assert seen[-1] == "response.failed"
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["code"] == "provider_unavailable"
    (line,) = by_chat.lines
    assert (line.report.outcome, line.report.estimated) == ("failed", True)
    assert 0 < line.amount < line.held


@pytest.mark.parametrize("apis", [(), ("responses",)])
def test_a_client_that_leaves_in_mid_stream_is_settled(start: Callable[..., Served], apis: tuple[str, ...]) -> None:
    found = start(*apis)
    texts = ["piece "] * 20
    stalled = (
        native_stream(*texts, chunk_size=400, stall_after_events=8)
        if apis
        else Script(texts=texts, stall_after_events=8)
    )
    found.upstream.next(stalled)
    with found.client.responses.create(model=MODEL, input="Hi", stream=True) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                break
    (line,) = found.lines
    assert found.upstream.last.closed_early
    assert (line.report.outcome, line.report.estimated) == ("abandoned", True)
    assert 0 < line.amount < line.held


# --- passed on ------------------------------------------------------------------------------------


def test_a_response_of_the_providers_own_is_passed_on_and_billed(passed_on: Served) -> None:
    passed_on.upstream.next(native())
    found = passed_on.client.responses.create(model=MODEL, input="Hi", reasoning={"effort": "low"})
    assert (found.output_text, found.model, found.id) == ("Hello world", MODEL, "resp_up")
    sent = passed_on.upstream.last
    assert sent.path == "/v1/responses"
    assert (sent.json()["model"], sent.json()["store"]) == ("fake-1", False)
    assert sent.json()["max_output_tokens"] == passed_on.gateway.limits.default_cap
    (line,) = passed_on.lines
    assert (line.amount, line.report.estimated) == (NANO, False)


@pytest.mark.parametrize("last", ["completed", "incomplete"])
@pytest.mark.parametrize("size", [None, 7])
def test_a_stream_of_the_providers_own_is_passed_on_and_billed(passed_on: Served, last: str, size: int | None) -> None:
    passed_on.upstream.next(native_stream("Hello", " world", last=last, chunk_size=size))
    events = list(passed_on.client.responses.create(model=MODEL, input="Hi", stream=True))
    assert events[-1].type == f"response.{last}"
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello world"
    response: Response = getattr(events[-1], "response")  # noqa: B009  # mypy knows no type of it
    assert response.model == MODEL
    assert [(line.amount, line.report.outcome) for line in passed_on.lines] == [(NANO, "completed")]


def test_a_response_that_failed_in_its_stream_is_billed_by_what_it_reports(passed_on: Served) -> None:
    passed_on.upstream.next(native_stream("Hello", last="failed"))
    with pytest.raises(openai.APIError):
        list(passed_on.client.responses.create(model=MODEL, input="Hi", stream=True))
    assert [(line.amount, line.report.outcome) for line in passed_on.lines] == [(NANO, "failed")]


def test_the_cost_is_told_in_the_usage_where_the_operator_says_so(start: Callable[..., Served]) -> None:
    found = start("responses", cost_in="usage")
    found.upstream.next(native(), native_stream("Hello"))
    told = [found.client.responses.create(model=MODEL, input="Hi")]
    events = list(found.client.responses.create(model=MODEL, input="Hi", stream=True))
    told.append(getattr(events[-1], "response"))  # noqa: B009  # as above
    assert [
        round(each.usage.model_extra["cost"] * 10**9) for each in told if each.usage and each.usage.model_extra
    ] == [
        NANO,
        NANO,
    ]
    assert [line.amount for line in found.lines] == [NANO, NANO]


def test_a_refusal_of_the_providers_is_an_error_of_ours(passed_on: Served) -> None:
    passed_on.upstream.next(
        Script(status=400, raw_body=b'{"error":{"message":"too long","code":"context_length_exceeded"}}')
    )
    with pytest.raises(openai.BadRequestError) as raised:
        passed_on.client.responses.create(model=MODEL, input="Hi")
    assert (error_of(raised)["code"], error_of(raised)["provider"]) == ("context_length_exceeded", "fake")
    assert [line.amount for line in passed_on.lines] == [0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"model": "fake/unknown"}, "model"),
    ],
)
def test_what_is_refused_is_named_and_nothing_is_sent(passed_on: Served, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        passed_on.client.responses.create(**{"model": MODEL, "input": "Hi", **fields})
    assert error_of(raised)["param"] == param
    assert passed_on.upstream.log == []


# --- other clients --------------------------------------------------------------------------------


@pytest.mark.parametrize("apis", [(), ("responses",)])
def test_langchain_asks_and_streams(start: Callable[..., Served], apis: tuple[str, ...]) -> None:
    found = start(*apis)
    if apis:
        found.upstream.next(native(), native_stream("Hello", " world"))
    with openai.DefaultHttpxClient(trust_env=False) as http:
        model = ChatOpenAI(
            model=MODEL,
            base_url=found.router.url,
            api_key=KEY,  # type: ignore[arg-type]  # a string does
            use_responses_api=True,
            http_client=http,
            max_retries=0,
        )
        answer = model.invoke("Hi")
        streamed = "".join(chunk.text for chunk in model.stream("Hi"))
    assert answer.text == "Hello world"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == (25 if apis else 11)
    assert streamed == "Hello world"
    assert [line.amount for line in found.lines] == [NANO if apis else USAGE_NANO] * 2


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_pydantic_ai_calls_a_tool(by_chat: Served) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    by_chat.upstream.next(completion({"tool_calls": [call]}, "tool_calls"))
    async with openai.AsyncOpenAI(
        base_url=by_chat.router.url, api_key=KEY, http_client=openai.DefaultAsyncHttpxClient(trust_env=False)
    ) as client:
        agent = Agent(OpenAIResponsesModel(MODEL, provider=OpenAIProvider(openai_client=client)))
        asked: list[str] = []

        @agent.tool_plain
        def weather(city: str) -> str:
            asked.append(city)
            return "wet"

        result = await agent.run("Rain?")
    assert (result.output, asked) == ("Hello world", ["Ulm"])
    assert by_chat.upstream.last.json()["messages"][-1] == {"role": "tool", "tool_call_id": "c1", "content": "wet"}
    assert [line.amount for line in by_chat.lines] == [USAGE_NANO] * 2
