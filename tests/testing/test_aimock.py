"""
What the protocol mock answers in each dialect, and what it received: the tests of our dialects stand on this.

Where it differs from the real thing, the test says so, and tells when a newer version no longer does.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import nodejs
import pytest
from aimock import AIMock, running
from anthropic.types import Message, RawMessageStreamEvent
from botocore.eventstream import EventStreamBuffer
from google.genai.types import GenerateContentResponse
from openai.types import CreateEmbeddingResponse, ImagesResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import TypeAdapter

OPENAI, RESPONSES = "/v1/chat/completions", "/v1/responses"
AZURE = "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
ANTHROPIC = "/v1/messages"
GEMINI = "/v1beta/models/gemini-2.5-pro:generateContent"
GEMINI_STREAM = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse"
VERTEX = "/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-pro:generateContent"
CONVERSE, CONVERSE_STREAM = "/model/amazon.nova-lite-v1%3A0/converse", "/model/amazon.nova-lite-v1%3A0/converse-stream"
OLLAMA = "/api/chat"
OPENROUTER = "/api/v1/chat/completions"

USAGE = {"prompt_tokens": 11, "completion_tokens": 7}
CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Ulm"}}


@pytest.fixture
def http(aimock: AIMock) -> Iterator[httpx2.Client]:
    aimock.answer("hello", content="Hello world", usage=USAGE)
    aimock.answer("think", content="Hello world", reasoning="Let me think", usage=USAGE)
    aimock.answer("weather", match={"hasToolResult": False}, toolCalls=[CALL], usage=USAGE)
    aimock.answer("weather", match={"hasToolResult": True}, content="Rain.", usage=USAGE)
    with httpx2.Client(base_url=aimock.url, trust_env=False, timeout=60) as found:
        yield found


def openai(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": [{"role": "user", "content": text}], **fields}


def anthropic(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **fields}


def gemini(text: str) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}


def bedrock(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"text": text}]}]}


def ask(http: httpx2.Client, path: str, body: dict[str, Any]) -> Any:
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def stream(http: httpx2.Client, path: str, body: dict[str, Any]) -> list[Any]:
    """The data of an SSE stream's events, parsed; ``[DONE]`` as it is."""
    response = http.post(path, json=body)
    assert response.headers["content-type"] == "text/event-stream"
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def frames(http: httpx2.Client, path: str, body: dict[str, Any]) -> list[tuple[str, Any]]:
    """The events of Bedrock's binary stream: type and payload. The buffer checks both checksums of each frame."""
    response = http.post(path, json=body)
    assert response.headers["content-type"] == "application/vnd.amazon.eventstream"
    buffer = EventStreamBuffer()
    buffer.add_data(response.content)
    return [(event.headers[":event-type"], json.loads(event.payload)) for event in buffer]


@pytest.mark.parametrize("path", [OPENAI, AZURE])
def test_openai_and_azure_answer_a_chat(http: httpx2.Client, path: str) -> None:
    found = ChatCompletion.model_validate(ask(http, path, openai("hello")))
    assert found.choices[0].message.content == "Hello world"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (11, 7, 18)


@pytest.mark.parametrize("path", [OPENAI, AZURE])
def test_openai_and_azure_stream_a_chat_and_its_usage_only_where_it_is_asked_for(
    http: httpx2.Client, path: str
) -> None:
    plain = stream(http, path, openai("hello", stream=True))
    *events, done = stream(http, path, openai("hello", stream=True, stream_options={"include_usage": True}))
    *chunks, last = [ChatCompletionChunk.model_validate(event) for event in events]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.total_tokens, done) == (18, "[DONE]")
    assert not any("usage" in event for event in plain[:-1])


def test_openai_reasons_in_a_field_of_its_own(http: httpx2.Client) -> None:
    assert ask(http, OPENAI, openai("think"))["choices"][0]["message"]["reasoning_content"] == "Let me think"
    deltas = [event["choices"][0]["delta"] for event in stream(http, OPENAI, openai("think", stream=True))[:-1]]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Let me think"


def test_openai_calls_a_tool_and_goes_on_with_its_result(http: httpx2.Client) -> None:
    call = ask(http, OPENAI, openai("weather"))["choices"][0]["message"]["tool_calls"][0]
    assert call == {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}
    deltas = [event["choices"][0]["delta"] for event in stream(http, OPENAI, openai("weather", stream=True))[:-1]]
    parts = [delta["tool_calls"][0]["function"]["arguments"] for delta in deltas if "tool_calls" in delta]
    assert "".join(parts) == '{"city":"Ulm"}'
    assert len(parts) > 2
    answered = openai("weather")
    answered["messages"] += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It rains"},
    ]
    assert ask(http, OPENAI, answered)["choices"][0]["message"]["content"] == "Rain."


def test_openais_responses_are_answered_and_streamed(http: httpx2.Client) -> None:
    body = ask(http, RESPONSES, {"model": "gpt", "input": "hello"})
    found = Response.model_construct(**body)
    assert body["output"][0]["content"][0]["text"] == "Hello world"
    assert body["usage"] == {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    assert found.status == "completed"
    (call,) = ask(http, RESPONSES, {"model": "gpt", "input": "weather"})["output"]
    assert (call["type"], call["call_id"], call["arguments"]) == ("function_call", "call_1", '{"city":"Ulm"}')
    events = stream(http, RESPONSES, {"model": "gpt", "input": "think", "stream": True})
    text = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    thought = [event["delta"] for event in events if event["type"] == "response.reasoning_summary_text.delta"]
    assert ("".join(thought), "".join(text)) == ("Let me think", "Hello world")
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["usage"]["total_tokens"] == 18
    assert "sequence_number" not in events[0]  # the real ones have one


def test_embeddings_are_made_from_the_text_and_cost_nothing(http: httpx2.Client, aimock: AIMock) -> None:
    body = {"model": "e", "input": ["a", "b"], "dimensions": 4}
    found = CreateEmbeddingResponse.model_validate(ask(http, "/v1/embeddings", body))
    again = CreateEmbeddingResponse.model_validate(ask(http, "/v1/embeddings", body))
    assert [len(item.embedding) for item in found.data] == [4, 4]
    assert found.data == again.data
    assert found.usage.prompt_tokens == 0  # and no fixture can say otherwise
    aimock.answer(match={"inputText": "known"}, embedding=[0.5, -0.5])
    azure = ask(http, "/openai/deployments/e/embeddings?api-version=2024-10-21", {"input": "known"})
    assert azure["data"][0]["embedding"] == [0.5, -0.5]


def test_images_come_as_urls_and_as_bytes(http: httpx2.Client, aimock: AIMock) -> None:
    images = [{"url": "https://images.example/1.png"}, {"b64Json": "iVBORw0KGgo="}]
    aimock.answer("paint", match={"endpoint": "image"}, images=images)
    body = ask(http, "/v1/images/generations", {"model": "gpt-image-1", "prompt": "paint it"})
    found = ImagesResponse.model_validate(body).data
    assert found is not None
    assert (found[0].url, found[1].b64_json) == ("https://images.example/1.png", "iVBORw0KGgo=")
    assert "usage" not in body


def test_anthropic_answers_a_message(http: httpx2.Client) -> None:
    found = Message.model_validate(ask(http, ANTHROPIC, anthropic("think")))
    assert [block.type for block in found.content] == ["thinking", "text"]
    assert (found.stop_reason, found.usage.input_tokens, found.usage.output_tokens) == ("end_turn", 11, 7)
    (block,) = ask(http, ANTHROPIC, anthropic("weather"))["content"]
    assert block == {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Ulm"}}


def test_anthropic_streams_a_message(http: httpx2.Client) -> None:
    events = stream(http, ANTHROPIC, anthropic("think", stream=True))
    adapter: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
    kinds = [adapter.validate_python(event).type for event in events]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == "Let me think"
    assert "".join(delta.get("text", "") for delta in deltas) == "Hello world"
    assert events[0]["message"]["usage"] == {"input_tokens": 11, "output_tokens": 7}
    assert events[-2]["usage"] == {"output_tokens": 7}


def test_anthropic_streams_the_arguments_of_a_tool_in_parts(http: httpx2.Client) -> None:
    events = stream(http, ANTHROPIC, anthropic("weather", stream=True))
    parts = [event["delta"]["partial_json"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(parts) == '{"city":"Ulm"}'
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("path", [GEMINI, VERTEX])
def test_gemini_and_vertex_answer(http: httpx2.Client, path: str) -> None:
    found = GenerateContentResponse.model_validate(ask(http, path, gemini("think")))
    assert found.candidates is not None
    content = found.candidates[0].content
    assert content is not None
    assert content.parts is not None
    assert [(part.text, part.thought) for part in content.parts] == [("Let me think", True), ("Hello world", None)]
    usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
    assert ask(http, path, gemini("hello"))["usageMetadata"] == usage


def test_gemini_streams_as_server_sent_events_and_tells_the_usage_last(http: httpx2.Client) -> None:
    *events, last = stream(http, GEMINI_STREAM, gemini("hello"))
    parts = [event["candidates"][0]["content"]["parts"][0]["text"] for event in [*events, last]]
    assert "".join(parts) == "Hello world"
    assert not any("usageMetadata" in event for event in events)
    assert (last["candidates"][0]["finishReason"], last["usageMetadata"]["totalTokenCount"]) == ("STOP", 18)


def test_gemini_calls_a_function_whole_and_finishes_as_the_real_one_would_not(http: httpx2.Client) -> None:
    (event,) = stream(http, GEMINI_STREAM, gemini("weather"))
    (candidate,) = event["candidates"]
    call = {"name": "weather", "args": {"city": "Ulm"}, "id": "call_1"}
    assert candidate["content"]["parts"] == [{"functionCall": call}]
    assert candidate["finishReason"] == "FUNCTION_CALL"  # the real one says STOP; finishReason="STOP" sets it


def test_bedrock_converses(http: httpx2.Client) -> None:
    found = ask(http, CONVERSE, bedrock("think"))
    thought, text = found["output"]["message"]["content"]
    assert thought == {"reasoningContent": {"reasoningText": {"text": "Let me think"}}}
    assert (text, found["stopReason"]) == ({"text": "Hello world"}, "end_turn")
    assert found["usage"] == {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}


def test_bedrock_streams_binary_events(http: httpx2.Client) -> None:
    events = frames(http, CONVERSE_STREAM, bedrock("hello"))
    assert [kind for kind, _ in events[:2]] == ["messageStart", "contentBlockStart"]
    assert "".join(event["delta"]["text"] for kind, event in events if kind == "contentBlockDelta") == "Hello world"
    assert events[-2] == ("messageStop", {"stopReason": "end_turn"})
    assert (events[-1][0], events[-1][1]["usage"]["totalTokens"]) == ("metadata", 18)


def test_bedrock_streams_the_input_of_a_tool_in_parts(http: httpx2.Client) -> None:
    events = frames(http, CONVERSE_STREAM, bedrock("weather"))
    starts = [event["start"] for kind, event in events if kind == "contentBlockStart"]
    parts = [event["delta"]["toolUse"]["input"] for kind, event in events if kind == "contentBlockDelta"]
    assert starts == [{"toolUse": {"toolUseId": "call_1", "name": "weather"}}]
    assert "".join(parts) == '{"city":"Ulm"}'
    assert events[-2] == ("messageStop", {"stopReason": "tool_use"})


def test_bedrocks_invoke_streams_bare_events_where_the_real_one_wraps_them(http: httpx2.Client) -> None:
    events = frames(http, "/model/anthropic.claude/invoke-with-response-stream", anthropic("hello"))
    assert {kind for kind, _ in events} == {"chunk"}
    assert (events[0][1]["type"], events[-1][1]["type"]) == ("message_start", "message_stop")  # real: {"bytes": base64}
    assert events[-2][1]["usage"] == {"output_tokens": 0}  # whatever the fixture says


def test_ollama_streams_lines_and_counts_nothing(http: httpx2.Client) -> None:
    response = http.post(OLLAMA, json=openai("hello"))  # streams unless told otherwise
    assert response.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.strip().split("\n")]
    assert "".join(line["message"]["content"] for line in lines) == "Hello world"
    assert (lines[-1]["done"], lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (True, 0, 0)
    message = ask(http, OLLAMA, openai("weather", stream=False))["message"]
    assert message["tool_calls"] == [{"function": {"name": "weather", "arguments": {"city": "Ulm"}}}]


def test_only_openrouters_path_tells_all_of_a_usage(http: httpx2.Client, aimock: AIMock) -> None:
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}, "cost": 0.25}
    aimock.answer("cached", content="Hello world", usage=usage)
    assert ask(http, OPENAI, openai("cached"))["usage"] == {**USAGE, "total_tokens": 18}
    found = ask(http, OPENROUTER, openai("cached"))["usage"]
    assert (found["prompt_tokens_details"], found["cost"]) == ({"cached_tokens": 4}, 0.25)


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        (OPENAI, openai("limit"), {"error": {"message": "Slow down", "type": "rate", "param": None, "code": "limit"}}),
        (ANTHROPIC, anthropic("limit"), {"type": "error", "error": {"type": "rate", "message": "Slow down"}}),
        (GEMINI, gemini("limit"), {"error": {"code": 429, "message": "Slow down", "status": "rate"}}),
        # The real one has {"message": ...} and the type in a header.
        (CONVERSE, bedrock("limit"), {"type": "error", "error": {"type": "rate", "message": "Slow down"}}),
    ],
)
def test_an_error_has_the_shape_of_its_dialect_and_says_when_to_retry(
    http: httpx2.Client, aimock: AIMock, path: str, body: dict[str, Any], shape: dict[str, Any]
) -> None:
    aimock.answer("limit", error={"message": "Slow down", "type": "rate", "code": "limit"}, status=429, retryAfter=7)
    response = http.post(path, json=body)
    assert (response.status_code, response.headers["retry-after"], response.json()) == (429, "7", shape)


def test_the_next_request_alone_fails(http: httpx2.Client, aimock: AIMock) -> None:
    aimock.fail_next(503, message="Not now")
    response = http.post(ANTHROPIC, json=anthropic("hello"))
    assert (response.status_code, response.json()["error"]["message"]) == (503, "Not now")
    ask(http, ANTHROPIC, anthropic("hello"))


def test_what_no_fixture_matches_is_not_found(http: httpx2.Client) -> None:
    response = http.post(OPENAI, json=openai("unheard of"))
    assert (response.status_code, response.json()["error"]["code"]) == (404, "no_fixture_match")


def test_chaos_spoils_every_answer_until_it_is_calmed(http: httpx2.Client, aimock: AIMock) -> None:
    aimock.chaos(dropRate=1)
    assert http.post(OPENAI, json=openai("hello")).status_code == 500
    aimock.chaos(rateLimitRate=1)
    limited = http.post(OPENAI, json=openai("hello"))
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "1")
    aimock.chaos(malformedRate=1)
    malformed = http.post(OPENAI, json=openai("hello"))
    assert malformed.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        malformed.json()
    aimock.chaos(disconnectRate=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post(OPENAI, json=openai("hello"))
    aimock.calm()
    ask(http, OPENAI, openai("hello"))


def test_a_stream_is_cut_after_so_many_events(http: httpx2.Client, aimock: AIMock) -> None:
    # Without a pause between events nothing has left when the connection is destroyed.
    cut = {"match": {"userMessage": "cut"}, "response": {"content": "Hello world"}, "latency": 20}
    aimock.add({**cut, "truncateAfterChunks": 2})
    came: list[bytes] = []
    with http.stream("POST", GEMINI_STREAM, json=gemini("cut")) as response, pytest.raises(httpx2.RemoteProtocolError):
        came.extend(response.iter_raw())
    assert b"Hello" in b"".join(came)
    assert b"finishReason" not in b"".join(came)


def test_the_journal_tells_a_request_in_openais_words_and_received_tells_what_came(
    http: httpx2.Client, aimock: AIMock
) -> None:
    asked = {**gemini("hello"), "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}, "newThing": "é"}
    http.post(GEMINI_STREAM, json=asked, headers={"X-Goog-Api-Key": "secret"})
    (entry,) = aimock.journal
    assert (entry["method"], entry["path"]) == ("POST", GEMINI_STREAM)
    assert entry["headers"]["x-goog-api-key"] == "[REDACTED]"
    assert entry["body"]["messages"] == [{"role": "user", "content": "hello"}]
    assert "newThing" not in entry["body"]
    assert (entry["response"]["status"], entry["response"]["fixture"]["match"]) == (200, {"userMessage": "hello"})
    (came,) = aimock.received
    assert (came.method, came.path, came.header("x-goog-api-key")) == ("POST", GEMINI_STREAM, "secret")
    assert came.json() == asked
    assert aimock.last == came


def test_a_reset_forgets_fixtures_and_requests(http: httpx2.Client, aimock: AIMock) -> None:
    ask(http, OPENAI, openai("hello"))
    aimock.chaos(dropRate=1)
    aimock.reset()
    assert (aimock.journal, aimock.received) == ([], [])
    assert http.post(OPENAI, json=openai("hello")).status_code == 404


def test_fixtures_come_from_files_and_folders(aimock: AIMock, tmp_path: Path) -> None:
    for name in ("one", "two"):
        fixture = {"match": {"userMessage": name}, "response": {"content": name.upper()}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"fixtures": [fixture]}), "utf-8")
    with running(tmp_path / "one.json", tmp_path) as other, httpx2.Client(base_url=other.url, trust_env=False) as http:
        assert ask(http, OPENAI, openai("two"))["choices"][0]["message"]["content"] == "TWO"
        assert ask(http, OPENAI, openai("one"))["choices"][0]["message"]["content"] == "ONE"
    assert aimock.received == []
    with pytest.raises(httpx2.ConnectError), httpx2.Client(base_url=other.url, trust_env=False) as http:
        http.post(OPENAI, json=openai("two"))


def test_a_mock_ends_with_the_tests_own_process() -> None:
    code = (
        "import os, aimock\n"
        "with aimock.running() as mock:\n"
        "    print(mock.url, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    folder = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    url = done.stdout.strip()
    assert url.startswith("http://127.0.0.1:"), done.stderr
    give_up = time.monotonic() + 60
    while answers(url):
        assert time.monotonic() < give_up, "it still answers"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("provider", "path"), [("openai", "/v1/responses"), ("anthropic", "/v1/messages")])
def test_vercels_sdk_understands_its_responses_and_its_messages(
    aimock: AIMock, provider: str, path: str, *, stream: bool
) -> None:
    tool = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}, "result": "Wet"}
    aimock.answer("umbrella", match={"hasToolResult": False}, toolCalls=[CALL])
    aimock.answer("umbrella", match={"hasToolResult": True}, content="Take one.")
    question = {"url": f"{aimock.url}/v1", "key": "key", "model": "fake-1", "prompt": "Do I need an umbrella?"}
    found = nodejs.run("ai_sdk.mjs", provider=provider, stream=stream, tools=[tool], **question)
    assert (found.get("error"), found["called"]) == (None, [{"name": "weather", "input": {"city": "Ulm"}}])
    assert (found["text"], found["steps"]) == ("Take one.", ["tool-calls", "stop"])
    assert [came.path for came in aimock.received] == [path, path]
