"""The faults of upstreams, position by position."""

import json
from collections.abc import Iterator
from typing import Any

from chaos.cells import Cell, Fault, Then, answer, cut, error
from hpp_middleware.testing import USAGE, Script

__all__ = ["UPSTREAM"]

TEXTS = ("Grüße", " an alle")
BROKE, BUSY = "provider_unavailable", "provider_overloaded"
WIDE = "ü".encode()
LARGE = {"padding": "x" * 9_000_000}
"""More than the sockets between us and an upstream hold: it is being sent when the fault comes."""

HOW: dict[str, tuple[str, dict[str, Any]]] = {
    "fin": ("the connection is closed", {}),
    "rst": ("the connection is reset", {"reset": True}),
    "stall": ("nothing more comes", {"stall": True}),
}


def _ends(
    position: str, name: str, *, json: tuple[Cell, Cell] | None = None, stream: tuple[Cell, Cell], **script: Any
) -> Iterator[Fault]:
    """A position at which the connection is closed, reset, or stands still; what comes of an end, and of silence."""
    for how, (title, fields) in HOW.items():
        silent = how == "stall"
        yield Fault(
            id=f"{name}-{how}",
            title=title,
            position=position,
            json=None if json is None else json[silent],
            stream=stream[silent],
            script=Script(texts=TEXTS, **script, **fields),
            provider="hasty" if silent else "fake",
        )


def _breaks() -> Iterator[Fault]:
    refused = error(502, BROKE), error(504, "timeout", "estimate")
    in_stream = cut(BROKE, "estimate"), cut("timeout", "estimate")
    unseen = cut(BROKE, "estimate", "next"), cut("timeout", "estimate", "next")
    reported = cut(BROKE, "usage"), cut("timeout", "usage")
    in_json = error(502, BROKE, "estimate"), error(504, "timeout", "estimate")
    yield from _ends("before the head", "before-head", json=refused, stream=refused, close_before_head=True)
    yield from _ends("in the head", "in-head", json=refused, stream=refused, truncate_head_at=40)
    yield from _ends(
        "after the head",
        "after-head",
        json=refused,
        stream=(cut(BROKE, "nothing", "again"), cut("timeout", "estimate", "next")),
        truncate_at_byte=0,
    )
    yield from _ends("within the first event", "in-first-event", json=in_json, stream=unseen, truncate_at_byte=30)
    yield from _ends("after the first event", "after-first-event", stream=in_stream, truncate_after_events=1)
    yield from _ends("between two events", "between-events", stream=in_stream, truncate_after_events=2)
    yield from _ends("within a character", "in-character", json=in_json, stream=in_stream, truncate_within=WIDE)
    yield from _ends("after the finish reason", "after-finish", stream=in_stream, truncate_after_events=4)
    yield from _ends("after the usage", "after-usage", stream=reported, truncate_after_events=5)
    yield from _ends("within `[DONE]`", "in-done", stream=reported, truncate_within=b"[DONE]")
    yield from _ends("after `[DONE]`", "after-done", stream=(answer(), answer()), truncate_after_events=6)


def _connecting() -> Iterator[Fault]:
    for provider, title, status, code in (
        ("absent", "the connection is refused", 502, BROKE),
        ("blackhole", "nobody answers", 504, "timeout"),
        ("nowhere", "the name is not known", 502, BROKE),
    ):
        told = error(status, code)
        yield Fault(id=provider, title=title, position="connecting", json=told, stream=told, provider=provider, asked=0)
    for provider, title, status, code in (
        ("tls-fin", "the connection is closed", 502, BROKE),
        ("tls-rst", "the connection is reset", 502, BROKE),
        ("tls-half", "the connection is closed half-way", 502, BROKE),
        ("tls-stall", "nothing more comes", 504, "timeout"),
        ("tls-plain", "it speaks no TLS", 502, BROKE),
        ("tls-untrusted", "its certificate is not trusted", 502, BROKE),
    ):
        told = error(status, code)
        yield Fault(
            id=provider,
            title=title,
            position="in the TLS handshake",
            json=told,
            stream=told,
            provider=provider,
            asked=0,
        )


def _during_the_request() -> Iterator[Fault]:
    early = error(413, "payload_too_large", then="next")
    for name, title, told, script in (
        ("fin", "the connection is closed", error(502, BROKE), Script(close_before_head=True, answer_after=5000)),
        (
            "rst",
            "the connection is reset",
            error(502, BROKE),
            Script(close_before_head=True, answer_after=5000, reset=True),
        ),
        (
            "stall",
            "nothing more is read",
            error(504, "timeout", "estimate"),
            Script(close_before_head=True, answer_after=5000, stall=True),
        ),
        ("refusal", "it answers 413 before it has read all", early, Script(status=413, answer_after=5000)),
    ):
        yield Fault(
            id=f"request-{name}",
            title=title,
            position="while the request is sent",
            json=told,
            stream=told,
            script=script,
            provider="hasty" if name == "stall" else "fake",
            fields=LARGE,
        )


def _kept() -> Iterator[Fault]:
    told = error(502, BROKE)
    for how, title in (("fin", "it is closed"), ("rst", "it is reset")):
        yield Fault(
            id=f"kept-{how}",
            title=f"{title} as the request comes, which may have been read",
            position="over a connection that was kept",
            json=told,
            stream=told,
            script=Script(close_before_head=True, reset=how == "rst"),
            provider="narrow",
            kept=True,
        )


OK = b"HTTP/1.1 200 OK\r\n"


def _heads() -> Iterator[Fault]:
    told = error(502, BROKE)
    both = OK + b"Content-Type: text/event-stream\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    for name, title, script in (
        ("garbage", "it is no HTTP", Script(raw_head=b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
        ("large", "a header of 1 MB", Script(raw_head=OK + b"X-A: " + b"v" * 1_000_000 + b"\r\n\r\n")),
        ("many", "100,000 headers", Script(raw_head=OK + b"X-A: v\r\n" * 100_000 + b"\r\n")),
        ("interim", "interim responses without end", Script(interim=-1)),
        ("lengths", "a length and chunks", Script(raw_head=both)),
        ("split", "a header that is folded", Script(raw_head=OK + b"X-A: v\r\n folded\r\nContent-Length: 2\r\n\r\n{}")),
    ):
        yield Fault(id=f"head-{name}", title=title, position="in the head", json=told, stream=told, script=script)
    yield Fault(
        id="head-hints",
        title="a few interim responses",
        position="in the head",
        json=answer(),
        stream=answer(),
        script=Script(texts=TEXTS, interim=3),
    )


KEPT = {
    400: "invalid_request",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
}
HIDDEN = {
    **dict.fromkeys((401, 402, 403, 418, 502, 507), BROKE),
    500: "server",
    503: "provider_overloaded",
    529: "provider_overloaded",
}


def _statuses() -> Iterator[Fault]:
    for status, code in KEPT.items():
        then: Then = "again" if status in {408, 429} else "next"
        yield _status(status, error(status, code, then=then))
    for status, code in HIDDEN.items():
        yield _status(status, error(502, code, then="again" if status >= 500 else "next"))
    yield _status(504, error(504, "timeout"))
    yield _status(301, error(502, BROKE, then="next"), headers=[("Location", "http://127.0.0.1:9/v1")])
    yield _status(204, error(502, BROKE, then="next"))
    usage = {"error": {"message": "no"}, "usage": USAGE}
    told = error(502, "server", "usage")
    yield Fault(
        id="status-500-usage",
        title="500, and a usage",
        position="the status",
        json=told,
        stream=told,
        script=Script(status=500, error=usage),
    )


def _status(status: int, told: Cell, **script: Any) -> Fault:
    return Fault(
        id=f"status-{status}",
        title=str(status),
        position="the status",
        json=told,
        stream=told,
        script=Script(status=status, **script),
    )


def event(data: bytes) -> bytes:
    """One of a stream."""
    return b"data: " + data + b"\n\n"


ERROR = event(b'{"error":{"message":"secret-host is overloaded","code":503}}')
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
FINISH = event(
    json.dumps({**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}).encode()
)
PAGE = b"<!DOCTYPE html><html><body>Please log in.</body></html>"
STREAM = "text/event-stream"


def _contents() -> Iterator[Fault]:
    nothing, reports, unread = error(502, BROKE), error(502, BROKE, "usage"), cut(BROKE, "estimate")
    for name, title, json_, stream, script in (
        ("html", "200, and an HTML page", nothing, nothing, Script(raw_body=PAGE, content_type="text/html")),
        ("html-claimed", "an HTML page that says it is an answer", nothing, None, Script(raw_body=PAGE)),
        ("type", "another content type", None, reports, Script(texts=TEXTS, content_type="application/json")),
        ("gzip", "compressed, unasked", nothing, nothing, Script(texts=TEXTS, content_encoding="gzip")),
        ("empty", "nothing", nothing, cut(BROKE, "nothing", "again"), Script(raw_events=())),
        ("array", "JSON that is no object", nothing, None, Script(raw_body=b"[1]", content_type="application/json")),
        ("half", "half an object", error(502, BROKE, "estimate"), None, Script(raw_body=b'{"id":"x","choi')),
        (
            "error-200",
            "an error in a 200",
            error(502, BROKE),
            None,
            Script(raw_body=b'{"error":{"message":"sorry"}}', content_type="application/json"),
        ),
        ("event-garbage", "an event that is no JSON", None, unread, Script(texts=TEXTS, inserted={2: event(b"{oops")})),
        ("event-large", "an event of 2 MB", None, unread, Script(texts=TEXTS, inserted={2: event(b"x" * 2_000_000)})),
        (
            "error-first",
            "an error event",
            None,
            cut("provider_overloaded", "nothing", "again"),
            Script(inserted={0: ERROR}),
        ),
        (
            "error-middle",
            "an error event",
            None,
            cut(BUSY, "estimate"),
            Script(texts=TEXTS, inserted={2: ERROR}),
        ),
        (
            "no-finish",
            "no finish reason and no `[DONE]`",
            None,
            cut(BROKE, "usage"),
            Script(texts=TEXTS, finish_reason=None, omit_done=True),
        ),
        ("no-done", "no `[DONE]`", None, answer(), Script(texts=TEXTS, omit_done=True)),
        ("finish-twice", "two finish reasons", None, answer(), Script(texts=TEXTS, inserted={4: FINISH})),
        ("after-done", "events after `[DONE]`", None, answer(), Script(texts=TEXTS, inserted={6: FINISH})),
        (
            "trailing",
            "bytes after the end",
            answer(),
            answer(),
            Script(texts=TEXTS, trailing=b"HTTP/1.1 200 OK\r\n\r\n"),
        ),
        ("comments", "comments between events", None, answer(), Script(texts=TEXTS, inserted={2: b": still here\n\n"})),
        ("dribble", "byte by byte", answer(), answer(), Script(texts=TEXTS, chunk_size=1)),
        ("crlf", "lines that end in CR LF", None, answer(), Script(texts=TEXTS, newline="\r\n")),
        (
            "no-length",
            "a body that ends with its connection",
            None,
            answer(),
            Script(texts=TEXTS, raw_head=OK + b"Content-Type: text/event-stream\r\nConnection: close\r\n\r\n"),
        ),
        (
            "no-length-cut",
            "such a body, cut between two events",
            None,
            cut(BROKE, "estimate"),
            Script(
                texts=TEXTS,
                raw_head=OK + b"Content-Type: text/event-stream\r\nConnection: close\r\n\r\n",
                truncate_after_events=3,
            ),
        ),
    ):
        yield Fault(id=f"body-{name}", title=title, position=_where(name), json=json_, stream=stream, script=script)


def _where(name: str) -> str:
    return {"error-first": "the first event", "error-middle": "between two events"}.get(name, "the body")


def _amounts() -> Iterator[Fault]:
    def usage(prompt: Any, completion: Any) -> dict[str, Any]:
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": 5_009 if completion == 5_000 else 11,
        }

    for name, title, told, script in (
        ("missing", "no usage", answer("estimate"), Script(texts=TEXTS, usage=None)),
        ("zero", "a usage of zeros", answer(), Script(texts=TEXTS, usage="zero")),
        ("negative", "a negative usage", answer("estimate"), Script(texts=TEXTS, usage=usage(-9, 2))),
        ("words", "a usage of words", answer("estimate"), Script(texts=TEXTS, usage=usage("nine", 2))),
        ("absurd", "a usage of 10^30 tokens", answer("estimate"), Script(texts=TEXTS, usage=usage(10**30, 2))),
        ("above", "a usage above the cap", answer(), Script(texts=TEXTS, usage=usage(9, 5_000))),
    ):
        yield Fault(id=f"usage-{name}", title=title, position="the usage", json=told, stream=told, script=script)


def _ends_that_never_come() -> Iterator[Fault]:
    yield Fault(
        id="endless",
        title="it goes on past its cap",
        position="the body",
        stream=answer("hold"),
        script=Script(texts=TEXTS, endless=True),
    )
    yield Fault(
        id="endless-json",
        title="it goes on past what an answer may have",
        position="the body",
        json=error(502, BROKE, "estimate"),
        script=Script(texts=("so" * 100_000,), endless=True),
    )
    late = Script(texts=TEXTS, endless=True, delay_between_s=0.05)
    yield Fault(
        id="total",
        title="it is too slow in all",
        position="the body",
        json=error(504, "timeout", "estimate", "no"),
        stream=cut("timeout", "estimate"),
        script=late,
        provider="brief",
    )


UPSTREAM: list[Fault] = [
    *_connecting(),
    *_during_the_request(),
    *_kept(),
    *_breaks(),
    *_heads(),
    *_statuses(),
    *_contents(),
    *_amounts(),
    *_ends_that_never_come(),
]
