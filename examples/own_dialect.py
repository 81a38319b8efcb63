"""
A dialect of one's own: for a provider that answers in lines of JSON, and counts tokens in words of its own.

    python examples/own_dialect.py

Two pure halves: a request into its HTTP call, bytes into pieces. Ids, chunks, caps, prices and usage events are the
router's. A package brings it under the entry point ``hpp_middleware.dialects``, or ``Gateway(dialects={"plain":
Plain()})`` takes it as it is. Run, it is held to every promise of ``check_dialect``.
"""

import json
from collections.abc import Iterator
from typing import Any

from msgspec import Raw

from hpp_middleware.dialects import chat, translating
from hpp_middleware.dialects.translating import Begun, Delta, Finish, Piece, Reader, Reported
from hpp_middleware.testing.dialects import Sample, check_dialect
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Provider

REASONS = {"end": "stop", "limit": "length"}


class Plain:
    """See :class:`hpp_middleware.ports.Dialect`."""

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """What is sent: the turns as pairs, the cap under the provider's own name."""
        asked = chat.read(request)
        dropped = chat.unsaid(request, {"temperature"})
        turns = [[turn.role, chat.text_of(turn, f"messages[{n}]")] for n, turn in enumerate(asked.messages)]
        body: dict[str, Any] = {
            "model": target.model_name,
            "turns": turns,
            "most": chat.cap_of(request, cap),
            "lines": request.stream,
        }
        if asked.temperature is not None:
            body["heat"] = asked.temperature
        return HTTPCall(
            url=f"{target.provider.base_url}/talk",
            headers=[
                ("Content-Type", "application/json"),
                ("Accept-Encoding", "identity"),
                ("Api-Key", target.provider.api_key or ""),
                ("X-Request-Id", request_id),
            ],
            body=json.dumps(body, ensure_ascii=False).encode(),
            connect_s=target.provider.timeouts.connect,
            dropped=dropped,
        )

    def stream(self, request: Request, target: Target, *, event_bytes: int, cap: int, **said: Any) -> Reader:
        """A reader for one stream."""
        return Reader(Lines(event_bytes), request, target, cap=cap, **said)

    def answer(self, body: bytes, request: Request, target: Target, **said: Any) -> tuple[bytes, Seen]:  # noqa: ARG002
        """A whole answer is one line."""
        return translating.answer(pieces_of(body), target, **said)


class Lines:
    """Bytes into pieces: what is complete with each newline."""

    def __init__(self, most: int) -> None:
        self._rest, self._most = b"", most

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The lines that these bytes complete."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > self._most:
            raise ValueError("a line is too long")
        for line in lines:
            yield from pieces_of(line)

    def close(self) -> Iterator[Piece]:
        """A last line needs no newline."""
        if self._rest.strip():
            yield from pieces_of(self._rest)


def pieces_of(line: bytes) -> Iterator[Piece]:
    """What one line means; whatever is not as it should be may raise."""
    said = json.loads(line)
    if "id" in said:
        yield Begun(said["id"])
    if "text" in said:
        yield Delta({"content": said["text"]})
    if "tokens" in said:
        tokens = said["tokens"]
        usage = Usage(input=tokens["in"] - tokens["remembered"], cache_read=tokens["remembered"], output=tokens["out"])
        yield Reported(usage, Raw(json.dumps(tokens).encode()))
    if "why" in said:
        yield Finish(REASONS[said["why"]], native=said["why"])


if __name__ == "__main__":
    SAMPLE = Sample(
        provider=Provider(base_url="https://plain.example.com", api_key="made-up-key-of-ours", dialect="plain"),
        answer=b'{"id": "p1", "text": "Hello!", "tokens": {"in": 9, "remembered": 4, "out": 2}, "why": "end"}',
        stream=b'{"id": "p1", "text": "Hel"}\n{"text": "lo!"}\n'
        b'{"tokens": {"in": 9, "remembered": 4, "out": 2}, "why": "end"}\n',
        text="Hello!",
        usage=Usage(input=5, cache_read=4, output=2),
    )
    check_dialect(Plain(), SAMPLE)
    print("every promise is kept")
