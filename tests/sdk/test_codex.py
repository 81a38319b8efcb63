"""What OpenAI's Codex sends by itself in every request: as `codex exec` 0.171 sent it, its texts cut short."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from background import BackgroundUpstream
from rig import KEY, MODEL, USAGE_NANO
from rig import gateway as make_gateway

from hpp_middleware import MemoryStore
from hpp_middleware.testing import Script
from sdk.served import served
from sdk.settled import lines

TARGET = {"type": "object", "properties": {"target": {"type": "string"}}, "required": ["target"]}
EXEC = {"type": "function", "name": "exec_command", "description": "Runs.", "strict": False, "parameters": TARGET}
CLOSE = {"type": "function", "name": "close_agent", "description": "Ends.", "strict": False, "parameters": TARGET}
AGENTS = {"type": "namespace", "name": "multi_agent_v1", "description": "For agents.", "tools": [CLOSE]}
SEARCH = {"type": "web_search", "external_web_access": False}
HI = {"type": "message", "id": "msg_45a81708", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
ASKED: dict[str, Any] = {
    "model": MODEL,
    "stream": True,
    "input": [{**HI, "role": "developer"}, HI],
    "tools": [EXEC, AGENTS, SEARCH],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"summary": "auto"},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "01a22f44-9db5-7f80-ab28-c4dc768608e5",
    "client_metadata": {"x-codex-installation-id": "cc76574e", "turn_id": "01a22f44-9df9"},
}
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 11,
}


class Asking:
    """A router, and Codex's way to ask it."""

    def __init__(self, upstream: BackgroundUpstream, url: str, store: MemoryStore) -> None:
        self.upstream = upstream
        self.store = store
        self._url = url

    def __call__(self, **fields: Any) -> tuple[httpx2.Response, list[dict[str, Any]]]:
        """The answer, and its events."""
        headers = {"authorization": f"Bearer {KEY}", "accept": "text/event-stream", "originator": "codex_exec"}
        with httpx2.Client(headers=headers, trust_env=False) as http:
            answer = http.post(f"{self._url}/responses", json={**ASKED, **fields})
        data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        return answer, [json.loads(each) for each in data]


@pytest.fixture
def start(background_upstream: BackgroundUpstream) -> Iterator[Callable[..., Asking]]:
    with ExitStack() as stack:

        def started(*apis: str) -> Asking:
            store = MemoryStore()
            gateway = make_gateway(background_upstream.url, store=store, provider={"native_apis": frozenset(apis)})
            router = stack.enter_context(served(background_upstream, gateway))
            return Asking(background_upstream, router.url, store)

        yield started


def chunks(*deltas: dict[str, Any], finish: str) -> Script:
    """A chat completion in pieces."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices: list[Any] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    told: list[Any] = [{**head, "choices": [choice]} for choice in choices]
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
    told.append({**head, "choices": [], "usage": usage})
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in told) + "data: [DONE]\n\n"
    return Script(raw_body=body.encode(), content_type="text/event-stream")


def test_all_that_it_sends_by_itself_is_taken_by_way_of_chat(start: Callable[..., Asking]) -> None:
    asking = start()
    answer, events = asking()
    assert (answer.status_code, events[-1]["type"]) == (200, "response.completed")
    assert answer.headers["x-hpp-router-dropped-fields"] == "tools.web_search"
    sent = asking.upstream.last.json()
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["exec_command", "multi_agent_v1__close_agent"]
    assert sent["tools"][1]["function"]["parameters"] == TARGET
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("auto", True)
    assert "client_metadata" not in sent
    assert [(line.amount, line.report.estimated) for line in lines(asking.store)] == [(USAGE_NANO, False)]


def test_a_function_of_a_namespace_is_called_by_the_name_that_it_was_given(start: Callable[..., Asking]) -> None:
    asking = start()
    called = {"name": "multi_agent_v1__close_agent", "arguments": '{"target":"x"}'}
    call = {"index": 0, "id": "call_1", "type": "function", "function": called}
    asking.upstream.next(chunks({"tool_calls": [call]}, finish="tool_calls"))
    _, events = asking()
    (item,) = events[-1]["response"]["output"]
    assert (item["namespace"], item["name"], item["arguments"]) == ("multi_agent_v1", "close_agent", '{"target":"x"}')
    told = {event["type"]: event for event in events}
    assert told["response.output_item.added"]["item"]["namespace"] == "multi_agent_v1"
    assert told["response.output_item.done"]["item"] == item
    assert told["response.function_call_arguments.done"]["name"] == "close_agent"
    result = {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": "not found"}
    answer, _ = asking(input=[HI, item, result])
    assert answer.status_code == 200
    _, said, tool = asking.upstream.last.json()["messages"]
    assert said["tool_calls"] == [{"id": "call_1", "type": "function", "function": called}]
    assert tool == {"role": "tool", "tool_call_id": "call_1", "content": "not found"}
    assert [line.amount for line in lines(asking.store)] == [USAGE_NANO, USAGE_NANO]


def test_all_but_the_search_is_passed_on(start: Callable[..., Asking]) -> None:
    asking = start("responses")
    done = {"id": "resp_1", "object": "response", "status": "completed", "output": [], "usage": USAGE}
    event = {"type": "response.completed", "sequence_number": 0, "response": done}
    body = f"event: response.completed\ndata: {json.dumps(event)}\n\n".encode()
    asking.upstream.next(Script(raw_body=body, content_type="text/event-stream"))
    answer, events = asking()
    assert (answer.status_code, events[-1]["type"]) == (200, "response.completed")
    assert answer.headers["x-hpp-router-dropped-fields"] == "tools.web_search"
    sent = asking.upstream.last.json()
    same = ASKED.keys() - {"model", "tools"}
    assert {name: sent[name] for name in same} == {name: ASKED[name] for name in same}
    assert sent["tools"] == [EXEC, AGENTS]
    assert [(line.amount, line.report.estimated) for line in lines(asking.store)] == [(USAGE_NANO, False)]


@pytest.mark.parametrize("apis", [(), ("responses",)])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [EXEC, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [EXEC, {**SEARCH, "external_web_access": True}]}, "tools[1].type"),
        ({"tools": [EXEC, SEARCH, {"type": "web_search"}]}, "tools[2].type"),
        ({"tools": [EXEC, SEARCH], "tool_choice": {"type": "web_search"}}, "tools[1].type"),
        ({"tools": [EXEC, SEARCH], "tool_choice": "required"}, "tools[1].type"),
        ({"tools": [SEARCH]}, "tools[0].type"),
        ({"tools": [EXEC, {**SEARCH, "type": "web_search_preview"}]}, "tools[1].type"),
    ],
)
def test_a_search_that_was_asked_for_is_refused(
    start: Callable[..., Asking], apis: tuple[str, ...], fields: Any, param: str
) -> None:
    asking = start(*apis)
    answer, _ = asking(**fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert asking.upstream.log == []
    assert lines(asking.store) == []
