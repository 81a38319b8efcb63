"""Messages requests as a client's API hands them over, and what Anthropic's own dialect makes of them."""

import json
from typing import Any

from msgspec import Raw

from claude.messages import ID, stream_of, target
from hpp_middleware.dialects.anthropic import Anthropic
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage

USER = {"role": "user", "content": "Hi"}
TEXT = {
    "type": "text",
    "text": "",
    "deltas": [{"type": "text_delta", "text": word} for word in ("Hel", "lo", " Welt, ü")],
}
CALL = {
    "type": "tool_use",
    "id": "toolu_1",
    "name": "f",
    "input": {},
    "deltas": [{"type": "input_json_delta", "partial_json": '{"x":1}'}],
}
THOUGHT = {
    "type": "thinking",
    "thinking": "",
    "signature": "",
    "deltas": [{"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "EqQB"}],
}
FULL = stream_of(
    THOUGHT,
    TEXT,
    CALL,
    start={"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 9},
    usage={"output_tokens": 40},
)
USAGE = Usage(input=25, cache_read=9, output=40)
SIZE = len("Hm.Hello Welt, üf".encode()) + len('{"x":1}')


def asked(*messages: dict[str, Any], **fields: Any) -> Request:
    """A Messages request, as the client's API hands it over."""
    body = {"model": "anthropic/m", "max_tokens": 100, "messages": list(messages) or [USER], **fields}
    body = {name: value for name, value in body.items() if value is not ...}
    cap = body.get("max_tokens")
    return Request(
        fields={name: Raw(json.dumps(value).encode()) for name, value in body.items()},
        model="anthropic/m",
        api="messages",
        stream=bool(body.get("stream")),
        cap=cap if isinstance(cap, int) else None,
    )


def call_of(asks: Request, found: Target | None = None, *, cap: int | None = None) -> HTTPCall:
    found = found or target()
    dialect = Anthropic().native("messages", found.provider)
    assert dialect is not None
    return dialect.call(asks, found, cap=cap, request_id=ID)
