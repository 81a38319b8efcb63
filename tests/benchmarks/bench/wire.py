"""
What goes over the wire, as bytes made once.

A question carries an order to the fake upstream inside its first message, since that is what every contestant passes on
as it is: ``~json~`` asks for one JSON answer, ``~sse 100 20000~`` for a stream of 100 events, one every 20,000 us, and
``~sse 100 0 7~`` for one that goes on a step whenever the client says 7 on a connection of its own (:data:`STEPS`).
"""

import base64
import json
import random

__all__ = [
    "ANSWER",
    "KEYS",
    "MODEL",
    "PATH",
    "STEPS",
    "agent_question",
    "event",
    "json_question",
    "last_events",
    "question",
    "request",
    "stream_question",
]

MODEL = "fake/fake-1"
KEYS = tuple(f"bench-consumer-{number:02}-shows-this-key" for number in range(16))
PATH = "/llm/v1/chat/completions"
STEPS = b"STEP"
"""What a client's own connection to the upstream begins with; a stream's number follows for each step, in 4 bytes."""
_FILLER = "The quick brown fox jumps over the lazy dog while the benchmark counts what that costs. "

_CONTENT = _FILLER * 5
_USAGE = {"prompt_tokens": 210, "completion_tokens": 96, "total_tokens": 306}
ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": "fake-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": _CONTENT}, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
).encode()
"""The upstream's JSON answer."""


def question(order: str, *, image_bytes: int = 0, cap: int = 256, **fields: object) -> bytes:
    """A chat request of about 1 KB that has an order for the fake upstream, and perhaps an image."""
    content: object = _FILLER * 3
    if image_bytes:
        picture = random.Random(1).randbytes(image_bytes * 3 // 4)  # the same each time
        url = "data:image/png;base64," + base64.b64encode(picture).decode()
        content = [{"type": "text", "text": _FILLER}, {"type": "image_url", "image_url": {"url": url}}]
    messages = [{"role": "system", "content": f"~{order}~ {_FILLER * 5}"}, {"role": "user", "content": content}]
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": cap, "temperature": 0.2, **fields}).encode()


def json_question(image_bytes: int = 0) -> bytes:
    """Asks for one JSON answer."""
    return question("json", image_bytes=image_bytes)


def agent_question() -> bytes:
    """
    Asks for one JSON answer as an agent does in the middle of its work: 230 KB, most of which are 60 calls of tools and
    what came of them, and 40 the 30 tools themselves.
    """
    arguments = json.dumps({"path": "src/main.py", "why": _FILLER})
    messages: list[dict[str, object]] = [{"role": "system", "content": f"~json~ {_FILLER * 90}"}]
    for number in range(60):
        function = {"name": f"tool_{number % 30}", "arguments": arguments}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        found = f'def found_{number}(it):\n    return {{"it": [it]}}  # {_FILLER * 30}\n'
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{number}", "content": found})
    values = {f"value_{number}": {"type": "string", "description": _FILLER} for number in range(5)}
    parameters = {"type": "object", "properties": values, "required": ["value_0"]}
    tools = [
        {
            "type": "function",
            "function": {"name": f"tool_{number}", "description": _FILLER * 5, "parameters": parameters},
        }
        for number in range(30)
    ]
    return json.dumps({"model": MODEL, "messages": messages, "tools": tools, "max_tokens": 4096}).encode()


def stream_question(events: int, gap_us: int, *, step: int | None = None) -> bytes:
    """Asks for a stream; ``gap_us=0`` has it as fast as it goes, or by steps."""
    order = f"sse {events} {gap_us}" if step is None else f"sse {events} {gap_us} {step}"
    cap = max(256, 2 * events)  # a gateway that holds for a cap cuts what runs past it
    return question(order, cap=cap, stream=True, stream_options={"include_usage": True})


def request(body: bytes, key: str = KEYS[0]) -> bytes:
    """A whole HTTP/1.1 request."""
    head = (
        f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def event(delta: dict[str, str], **fields: object) -> bytes:
    """One event of a stream."""
    chunk = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": "fake-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
        **fields,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def last_events() -> bytes:
    """What ends a stream: the finish reason, the usage, and the marker."""
    finish = event({}, choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    return finish + event({}, choices=[], usage=_USAGE) + b"data: [DONE]\n\n"
