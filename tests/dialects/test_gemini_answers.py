"""What Google answers, as OpenAI's answers and streams; each fixture is one that Google's own types can read."""

import json
from typing import Any

import pytest
from google.genai.types import GenerateContentResponse
from google_shapes import REQUEST_ID, request, target
from msgspec import Raw
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from hpp_middleware.catalog.genai import GenaiPrices
from hpp_middleware.core import price as pricing
from hpp_middleware.core import relay, reply
from hpp_middleware.dialects.gemini import Gemini
from hpp_middleware.dialects.gemini.usage import reported
from hpp_middleware.types.completion import Request, Seen
from hpp_middleware.types.price import Price, Usage

COUNTS = {"promptTokenCount": 9, "candidatesTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 16}
STEM = REQUEST_ID.removeprefix("req_")


def response(*candidates: dict[str, Any], usage: Any = COUNTS, **more: Any) -> dict[str, Any]:
    """A response, which Google's types can read."""
    found: dict[str, Any] = {"candidates": list(candidates), "modelVersion": "gemini-2.5-flash", "responseId": "resp-1"}
    found |= {"usageMetadata": usage} if usage is not None else {}
    found |= more
    GenerateContentResponse.model_validate({name: each for name, each in found.items() if name != "error"})
    return found


def candidate(*parts: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": index}
    return found if finish is None else {**found, "finishReason": finish}


def answer(body: Any, asked: Request | None = None) -> tuple[Any, Seen]:
    """An answer, which OpenAI's types can read."""
    raw, seen = Gemini().answer(
        json.dumps(body, indent=2).encode(), asked or request(), target(), request_id=REQUEST_ID
    )
    ChatCompletion.model_validate(json.loads(raw))
    return json.loads(raw), seen


def events(*bodies: Any, newline: str = "\r\n") -> bytes:
    """A stream as Google sends it."""
    return "".join(f"data: {json.dumps(body)}{newline}{newline}" for body in bodies).encode()


def streamed(stream: bytes, asked: Request | None = None, *, at: int | None = None) -> tuple[list[Any], Seen]:
    """A stream's chunks, which OpenAI's types can read; cut in two, or byte by byte."""
    made = Gemini().stream(
        asked or request(stream=True, stream_options={"include_usage": True}),
        target(),
        event_bytes=100_000,
        cap=1000,
        request_id=REQUEST_ID,
    )
    pieces = [bytes([byte]) for byte in stream] if at is None else [stream[:at], stream[at:]]
    out = b"".join([*(made.feed(piece) for piece in pieces if piece), made.close()])
    *chunks, done = [event.removeprefix(b"data: ") for event in out.split(b"\n\n") if event]
    assert done == b"[DONE]"
    for chunk in chunks:
        ChatCompletionChunk.model_validate(json.loads(chunk))
    return [json.loads(chunk) for chunk in chunks], made.seen


def put_together(chunks: list[Any], index: int = 0) -> dict[str, Any]:
    """What a client makes of a choice's deltas."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": [], "images": [], "finish": None}
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            message["content"] += delta.get("content") or ""
            message["reasoning_content"] += delta.get("reasoning_content") or ""
            message["tool_calls"] += delta.get("tool_calls", [])
            message["images"] += delta.get("images", [])
            message["finish"] = choice["finish_reason"] or message["finish"]
            message |= {name: delta[name] for name in ("extra_content",) if name in delta}
    return message


STREAM = (
    response(candidate({"text": "Hm. ", "thought": True}), usage={"promptTokenCount": 9, "totalTokenCount": 9}),
    response(candidate({"text": "Grüß "}), usage={**COUNTS, "candidatesTokenCount": 2, "totalTokenCount": 14}),
    response(candidate({"text": "Gott\u2028"}), usage={"trafficType": "ON_DEMAND"}),
    response(candidate({"text": "", "thoughtSignature": "c2ln"}, finish="STOP")),
)


def test_a_stream_is_read_alike_wherever_it_is_cut() -> None:
    whole = events(*STREAM)
    expected = streamed(whole, at=0)
    message = put_together(expected[0])
    assert (message["content"], message["reasoning_content"], message["finish"]) == ("Grüß Gott\u2028", "Hm. ", "stop")
    assert message["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert expected[1].usage == Usage(input=9, output=4, reasoning=3)
    assert (expected[1].upstream_id, expected[1].finished, expected[1].usage_doubtful) == ("resp-1", True, False)
    assert expected[0][-1]["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 7,
        "total_tokens": 16,
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert streamed(whole) == expected
    for at in range(len(whole)):
        assert streamed(whole, at=at) == expected
    assert streamed(events(*STREAM, newline="\n")) == expected
    assert streamed(whole.rstrip()) == expected  # the last event is one without its blank line, too


def test_a_stream_that_ends_before_its_finish_has_broken_off() -> None:
    made = Gemini().stream(request(stream=True), target(), event_bytes=9999, cap=9)
    made.feed(events(*STREAM[:2]))
    with pytest.raises(relay.ProtocolError):
        made.close()
    assert made.seen.usage == Usage(input=9, output=2, reasoning=3)


def test_a_report_that_does_not_speak_of_the_output_yet_is_none() -> None:
    made = Gemini().stream(request(stream=True), target(), event_bytes=9999, cap=9)
    made.feed(events(STREAM[0]))
    assert made.seen.usage is None
    made.feed(events(STREAM[1], STREAM[2]))
    assert made.seen.text_after_usage


def test_a_report_of_the_prompt_alone_at_the_end_is_no_bill_of_what_came_out() -> None:
    said = response(candidate({"text": "Hi"}, finish="STOP"), usage={"promptTokenCount": 9})
    for _, seen in (answer(said), streamed(events(said))):
        assert (seen.usage, seen.usage_early) == (Usage(input=9), True)
    blocked = response(usage={"promptTokenCount": 9, "totalTokenCount": 9}, promptFeedback={"blockReason": "SAFETY"})
    assert not answer(blocked)[1].usage_early


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"promptTokenCount": 9, "thoughtsTokenCount": 3}, Usage(input=9, reasoning=3)),
        ({"promptTokenCount": 9, "totalTokenCount": 9}, Usage(input=9)),
        ({"promptTokenCount": 9, "thoughtsTokenCount": 3, "totalTokenCount": 12}, Usage(input=9, reasoning=3)),
    ],
)
def test_a_report_that_counts_nothing_of_what_came_out_is_no_bill_of_it(counts: dict[str, int], usage: Usage) -> None:
    said = response(candidate({"text": "Hi"}, finish="STOP"), usage=counts)
    for _, seen in (answer(said), streamed(events(said))):
        assert (seen.usage, seen.usage_early) == (usage, True)


def test_a_report_of_thoughts_alone_bills_an_answer_that_is_nothing_else() -> None:
    counts = {"promptTokenCount": 9, "thoughtsTokenCount": 3, "totalTokenCount": 12}
    said = response(candidate({"text": "Hm", "thought": True}, finish="MAX_TOKENS"), usage=counts)
    for _, seen in (answer(said), streamed(events(said))):
        assert (seen.usage, seen.usage_early) == (Usage(input=9, reasoning=3), False)


def test_an_event_past_the_bound_breaks_the_stream_after_what_came_before() -> None:
    made = Gemini().stream(request(stream=True), target(), event_bytes=1000, cap=9)
    large = response(candidate({"text": "x" * 2000}))
    with pytest.raises(relay.ProtocolError) as raised:
        made.feed(events(response(candidate({"text": "Hi"})), large))
    assert b"Hi" in raised.value.before


def test_an_answer_has_its_text_its_thoughts_and_its_usage() -> None:
    parts: list[dict[str, Any]] = [
        {"text": "Hm.", "thought": True},
        {"text": "Hel"},
        {"text": "lo", "thoughtSignature": "c2ln"},
    ]
    found, seen = answer(response(candidate(*parts, finish="STOP")))
    (choice,) = found["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "Hm.",
        "extra_content": {"google": {"thought_signature": "c2ln"}},
    }
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "STOP")
    assert (found["id"], seen.usage) == ("resp-1", Usage(input=9, output=4, reasoning=3))
    assert json.loads(bytes(seen.usage_raw or b"")) == COUNTS


FIRST: dict[str, Any] = {
    "functionCall": {"name": "weather", "args": {"city": "Ulm", "at": 1.50}, "id": "g1"},
    "thoughtSignature": "c2ln",
}
SECOND: dict[str, Any] = {"functionCall": {"name": "now"}}
CALLS = [
    {
        "id": "g1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Ulm","at":1.5}'},
        "extra_content": {"google": {"thought_signature": "c2ln"}},
    },
    {"id": f"call_{STEM}_0_1", "type": "function", "function": {"name": "now", "arguments": "{}"}},
]


def test_calls_have_their_ids_or_made_up_ones_that_stay_the_same() -> None:
    found, _ = answer(response(candidate(FIRST, SECOND, finish="STOP")))
    assert found["choices"][0]["message"]["tool_calls"] == CALLS
    assert found["choices"][0]["finish_reason"] == "tool_calls"
    chunks, _ = streamed(events(response(candidate(FIRST)), response(candidate(SECOND, finish="STOP"))))
    message = put_together(chunks)
    assert message["tool_calls"] == [{"index": number, **each} for number, each in enumerate(CALLS)]
    assert message["finish"] == "tool_calls"


def test_candidates_are_choices() -> None:
    asked = request(n=2)
    first, second = candidate({"text": "a"}, finish="STOP"), candidate({"text": "b"}, finish="MAX_TOKENS", index=1)
    found, _ = answer(response(first, second), asked)
    assert [(one["message"]["content"], one["finish_reason"]) for one in found["choices"]] == [
        ("a", "stop"),
        ("b", "length"),
    ]
    chunks, seen = streamed(events(response(second), response(first)), request(n=2, stream=True))
    assert [put_together(chunks, index)["content"] for index in (0, 1)] == ["a", "b"]
    assert seen.finished


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((word, "content_filter") for word in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY")),
        *((word, "stop") for word in ("MALFORMED_FUNCTION_CALL", "OTHER", "A_WORD_OF_A_LATER_VERSION")),
    ],
)
def test_why_an_answer_ended_is_told_in_openai_s_words_and_in_google_s(word: str, reason: str) -> None:
    body = {"candidates": [{"finishReason": word}], "usageMetadata": COUNTS}
    found, _ = answer(body)
    choice = found["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"], choice["message"]["content"]) == (
        reason,
        word,
        None,
    )
    chunks, _ = streamed(events(body))
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]] == [None, reason]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


def test_a_blocked_prompt_is_an_empty_answer_that_a_filter_has_finished() -> None:
    usage = {"promptTokenCount": 9, "totalTokenCount": 9}
    body = response(usage=usage, promptFeedback={"blockReason": "PROHIBITED_CONTENT"})
    del body["candidates"]
    found, seen = answer(body)
    choice = found["choices"][0]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("content_filter", "PROHIBITED_CONTENT")
    assert seen.usage == Usage(input=9)
    chunks, seen = streamed(events(body), request(n=2, stream=True))
    assert [put_together(chunks, index)["finish"] for index in (0, 1)] == ["content_filter"] * 2
    assert seen.usage == Usage(input=9)


PICTURE = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
SHOWN = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]


def test_images_come_out_as_data_urls_and_are_billed_as_images() -> None:
    details = [{"modality": "IMAGE", "tokenCount": 1290}]
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 1300, "totalTokenCount": 1309}
    body = response(
        candidate({"text": "Here:"}, PICTURE, finish="STOP"), usage={**usage, "candidatesTokensDetails": details}
    )
    found, seen = answer(body)
    assert found["choices"][0]["message"]["images"] == SHOWN
    assert (seen.usage, seen.usage_doubtful) == (Usage(input=9, output=10, output_image=1290), False)
    chunks, _ = streamed(events(body))
    assert put_together(chunks)["images"] == SHOWN
    _, seen = answer(response(candidate(PICTURE, finish="STOP"), usage=usage))
    assert (seen.usage, seen.usage_doubtful) == (Usage(input=9, output_image=1300), True)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"nonsense", b'{"candidates":[]}', b'{"candidates":{}}', b"\xff"])
def test_what_is_no_answer_is_a_fault_of_the_provider(body: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        Gemini().answer(body, request(), target())


ERROR = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize("body", [ERROR, [ERROR]])
def test_an_error_in_the_midst_of_a_stream_is_told_as_one(body: Any) -> None:
    made = Gemini().stream(request(stream=True), target(), event_bytes=9999, cap=9)
    with pytest.raises(relay.StreamedError) as raised:
        made.feed(events(STREAM[1], body))
    assert "Grüß" in raised.value.before.decode()
    told = reply.streamed_error("gemini", raised.value.args[0])
    assert (told.code, told.upstream_status, told.retryable) == ("provider_overloaded", 503, True)


def refusal(status: int, error: dict[str, Any], *, wrapped: bool = False) -> Any:
    body: Any = {"error": error}
    raw = Gemini().refusal(status, {}, json.dumps([body] if wrapped else body).encode())
    return reply.upstream_error("gemini", status, raw)


@pytest.mark.parametrize(
    ("status", "word", "message", "code", "ours"),
    [
        (400, "INVALID_ARGUMENT", "Invalid value at 'contents'.", "invalid_request", 400),
        (
            400,
            "INVALID_ARGUMENT",
            "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
            "context_length_exceeded",
            400,
        ),
        (400, "FAILED_PRECONDITION", "Not supported here.", "precondition_failed", 400),
        (403, "PERMISSION_DENIED", "Denied.", "provider_unavailable", 502),
        (404, "NOT_FOUND", "models/x is not found.", "not_found", 404),
        (429, "RESOURCE_EXHAUSTED", "Quota exceeded.", "rate_limit_exceeded", 429),
        (500, "INTERNAL", "An internal error.", "server", 502),
        (503, "UNAVAILABLE", "Overloaded.", "provider_overloaded", 502),
        (504, "DEADLINE_EXCEEDED", "Too late.", "timeout", 504),
        (499, "A_LATER_WORD", "?", "provider_unavailable", 502),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_errors_have_codes_of_the_vocabulary(
    status: int, word: str, message: str, code: str, ours: int, *, wrapped: bool
) -> None:
    found = refusal(status, {"code": status, "message": message, "status": word, "details": []}, wrapped=wrapped)
    assert (found.code, found.status) == (code, ours)
    if status in {400, 404}:
        assert found.message == message


def test_an_operator_s_key_that_is_none_is_not_told_to_a_client_as_his_fault() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    message = "API key not valid. Please pass a valid API key."
    found = refusal(400, {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details})
    assert (found.status, found.code, found.retryable) == (502, "provider_unavailable", False)
    assert "key" not in found.message


def counted(**counts: Any) -> Any:
    GenerateContentResponse.model_validate({"usageMetadata": counts})
    found = reported(Raw(json.dumps(counts).encode()), whole=True)
    assert found is not None
    return found


def of(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": modality, "tokenCount": count} for modality, count in counts.items()]


def listed(model: str) -> Price:
    found = GenaiPrices(clock=lambda: 1_796_000_000.0).find("google", model)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    ("model", "counts", "usage", "nano"),
    [
        (
            "gemini-2.5-flash",
            {"promptTokenCount": 1000, "candidatesTokenCount": 100, "thoughtsTokenCount": 50, "totalTokenCount": 1150},
            Usage(input=1000, output=100, reasoning=50),
            1000 * 300 + 150 * 2500,
        ),
        (
            "gemini-2.5-flash",  # a cached prompt: what was cached is in the prompt
            {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 600,
                "candidatesTokenCount": 10,
                "totalTokenCount": 1010,
                "promptTokensDetails": of(TEXT=1000),
                "cacheTokensDetails": of(TEXT=600),
            },
            Usage(input=400, cache_read=600, output=10),
            400 * 300 + 600 * 30 + 10 * 2500,
        ),
        (
            "gemini-2.5-flash",  # sound, a part of it cached
            {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 500,
                "candidatesTokenCount": 10,
                "totalTokenCount": 1010,
                "promptTokensDetails": of(TEXT=300, AUDIO=600, IMAGE=100),
                "cacheTokensDetails": of(TEXT=150, AUDIO=300, IMAGE=50),
            },
            Usage(input=150, cache_read=200, cache_read_audio=300, input_audio=300, input_image=50, output=10),
            150 * 300 + 200 * 30 + 300 * 100 + 300 * 1000 + 50 * 300 + 10 * 2500,
        ),
        (
            "gemini-2.5-pro",  # at the cliff
            {"promptTokenCount": 200_000, "candidatesTokenCount": 10, "totalTokenCount": 200_010},
            Usage(input=200_000, output=10),
            200_000 * 1250 + 10 * 10_000,
        ),
        (
            "gemini-2.5-pro",  # past the cliff, by what a tool has put in
            {
                "promptTokenCount": 200_000,
                "toolUsePromptTokenCount": 1,
                "candidatesTokenCount": 10,
                "totalTokenCount": 200_011,
            },
            Usage(input=200_000, tool_prompt=1, output=10),
            200_001 * 2500 + 10 * 15_000,
        ),
        (
            "gemini-2.5-flash-image",
            {
                "promptTokenCount": 20,
                "candidatesTokenCount": 1300,
                "totalTokenCount": 1320,
                "candidatesTokensDetails": of(TEXT=10, IMAGE=1290),
            },
            Usage(input=20, output=10, output_image=1290),
            20 * 300 + 10 * 2500 + 1290 * 30_000,
        ),
    ],
)
def test_usage_as_google_reports_it_comes_to_what_google_bills(
    model: str, counts: dict[str, Any], usage: Usage, nano: int
) -> None:
    found = counted(**counts)
    assert (found.usage, found.doubtful) == (usage, False)
    assert pricing.cost(found.usage, listed(model)) == nano


def test_thoughts_inside_the_candidates_are_taken_out_and_a_count_left_out_is_found_by_the_total() -> None:
    inside = counted(promptTokenCount=9, candidatesTokenCount=7, thoughtsTokenCount=3, totalTokenCount=16)
    assert (inside.usage, inside.doubtful) == (Usage(input=9, output=4, reasoning=3), False)
    left_out = counted(promptTokenCount=9, thoughtsTokenCount=3, totalTokenCount=16)
    assert (left_out.usage, left_out.doubtful) == (Usage(input=9, output=4, reasoning=3), False)
    all_thought = counted(promptTokenCount=9, thoughtsTokenCount=3, totalTokenCount=12)
    assert all_thought.usage == Usage(input=9, reasoning=3)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"totalTokenCount": 14}, Usage(input=10, output=5)),
        ({"totalTokenCount": 99}, Usage(input=10, output=5, reasoning=84)),
        ({"cachedContentTokenCount": 11}, Usage(cache_read=10, output=5)),
        ({"promptTokensDetails": of(AUDIO=2), "cacheTokensDetails": of(AUDIO=3), "cachedContentTokenCount": 3},
         Usage(input=7, cache_read_audio=3, output=5)),
        ({"cacheTokensDetails": of(AUDIO=3), "promptTokensDetails": of(AUDIO=3), "cachedContentTokenCount": 2},
         Usage(input=8, cache_read_audio=2, output=5)),
        ({"candidatesTokensDetails": of(IMAGE=6)}, Usage(input=10, output_image=5)),
    ],
)  # fmt: skip
def test_a_report_that_contradicts_itself_is_doubtful_and_counts_no_token_twice(counts: Any, usage: Usage) -> None:
    found = counted(**{"promptTokenCount": 10, "candidatesTokenCount": 5, **counts})
    assert (found.usage, found.doubtful) == (usage, True)


def test_what_was_cached_untold_was_text_before_sound() -> None:
    found = counted(
        promptTokenCount=10, cachedContentTokenCount=8, candidatesTokenCount=1, promptTokensDetails=of(TEXT=5, AUDIO=5)
    )
    assert (found.usage, found.doubtful) == (Usage(cache_read=8, input_audio=2, output=1), True)


def test_counts_that_no_request_can_have_are_no_report() -> None:
    for counts in ({"promptTokenCount": -1}, {"promptTokenCount": 10**10}):
        _, seen = answer(response(candidate({"text": "a"}, finish="STOP"), usage={**counts, "candidatesTokenCount": 1}))
        assert seen.usage is None
