"""What the promises of dialects are tried with: a request, where it goes, and an answer of the provider's."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hpp_middleware.core import parse, relay
from hpp_middleware.ports import Dialect, StreamReader
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

__all__ = [
    "ID",
    "MODEL",
    "DialectPromise",
    "Sample",
    "events",
    "fed",
    "question",
    "reader",
    "request",
    "target",
    "text_in",
]

ID = "req_0199aabbccdd00112233445566778899"
MODEL = "a-model-of-theirs"
CAP = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Sample:
    """
    An answer of a provider's, and what it means.

    Attributes:
        provider: As it would be configured.
        answer: A whole answer's body.
        stream: The same answer as a stream's bytes.
        text: What the model says in it.
        usage: What it reports, in disjoint buckets.
        tool_calls: The tools it calls: pairs of a name and of what its arguments decode to.
        reasoning: What it thinks aloud.
        finish: The finish reason, in OpenAI's words.
        fields: What the request that it answers has besides model and messages.
    """

    provider: Provider
    answer: bytes
    stream: bytes
    text: str
    usage: Usage
    tool_calls: tuple[tuple[str, Any], ...] = ()
    reasoning: str = ""
    finish: str = "stop"
    fields: dict[str, Any] = field(default_factory=dict)


DialectPromise = Callable[[Dialect, Sample], None]


def target(sample: Sample) -> Target:
    """Where the requests go."""
    return Target(
        id=f"theirs/{MODEL}",
        provider_name="theirs",
        model_name=MODEL,
        provider=sample.provider,
        model=Model(),
        price=Price(base=Rates(input=10**12, output=2 * 10**12)),
    )


def question(**fields: Any) -> dict[str, Any]:
    """A chat completion's body."""
    return {"model": f"theirs/{MODEL}", "messages": [{"role": "user", "content": "Say hello."}], **fields}


def request(sample: Sample, **fields: Any) -> Request:
    """A request, read as the router reads it."""
    return parse.completion(json.dumps(question(**{**sample.fields, **fields})).encode(), Limits())


def reader(dialect: Dialect, sample: Sample, *, cap: int = CAP, **fields: Any) -> StreamReader:
    """What reads one streamed answer."""
    asked = request(sample, stream=True, **fields)
    return dialect.stream(asked, target(sample), event_bytes=2**20, cap=cap, request_id=ID)


def fed(found: StreamReader, *chunks: bytes) -> bytes:
    """What the client gets for these bytes and their end; of an error, what comes before it."""
    out = []
    for chunk in (*chunks, None):
        if found.done:
            break
        try:
            out.append(found.close() if chunk is None else found.feed(chunk))
        except (relay.ProtocolError, relay.StreamedError) as error:
            out.append(error.before)
            break
    return b"".join(out)


def events(data: bytes) -> list[Any]:
    """The data of a stream's events, parsed; ``[DONE]`` as it is."""
    found = [event.removeprefix(b"data: ") for event in data.split(b"\n\n") if event.startswith(b"data: ")]
    return ["[DONE]" if event == b"[DONE]" else json.loads(event) for event in found]


def text_in(data: bytes) -> str:
    """The text of a stream's events."""
    deltas = [choice["delta"] for event in events(data) if event != "[DONE]" for choice in event["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)
