"""Requests that were made to cost more than is held for them: few bytes, and many tokens."""

import base64
import json
import struct
from typing import Any

import pytest

from attacks.targets import API_OF, DIALECTS, target
from attacks.test_mutated_requests import LIMITS
from hpp_middleware.core import bound
from hpp_middleware.errors import RequestError
from hpp_middleware.stages.speak import said
from hpp_middleware.types.completion import Target

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
