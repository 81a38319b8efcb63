"""Few bytes, and many tokens: requests that cost more than they seem to, and answers of the kind."""

import base64
import json
import struct
from typing import Any

import pytest

from attacks.targets import API_OF, DIALECTS, target
from attacks.test_mutated_requests import LIMITS
from hpp_middleware.core import bound
from hpp_middleware.core.settlement import End
from hpp_middleware.core.usage import told, told_responses
from hpp_middleware.errors import RequestError
from hpp_middleware.stages.attempts.job import Job
from hpp_middleware.stages.route.speak import said
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Usage

SMALL = "data:image/webp;base64," + "A" * 120
"""A lossless WebP of one colour has so few bytes, however large it is."""

PDF = "data:application/pdf;base64," + "A" * 4000
CONTEXT = 200_000


def held(api: str, where: Target, **fields: Any) -> int:
    """For how many tokens of prompt is held."""
    spoken = API_OF[api]
    asked = spoken.request(json.dumps({"model": "x/y", **fields}).encode(), LIMITS)
    request, dialect = said(spoken, asked, where, DIALECTS, LIMITS)
    call = dialect.call(request, where, cap=10, request_id="req_1")
    found = bound.bound(request, where, sent_bytes=len(call.body), limits=LIMITS, more_tokens=call.more_tokens)
    return found.prompt // 10**12


def user(*parts: Any) -> dict[str, Any]:
    return {"max_tokens": 9, "messages": [{"role": "user", "content": list(parts)}]}


@pytest.mark.parametrize("dialect", ["gemini", "vertex"])
def test_images_that_come_as_files_are_held_for_as_images(dialect: str) -> None:
    file = {"type": "file", "file": {"file_data": SMALL}}
    assert held("chat", target(dialect, "gemini-3-flash-preview"), **user(*[file] * 20)) > 20 * bound.IMAGE_TOKENS


@pytest.mark.parametrize("dialect", ["openai", "azure"])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
        {"type": "file", "file": {"file_data": PDF.replace("data:", "DATA:").replace("pdf", "PDF")}},
        {"type": "file", "file": {"file_data": "JVBERi0x", "filename": "a.pdf"}},
        {"type": "image_url", "image_url": {"url": PDF}},
    ],
)
def test_a_document_is_held_for_by_what_fits_into_the_model(dialect: str, part: dict[str, Any]) -> None:
    assert held("chat", target(dialect, "gpt-5"), **user(part)) > CONTEXT


def test_text_and_what_speaks_of_documents_is_held_for_by_its_bytes() -> None:
    text = {"type": "text", "text": json.dumps({"file_data": PDF, "url": PDF})}
    plain = {"type": "file", "file": {"file_data": "data:text/plain;base64,AAAA", "filename": "a.txt"}}
    image = {"type": "image_url", "image_url": {"url": SMALL}}
    assert held("chat", target("openai", "gpt-5"), **user(text, plain, image)) < 12_000


def test_an_escape_hides_no_document() -> None:
    part = {"type": "input_file", "file_data": PDF, "filename": "a.pdf"}
    asked = {"model": "x/y", "input": [{"role": "user", "content": [part]}]}
    body = json.dumps(asked).replace("file_data", r"file\u005fdata").replace("/pdf", r"\/pdf").encode()
    where = target("openai", "gpt-5")
    spoken = API_OF["responses"]
    request, dialect = said(spoken, spoken.request(body, LIMITS), where, DIALECTS, LIMITS)
    assert dialect.call(request, where, cap=10, request_id="req_1").more_tokens == CONTEXT


def test_no_block_hides_a_document_or_an_image() -> None:
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 4000}}
    fetched = {"type": "web_fetch_tool_result", "content": {"type": "web_fetch_result", "content": document}}
    assert held("messages", target("anthropic"), **user(fetched)) > CONTEXT
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "A" * 120}}
    remote = {"type": "mcp_tool_result", "tool_use_id": "m", "content": [image] * 20}
    assert held("messages", target("anthropic"), **user(remote)) > 20 * bound.IMAGE_TOKENS
    given = {"type": "tool_use", "id": "t", "name": "f", "input": {"type": "document"}}
    assert held("messages", target("anthropic"), **user(given)) < 2_000


def wav(rate: int, *, kind: int = 1, before: bytes = b"") -> str:
    sound = b"\0" * 400
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, 1, rate, rate, 1, 8)
    return base64.b64encode(b"RIFF\0\0\0\0WAVE" + before + form + b"data" + struct.pack("<I", 400) + sound).decode()


def sound(data: str, form: str = "wav") -> dict[str, Any]:
    return user({"type": "input_audio", "input_audio": {"format": form, "data": data}})


def mp3(head: bytes) -> dict[str, Any]:
    return sound(base64.b64encode(head + b"\0" * 400).decode(), "mp3")


JUNK = struct.pack("<4sI", b"JUNK", 28) + b"\0" * 28


@pytest.mark.parametrize("asked", [sound(wav(8000)), sound(wav(44_100, before=JUNK)), mp3(b"ID3\4"), mp3(b"\xff\xfb")])
def test_sound_whose_bytes_bound_its_length_passes(asked: dict[str, Any]) -> None:
    assert held("chat", target("gemini", "gemini-2.5-flash"), **asked)


@pytest.mark.parametrize(
    "asked",
    [
        sound(wav(1)),  # an hour in 3,600 bytes
        sound(wav(8000, kind=0x55)),  # something else within
        sound(wav(1, before=b"JUNK\x08\0\0\0fmt \x10\0\0\0")),
        sound(base64.b64encode(b"OggS" + b"\0" * 400).decode()),
        sound("@@@@"),
        mp3(b"OggS"),
    ],
)
def test_sound_of_any_length_in_few_bytes_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=r"input_audio\.data"):
        held("chat", target("gemini", "gemini-2.5-flash"), **asked)


DRAWN = {"candidates": [{"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}}]}
MICRO = 10**12


def job(where: Target, request: Request) -> Job:
    call = DIALECTS[where.provider.dialect].call(request, where, cap=3000, request_id="req_1")
    found = bound.bound(request, where, sent_bytes=len(call.body), limits=LIMITS)
    return Job(
        id="req_1", account="a", request=request, target=where, call=call, bound=found, hold=found.want, cap=found.cap,
        limits=LIMITS, timeouts=where.provider.timeouts, missing_usage="estimate",
    )  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
def test_an_image_that_comes_out_of_a_chat_is_never_free(*, stream: bool) -> None:
    where = target("gemini", "gemini-3-pro-image", drawn=120 * MICRO)
    body = {"model": "x/y", "messages": [{"role": "user", "content": "draw"}], "stream": stream}
    request = API_OF["chat"].request(json.dumps(body).encode(), LIMITS)
    asked = job(where, request)
    if stream:
        reader = DIALECTS["gemini"].stream(request, where, event_bytes=1 << 20, cap=3000, request_id="req_1")
        reader.feed(b"data: " + json.dumps(DRAWN).encode() + b"\n\n")
        seen = reader.seen
    else:
        seen = DIALECTS["gemini"].answer(json.dumps(DRAWN).encode(), request, where, request_id="req_1")[1]
    assert (seen.images, seen.usage) == (1, None)
    whole = asked.charge(End.COMPLETED, seen)
    assert (whole.usage.output_image, whole.amount > 2_520 * 120_000) == (2_520, True)
    assert asked.charge(End.LEFT, seen).amount == asked.hold


def test_a_response_that_is_told_at_once_is_counted_where_it_has_no_usage() -> None:
    where = target("openai")
    request = API_OF["responses"].request(b'{"model":"x/y","input":"hi","stream":true}', LIMITS)
    _, dialect = said(API_OF["responses"], request, where, DIALECTS, LIMITS)
    reader = dialect.stream(request, where, event_bytes=1 << 20, cap=3000, request_id="req_1")
    item = {"type": "message", "content": [{"type": "output_text", "text": "hello " * 100}]}
    event = {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [item]}}
    reader.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert (reader.done, reader.seen.relayed_bytes) == (True, 600)


def test_what_was_cached_is_told_alike_in_both_of_openai_s_apis() -> None:
    usage = Usage(input=1, cache_read=2, cache_read_audio=3)
    assert told(usage)["prompt_tokens_details"]["cached_tokens"] == 5
    assert told_responses(usage)["input_tokens_details"]["cached_tokens"] == 5
