"""llama.cpp's server, which speaks both APIs: a Response passed on, and one by way of chat, say the same."""

from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from llama import Llama
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter
from servers import serve

from hpp_middleware import Gateway, MemoryStore, provider
from hpp_middleware.types.provider import Declared, Limits
from sdk.settled import lines

KEY = "alice-shows-this-key-of-hers"
NATIVE, BY_CHAT = "native/tiny-random", "chat/tiny-random"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
LETTERS = {"grammar": "root ::= [a-z]+"}
"""Whole letters, which no cut between bytes can change."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def client(llama: Llama, store: MemoryStore) -> Iterator[openai.OpenAI]:
    gateway = Gateway(
        store=store,
        providers={
            "native": provider("llamacpp", base_url=llama.url, bytes_per_token=1, native_apis={"responses"}),
            "chat": provider("llamacpp", base_url=llama.url, bytes_per_token=1),
        },
        models={
            name: {"input": "1", "cache_read": "0.25", "output": "2", "context": 4096} for name in (NATIVE, BY_CHAT)
        },
        consumers={"alice": Declared(quota=10 * 10**9, keys=(KEY,))},
        limits=Limits(default_cap=48),
        prices=None,
    )
    http = openai.DefaultHttpxClient(trust_env=False)
    with (
        serve(gateway.app) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, http_client=http, max_retries=0) as found,
    ):
        yield found


def ask(client: openai.OpenAI, model: str, **fields: Any) -> Response:
    given = {"input": "Hello there, whoever you are.", "max_output_tokens": 12, "temperature": 0, **fields}
    found: Response = client.responses.create(model=model, extra_body={"seed": 1, **LETTERS}, **given)
    Response.model_validate(found.to_dict())
    return found


def stream(client: openai.OpenAI, model: str) -> tuple[str, Response]:
    """The text and the last Response of a stream whose every event is one of OpenAI's."""
    events = list(
        client.responses.create(
            model=model,
            input="Hello there, whoever you are.",
            max_output_tokens=12,
            temperature=0,
            stream=True,
            extra_body={"seed": 1, **LETTERS},
        )
    )
    for event in events:
        EVENT.validate_python(event.to_dict())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type in {"response.completed", "response.incomplete"}
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    response: Response = Response.model_validate(last.to_dict()["response"])
    return text, response


def nano(response: Response) -> int:
    """What a Response costs at the prices above, by the test's own arithmetic."""
    usage = response.usage
    assert usage is not None
    cached = usage.input_tokens_details.cached_tokens
    quarters = 4 * (usage.input_tokens - cached) + cached + 8 * usage.output_tokens
    return -(-quarters * 1000 // 4)


def test_both_ways_say_the_same_and_cost_what_the_server_counts(client: openai.OpenAI, store: MemoryStore) -> None:
    native, by_chat = ask(client, NATIVE), ask(client, BY_CHAT)
    assert native.output_text == by_chat.output_text != ""
    assert (native.model, by_chat.model) == (NATIVE, BY_CHAT)
    streams = [stream(client, NATIVE), stream(client, BY_CHAT)]
    assert {text for text, _ in streams} == {native.output_text}
    answers = [native, by_chat, *(response for _, response in streams)]
    assert {each.usage.output_tokens for each in answers if each.usage} == {12}
    assert len({each.usage.input_tokens for each in answers if each.usage}) == 1
    assert [line.amount for line in lines(store)] == [nano(each) for each in answers]
    assert not any(line.report.estimated for line in lines(store))
    assert all(line.amount <= line.held for line in lines(store))


class Sky(BaseModel):
    """A schema that even random weights can only fulfil."""

    colour: Literal["blue", "grey"]


def test_structured_output_is_kept_by_way_of_chat_and_not_by_the_servers_own_responses(client: openai.OpenAI) -> None:
    fields: Any = {"input": "Sky?", "text_format": Sky, "max_output_tokens": 200, "temperature": 0}
    assert isinstance(client.responses.parse(model=BY_CHAT, **fields).output_parsed, Sky)
    assert client.responses.parse(model=NATIVE, **fields).output_parsed is None  # why its preset does not pass them on


@pytest.mark.parametrize("model", [NATIVE, BY_CHAT])
def test_a_conversation_with_a_call_is_understood(client: openai.OpenAI, model: str) -> None:
    tool: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    items: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Call it."}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "done"},
    ]
    found = client.responses.create(model=model, input=items, tools=[tool], max_output_tokens=5)
    assert found.usage is not None
    assert found.usage.output_tokens <= 5


@pytest.mark.parametrize("model", [NATIVE, BY_CHAT])
def test_a_prompt_that_is_too_long_is_refused_and_costs_nothing(
    client: openai.OpenAI, store: MemoryStore, model: str
) -> None:
    with pytest.raises(openai.BadRequestError, match="exceeds the available context size"):
        client.responses.create(model=model, input="x" * 9000)
    assert [line.amount for line in lines(store)] == [0]


@pytest.mark.parametrize("model", [NATIVE, BY_CHAT])
def test_the_cap_of_ours_reaches_the_server(client: openai.OpenAI, model: str) -> None:
    found = client.responses.create(model=model, input="Hello", extra_body={"ignore_eos": True})
    assert found.usage is not None
    assert found.usage.output_tokens == 48
