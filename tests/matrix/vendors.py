"""
Providers, one for each dialect: each holds what it is sent to its vendor's types, and answers in its vendor's words.

They are one HTTP server over loopback; a provider is the first part of the path. What a model says follows from what it
is asked (:func:`matrix.features.said_to`), and every provider reports the same counts, each in its own way.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from matrix import openai_words as openai
from matrix import other_words as others
from matrix.features import CELL, COUNTS, Counts, Said, kinds_in, said_to
from matrix.wording import SSE

__all__ = ["VENDORS", "Provided", "Vendor", "Vendors"]

_PATH = re.compile(r"/([a-z-]+)(/.*)")


class Vendor(NamedTuple):
    """
    A provider as it is configured.

    Attributes:
        title: For the table.
        settings: Of the gateway's ``Provider``, but for ``base_url``.
        base: What ``base_url`` has after the provider's own part of the path.
        model: A name that the dialect knows to think, where it has to know.
        counts: What it reports.
    """

    title: str
    settings: dict[str, Any]
    base: str = ""
    model: str = "some-model"
    counts: Counts = COUNTS


_SILENT = COUNTS._replace(reasoning=0)  # no word for thoughts: they are a part of the output
VENDORS: dict[str, Vendor] = {
    "openai": Vendor("OpenAI chat", {"dialect": "openai"}, "/v1"),
    "responses": Vendor("OpenAI, with Responses", {"dialect": "openai", "native_apis": {"responses"}}, "/v1"),
    "azure": Vendor("Azure OpenAI", {"dialect": "azure", "options": {"api_version": "2024-10-21"}}),
    "anthropic": Vendor("Anthropic", {"dialect": "anthropic"}, model="claude-sonnet-4-5"),
    "messages": Vendor(
        "OpenAI chat, with Messages", {"dialect": "openai", "native_apis": {"messages"}}, "/v1", "claude-sonnet-4-5"
    ),
    "gemini": Vendor("Gemini", {"dialect": "gemini"}, "/v1beta", "gemini-2.5-flash"),
    "vertex": Vendor("Vertex AI", {"dialect": "vertex"}, "/v1", "gemini-2.5-flash"),
    "bedrock": Vendor("Bedrock Converse", {"dialect": "bedrock"}, model=others.BEDROCK_MODEL, counts=_SILENT),
    "ollama": Vendor("Ollama", {"dialect": "ollama"}, counts=_SILENT),
}


class Provided(NamedTuple):
    """
    A request that was answered.

    Attributes:
        path: Where it was sent, without the provider's part.
        kinds: What it had: see :func:`matrix.features.kinds_in`.
    """

    path: str
    kinds: frozenset[str]


class Vendors:
    """
    All of them as an ASGI app.

    Attributes:
        journal: By the cell's number, what was answered, in order.
    """

    def __init__(self) -> None:
        self.journal: defaultdict[int, list[Provided]] = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say in a 400 what is wrong with it."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        try:
            response = self._answered(request.url.path, body)
        except (AssertionError, ValueError, KeyError) as error:  # pydantic's are ValueErrors
            message = f"{request.url.path}: {error}"
            response = Response(json.dumps({"error": {"message": message}}), 400, media_type="application/json")
        await response(scope, receive, send)

    def _answered(self, path: str, body: bytes) -> Response:
        match = _PATH.fullmatch(path)
        assert match is not None, "no provider"
        name, rest = match.groups()
        spoken = next((each for ending, each in _SPOKEN if re.search(ending, rest)), None)
        assert spoken is not None, "no such path"
        asked = json.loads(body)
        spoken.check(rest, body)
        kinds = kinds_in(body.decode())
        cell = CELL.search(body.decode())
        assert cell is not None, "whose request is it?"
        if "result" in kinds and spoken.has_ids:
            assert body.count(b'"call_up') >= 2, "a result must name its call"
        said = said_to(kinds, offers_tools=bool(asked.get("tools") or asked.get("toolConfig")))
        streams = spoken.streams(rest, asked)
        self.journal[int(cell[1])].append(Provided(rest, kinds))
        data = (spoken.stream if streams else spoken.whole)(said, VENDORS[name].counts)
        return Response(data, media_type=spoken.stream_type if streams else "application/json")


class _Spoken(NamedTuple):
    check: Callable[[str, bytes], None]
    streams: Callable[[str, Any], bool]
    whole: Callable[[Said, Counts], bytes]
    stream: Callable[[Said, Counts], bytes]
    stream_type: str = SSE
    has_ids: bool = True


def _asks_for_it(_: str, asked: Any) -> bool:
    return asked.get("stream") is True


# --- who speaks what --------------------------------------------------------------------------------------------------

_SPOKEN: list[tuple[str, _Spoken]] = [
    (
        r"/chat/completions$",
        _Spoken(openai.check_chat, _asks_for_it, openai.chat_whole, openai.chat_stream),
    ),
    (
        r"/responses$",
        _Spoken(openai.check_responses, _asks_for_it, openai.responses_whole, openai.responses_stream),
    ),
    (
        r"/v1/messages$",
        _Spoken(others.check_messages, _asks_for_it, others.messages_whole, others.messages_stream),
    ),
    (
        r":(stream)?[gG]enerateContent$",
        _Spoken(
            others.check_google,
            lambda path, _: path.endswith(":streamGenerateContent"),
            others.google_whole,
            others.google_stream,
            has_ids=False,
        ),
    ),
    (
        r"/converse(-stream)?$",
        _Spoken(
            others.check_bedrock,
            lambda path, _: path.endswith("-stream"),
            others.bedrock_whole,
            others.bedrock_stream,
            "application/vnd.amazon.eventstream",
        ),
    ),
    (
        r"/api/chat$",
        _Spoken(
            others.check_ollama,
            lambda _, asked: asked.get("stream") is not False,
            others.ollama_whole,
            others.ollama_stream,
            "application/x-ndjson",
            has_ids=False,
        ),
    ),
]
