"""
The demo's model: an upstream in this process, which needs no network and no account.

It speaks OpenAI's chat completions as a real one does, and answers with the last user message.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import anyio
import msgspec
from msgspec import Struct

from hpp_middleware.core import sse
from hpp_middleware.types.http import HTTPCall

__all__ = ["Echo"]

PAUSE_S = 0.03
LONGEST_S = 3.0
"""A pause before each piece of a stream; less where there are many."""

_TOKEN = re.compile(r"\s?\S{1,4}|\s{1,4}")


class _Message(Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None


class _Options(Struct):
    include_usage: bool | None = None


class _Request(Struct):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _Options | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("messages must not be empty")
        for name in ("n", "max_tokens", "max_completion_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1")


_requests = msgspec.json.Decoder(_Request)
_encode = msgspec.json.encode


class Echo:
    """
    A transport whose upstream is this class.

    Args:
        pause_s: Before each piece of a stream.
    """

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> "_Response":  # noqa: ARG002  # the port's
        """See :class:`hpp_middleware.ports.Transport`."""
        sent()
        try:
            request = _requests.decode(call.body)
        except (msgspec.DecodeError, RecursionError) as error:
            return _Response(400, "application/json", [_error(str(error), "invalid_request_error")])
        if request.model != "echo":
            return _Response(404, "application/json", [_error("The only model here is echo.", "model_not_found")])
        answer = _Answer(request)
        if not request.stream:
            return _Response(200, "application/json", [answer.json()])
        pieces = list(answer.events())
        return _Response(200, "text/event-stream", pieces, min(self._pause_s, LONGEST_S / len(pieces)))

    async def aclose(self) -> None:
        """Nothing is open."""


class _Response:
    """Pieces of a body, each after a pause."""

    def __init__(self, status: int, content_type: str, pieces: list[bytes], pause_s: float = 0.0) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"content-type": content_type}
        self._pieces = iter(pieces)
        self._pause_s = pause_s

    async def read(self) -> bytes:
        """The next piece; empty at the end."""
        await anyio.sleep(self._pause_s)
        return next(self._pieces, b"")

    async def aclose(self) -> None:
        """Nothing is open."""


class _Answer:
    """One completion: the echo, cut at the cap, ``n`` times."""

    def __init__(self, request: _Request) -> None:
        self._request = request
        said = [text for message in request.messages if message.role == "user" for text in [_text(message)]]
        words = _TOKEN.findall(said[-1] if said else "")
        cap = min(request.max_completion_tokens or len(words), request.max_tokens or len(words))
        self._words = words[:cap]
        self._finish = "length" if cap < len(words) else "stop"
        self._n = request.n or 1
        self._head = {
            "id": f"chatcmpl-echo-{secrets.token_hex(8)}",
            "created": int(time.time()),
            "model": request.model,
        }

    def json(self) -> bytes:
        """The whole answer."""
        message = {"role": "assistant", "content": "".join(self._words)}
        choices = [{"index": index, "message": message, "finish_reason": self._finish} for index in range(self._n)]
        return _encode({**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage()})

    def events(self) -> Iterator[bytes]:
        """The same as a stream, a token an event."""
        yield self._event({"role": "assistant", "content": ""})
        for word in self._words:
            yield self._event({"content": word})
        yield self._event({}, self._finish)
        if self._request.stream_options is not None and self._request.stream_options.include_usage:
            usage = {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage()}
            yield sse.data_event(_encode(usage))
        yield sse.DONE

    def _event(self, delta: dict[str, str], finish: str | None = None) -> bytes:
        chunk = {**self._head, "object": "chat.completion.chunk"}
        return b"".join(
            sse.data_event(_encode({**chunk, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}))
            for index in range(self._n)
        )

    def _usage(self) -> dict[str, int]:
        prompt = sum(len(_TOKEN.findall(_text(message))) for message in self._request.messages)
        completion = self._n * len(self._words)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _text(message: _Message) -> str:
    """The text of a message, its other parts left out."""
    if isinstance(message.content, list):
        texts = [part.get("text") for part in message.content if part.get("type") == "text"]
        return "\n".join(text for text in texts if isinstance(text, str))
    return message.content or ""


def _error(message: str, code: str) -> bytes:
    return _encode({"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}})
