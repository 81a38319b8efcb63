"""
Clients in Python, each as its users make it: all that differs from their lines is that no proxy is looked for.

Every function does one cell: it asks as :class:`matrix.features.Ask` says, and tells what it was given.
"""

import asyncio
import base64
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import anthropic
import instructor
import llm
import openai
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent, BinaryContent, NativeOutput, TextPartDelta, ThinkingPart
from pydantic_ai.messages import ModelResponse, PartDeltaEvent, PartStartEvent, TextPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIChatModelSettings
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import RunUsage

from matrix.features import PNG, Ask, City, Told, tool_result

__all__ = ["CLIENTS", "llm_models"]

DATA_URL = f"data:image/png;base64,{PNG}"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@cache
def _tls() -> ssl.SSLContext:
    """One for all: nothing here is encrypted, and to make one takes longer than a cell."""
    return ssl.create_default_context()


# --- OpenAI's SDK, chat completions -----------------------------------------------------------------------------------


@contextmanager
def _openai(ask: Ask) -> Iterator[openai.OpenAI]:
    http_client = openai.DefaultHttpxClient(trust_env=False, verify=_tls())
    with openai.OpenAI(base_url=f"{ask.url}/v1", api_key=ask.key, http_client=http_client, max_retries=0) as client:
        yield client


def _chat_content(ask: Ask) -> Any:
    if ask.feature != "vision":
        return ask.prompt
    return [{"type": "text", "text": ask.prompt}, {"type": "image_url", "image_url": {"url": DATA_URL}}]


def _chat_counts(usage: Any) -> tuple[int | None, ...]:
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return (
        usage.prompt_tokens,
        prompt.cached_tokens if prompt is not None else 0,
        usage.completion_tokens,
        completion.reasoning_tokens if completion is not None else 0,
    )


def openai_chat(ask: Ask) -> Told:
    """OpenAI's SDK: ``chat.completions``, its parser, and its helper for streams."""
    told = Told()
    function = {"name": "weather", "description": "Tells it.", "parameters": PARAMETERS, "strict": True}
    fields: dict[str, Any] = {**ask.settings}
    fields |= {"tools": [{"type": "function", "function": function}]} if ask.feature == "tools" else {}
    fields |= {"reasoning_effort": "low"} if ask.feature == "reasoning" else {}
    fields |= {"response_format": City} if ask.feature == "structured" else {}
    messages: list[Any] = [{"role": "user", "content": _chat_content(ask)}]
    with _openai(ask) as client:
        for _ in range(2):
            completion = _chat_once(client, ask, told, messages, fields)
            message = completion.choices[0].message
            if not message.tool_calls:
                break
            messages.append(_said_again(message))
            for call in message.tool_calls:
                told.called.append((call.function.name, call.function.parsed_arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": tool_result()})
    told.text = message.content or ""
    told.value = message.parsed.model_dump() if message.parsed is not None else None
    told.counts = _chat_counts(completion.usage)
    return told


def _chat_once(client: openai.OpenAI, ask: Ask, told: Told, messages: list[Any], fields: dict[str, Any]) -> Any:
    if not ask.stream:
        completion = client.chat.completions.parse(model=ask.model, messages=messages, **fields)
        told.thoughts += getattr(completion.choices[0].message, "reasoning_content", None) or ""
        return completion
    options: Any = {"include_usage": True}
    with client.chat.completions.stream(model=ask.model, messages=messages, stream_options=options, **fields) as stream:
        for event in stream:
            if event.type == "chunk" and event.chunk.choices:
                delta = event.chunk.choices[0].delta
                told.pieces += bool(delta.content)
                told.thoughts += getattr(delta, "reasoning_content", None) or ""
        return stream.get_final_completion()


def _said_again(message: Any) -> dict[str, Any]:
    said: dict[str, Any] = message.model_dump(exclude_none=True, exclude={"parsed": True})
    for call in said["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
        call.pop("index", None)
    return said


# --- OpenAI's SDK, Responses ------------------------------------------------------------------------------------------


def openai_responses(ask: Ask) -> Told:
    """OpenAI's SDK: ``responses``, its parser, and its helper for streams."""
    told = Told()
    tool = {"type": "function", "name": "weather", "description": "Tells it.", "parameters": PARAMETERS, "strict": True}
    fields: dict[str, Any] = {"store": False, **ask.settings}
    fields |= {"tools": [tool]} if ask.feature == "tools" else {}
    fields |= {"reasoning": {"effort": "low", "summary": "auto"}} if ask.feature == "reasoning" else {}
    fields |= {"text_format": City} if ask.feature == "structured" else {}
    content: list[dict[str, Any]] = [{"type": "input_text", "text": ask.prompt}]
    content += [{"type": "input_image", "image_url": DATA_URL, "detail": "auto"}] if ask.feature == "vision" else []
    items: list[Any] = [{"role": "user", "content": content}]
    with _openai(ask) as client:
        for _ in range(2):
            response = _respond_once(client, ask, told, items, fields)
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                break
            items += [item.to_dict(exclude_unset=True) for item in response.output]
            for call in calls:
                items[-1].pop("parsed_arguments", None)
                told.called.append((call.name, call.parsed_arguments))
                items.append({"type": "function_call_output", "call_id": call.call_id, "output": tool_result()})
    told.text = response.output_text
    summaries = [part for item in response.output if item.type == "reasoning" for part in item.summary]
    told.thoughts = "".join(part.text for part in summaries)
    if ask.feature == "structured":
        told.value = response.output_parsed.model_dump()
    usage = response.usage
    told.counts = (
        usage.input_tokens,
        usage.input_tokens_details.cached_tokens,
        usage.output_tokens,
        usage.output_tokens_details.reasoning_tokens,
    )
    return told


def _respond_once(client: openai.OpenAI, ask: Ask, told: Told, items: list[Any], fields: dict[str, Any]) -> Any:
    if not ask.stream:
        return client.responses.parse(model=ask.model, input=items, **fields)
    with client.responses.stream(model=ask.model, input=items, **fields) as stream:
        for event in stream:
            told.pieces += event.type == "response.output_text.delta"
            if event.type in {"response.completed", "response.incomplete"}:  # the helper knows the first alone
                response = event.response
    return response


# --- Anthropic's SDK --------------------------------------------------------------------------------------------------


def anthropic_messages(ask: Ask) -> Told:
    """Anthropic's SDK: ``messages``, its parser, and its helper for streams."""
    told = Told()
    tool = {"name": "weather", "description": "Tells it.", "input_schema": PARAMETERS}
    fields: dict[str, Any] = {"max_tokens": 4096, **ask.settings}
    fields |= {"tools": [tool]} if ask.feature == "tools" else {}
    fields |= {"thinking": {"type": "enabled", "budget_tokens": 1024}} if ask.feature == "reasoning" else {}
    fields |= {"output_format": City} if ask.feature == "structured" else {}
    content: list[dict[str, Any]] = [{"type": "text", "text": ask.prompt}]
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    content += [{"type": "image", "source": source}] if ask.feature == "vision" else []
    messages: list[Any] = [{"role": "user", "content": content}]
    http_client = anthropic.DefaultHttpxClient(trust_env=False, verify=_tls())
    with anthropic.Anthropic(base_url=ask.url, api_key=ask.key, http_client=http_client, max_retries=0) as client:
        for _ in range(2):
            message = _message_once(client, ask, told, messages, fields)
            calls = [block for block in message.content if block.type == "tool_use"]
            if not calls:
                break
            told.called += [(call.name, call.input) for call in calls]
            results = [{"type": "tool_result", "tool_use_id": call.id, "content": tool_result()} for call in calls]
            messages += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    told.text = "".join(block.text for block in message.content if block.type == "text")
    told.thoughts = "".join(block.thinking for block in message.content if block.type == "thinking")
    if ask.feature == "structured":
        told.value = message.parsed_output.model_dump()
    usage = message.usage
    cached, details = usage.cache_read_input_tokens or 0, usage.output_tokens_details
    told.counts = (
        usage.input_tokens + cached + (usage.cache_creation_input_tokens or 0),
        cached,
        usage.output_tokens,
        details.thinking_tokens if details is not None else 0,
    )
    return told


def _message_once(client: anthropic.Anthropic, ask: Ask, told: Told, messages: list[Any], fields: Any) -> Any:
    asked: dict[str, Any] = {"model": ask.model, "messages": messages, **fields}
    if not ask.stream:
        return client.messages.parse(**asked)
    with client.messages.stream(**asked) as stream:
        told.pieces += sum(event.type == "content_block_delta" and event.delta.type == "text_delta" for event in stream)
        return stream.get_final_message()


# --- LangChain --------------------------------------------------------------------------------------------------------


def langchain_chat(ask: Ask) -> Told:
    """LangChain's ``ChatOpenAI``, as it is."""
    effort: dict[str, Any] = {"reasoning_effort": "low"} if ask.feature == "reasoning" else {}
    return _langchain(ask, **effort)


def langchain_responses(ask: Ask) -> Told:
    """LangChain's ``ChatOpenAI`` by way of Responses."""
    settings: dict[str, Any] = {"use_responses_api": True, "store": False}
    settings |= {"reasoning": {"effort": "low", "summary": "auto"}} if ask.feature == "reasoning" else {}
    return _langchain(ask, **settings)


def _langchain(ask: Ask, **settings: Any) -> Told:
    told = Told()
    content: list[Any] = [{"type": "text", "text": ask.prompt}]
    content += [{"type": "image", "base64": PNG, "mime_type": "image/png"}] if ask.feature == "vision" else []
    messages: list[BaseMessage] = [HumanMessage(content)]
    with openai.DefaultHttpxClient(trust_env=False, verify=_tls()) as http:
        model: Any = ChatOpenAI(
            model=ask.model,
            base_url=f"{ask.url}/v1",
            api_key=ask.key,  # type: ignore[arg-type]  # a string does
            http_client=http,
            max_retries=0,
            stream_usage=True,
            **settings,
        )
        if ask.feature == "structured":
            found = model.with_structured_output(City, method="json_schema", include_raw=True).invoke(messages)
            told.value = found["parsed"].model_dump()
            answer: AIMessage = found["raw"]
        else:
            if ask.feature == "tools":
                model = model.bind_tools([_weather_of_langchain], strict=True)
            answer = _langchain_once(model, ask, told, messages)
            if answer.tool_calls:
                told.called += [(call["name"], call["args"]) for call in answer.tool_calls]
                results = [ToolMessage(tool_result(), tool_call_id=call["id"]) for call in answer.tool_calls]
                answer = _langchain_once(model, ask, told, [*messages, answer, *results])
    told.text = answer.text
    told.thoughts = "".join(
        part["reasoning"] for part in answer.content_blocks if part["type"] == "reasoning" and "reasoning" in part
    )
    usage = answer.usage_metadata
    assert usage is not None
    told.counts = (
        usage["input_tokens"],
        usage.get("input_token_details", {}).get("cache_read", 0),
        usage["output_tokens"],
        usage.get("output_token_details", {}).get("reasoning", 0),
    )
    return told


def _weather_of_langchain(city: str) -> str:
    """Tells it."""
    return f"{tool_result()} in {city}"


_weather_of_langchain.__name__ = "weather"


def _langchain_once(model: Any, ask: Ask, told: Told, messages: list[BaseMessage]) -> Any:
    if not ask.stream:
        return model.invoke(messages)
    whole: Any = None
    for chunk in model.stream(messages):
        told.pieces += bool(chunk.text)
        whole = chunk if whole is None else whole + chunk
    return whole


# --- pydantic-ai ------------------------------------------------------------------------------------------------------


def pydantic_ai_chat(ask: Ask) -> Told:
    """An agent of pydantic-ai's."""
    return asyncio.run(_agent(ask))


async def _agent(ask: Ask) -> Told:
    told = Told()
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False, verify=_tls())
    async with openai.AsyncOpenAI(
        base_url=f"{ask.url}/v1", api_key=ask.key, http_client=http_client, max_retries=0
    ) as client:
        model = OpenAIChatModel(ask.model, provider=OpenAIProvider(openai_client=client))
        output: Any = NativeOutput(City) if ask.feature == "structured" else str
        settings = OpenAIChatModelSettings(openai_reasoning_effort="low") if ask.feature == "reasoning" else None
        agent: Agent[None, Any] = Agent(model, output_type=output, model_settings=settings)
        if ask.feature == "tools":

            @agent.tool_plain
            def weather(city: str) -> str:
                """Tells it."""
                told.called.append(("weather", {"city": city}))
                return tool_result()

        prompt: list[Any] = [ask.prompt]
        prompt += [BinaryContent(base64.b64decode(PNG), media_type="image/png")] if ask.feature == "vision" else []
        if ask.stream:
            await _agent_streamed(agent, prompt, told)
        else:
            result = await agent.run(prompt)
            _agent_told(result.output, result.usage, result.all_messages(), told)
    return told


async def _agent_streamed(agent: "Agent[None, Any]", prompt: list[Any], told: Told) -> None:
    async with agent.iter(prompt) as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as stream:
                    async for event in stream:
                        begun = isinstance(event, PartStartEvent) and isinstance(event.part, TextPart)
                        more = isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta)
                        told.pieces += begun or more
    assert run.result is not None
    _agent_told(run.result.output, run.result.usage, run.result.all_messages(), told)


def _agent_told(output: Any, usage: RunUsage, messages: list[Any], told: Told) -> None:
    told.text = output if isinstance(output, str) else ""
    told.value = output.model_dump() if isinstance(output, City) else None
    responses = [message for message in messages if isinstance(message, ModelResponse)]
    parts = [part for message in responses for part in message.parts]
    told.thoughts = "".join(part.content for part in parts if isinstance(part, ThinkingPart))
    details = usage.details
    told.counts = (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
        details.get("reasoning_tokens", 0),
    )


# --- instructor -------------------------------------------------------------------------------------------------------


def instructor_chat(ask: Ask) -> Told:
    """instructor, which asks for objects and nothing else: its every feature is about one."""
    told = Told()
    mode = instructor.Mode.TOOLS if ask.feature == "tools" else instructor.Mode.JSON_SCHEMA
    effort: dict[str, Any] = {"reasoning_effort": "low"} if ask.feature == "reasoning" else {}
    messages: list[Any] = [{"role": "user", "content": _chat_content(ask)}]
    with _openai(ask) as plain:
        client = instructor.from_openai(plain, mode=mode)
        asked: dict[str, Any] = {"model": ask.model, "messages": messages, "max_retries": 0, **effort}
        if ask.stream:
            for partial in client.create_partial(response_model=City, **asked):
                told.pieces += 1
                told.value = partial.model_dump()
            return told
        value, completion = client.create_with_completion(response_model=City, **asked)
    told.value = value.model_dump()
    message = completion.choices[0].message
    told.called = [(call.function.name, value.model_dump()) for call in message.tool_calls or ()]
    told.thoughts = getattr(message, "reasoning_content", None) or ""
    told.counts = _chat_counts(completion.usage)
    return told


# --- llm --------------------------------------------------------------------------------------------------------------


def llm_models(url: str, models: list[str]) -> str:
    """The text of ``extra-openai-models.yaml``, in which a user of ``llm`` names models of other addresses."""
    can = "  api_key_name: router\n  supports_schema: true\n  supports_tools: true\n  vision: true\n"
    return "".join(
        f"- model_id: {prefix}{model}\n  model_name: {model}\n  api_base: {url}/v1\n{can}{more}"
        for model in models
        for prefix, more in (("", ""), (_BY_RESPONSES, "  responses: true\n  reasoning: true\n"))
    )


_BY_RESPONSES = "by-responses/"


def llm_chat(ask: Ask) -> Told:
    """``llm``, with a model of its ``extra-openai-models.yaml``."""
    return _llm(ask, ask.model)


def llm_responses(ask: Ask) -> Told:
    """``llm``, with one for which that file says ``responses: true``."""
    effort: dict[str, Any] = {"reasoning_effort": "low"} if ask.feature == "reasoning" else {}
    return _llm(ask, f"{_BY_RESPONSES}{ask.model}", **effort)


def _llm(ask: Ask, name: str, **options: Any) -> Told:
    told = Told()
    model: Any = llm.get_model(name)
    made = ExitStack()
    make = model.get_client
    model.get_client = lambda *args, **fields: made.enter_context(make(*args, **fields))  # llm itself closes none
    with made:
        return _llm_asked(model, ask, told, options)


def _llm_asked(model: Any, ask: Ask, told: Told, options: dict[str, Any]) -> Told:
    asked: dict[str, Any] = {"key": ask.key, "stream": ask.stream, **options}
    if ask.feature == "vision":
        asked["attachments"] = [llm.Attachment(content=base64.b64decode(PNG), type="image/png")]
    if ask.feature == "tools":

        def weather(city: str) -> str:
            """Tells it."""
            told.called.append(("weather", {"city": city}))
            return tool_result()

        told.text = "".join(model.chain(ask.prompt, tools=[weather], **asked)).strip()  # rounds are set apart
        return told
    response: Any = model.prompt(ask.prompt, schema=City if ask.feature == "structured" else None, **asked)
    for event in response.stream_events():
        if event.type == "text":
            told.text += event.chunk
            told.pieces += bool(event.chunk)
        elif event.type == "reasoning":
            told.thoughts += event.chunk
    told.value = City.model_validate_json(told.text).model_dump() if ask.feature == "structured" else None
    usage = response.usage()
    details = usage.details or {}
    inwards = details.get("prompt_tokens_details") or details.get("input_tokens_details") or {}
    outwards = details.get("completion_tokens_details") or details.get("output_tokens_details") or {}
    told.counts = (
        usage.input,
        inwards.get("cached_tokens", 0),
        usage.output,
        outwards.get("reasoning_tokens", 0),
    )
    return told


CLIENTS: dict[str, Callable[[Ask], Told]] = {
    "openai-chat": openai_chat,
    "openai-responses": openai_responses,
    "anthropic": anthropic_messages,
    "langchain-chat": langchain_chat,
    "langchain-responses": langchain_responses,
    "pydantic-ai": pydantic_ai_chat,
    "instructor": instructor_chat,
    "llm-chat": llm_chat,
    "llm-responses": llm_responses,
}
