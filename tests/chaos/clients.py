"""The faults of clients: they leave, they stand still, they send what is no request."""

import gzip
from collections.abc import Iterator
from dataclasses import replace

from chaos.bench import Answer, Line
from chaos.cells import SERVERS, Act, Cell, Fault, answer, gone, left, unsent
from chaos.upstreams import TEXTS
from hpp_middleware.testing import Script

__all__ = ["CLIENTS"]

SAID = TEXTS[0]
SILENT = Script(texts=TEXTS, close_before_head=True, stall=True)
SOON = Script(texts=TEXTS, delay_head_s=0.2)
LATER = Script(texts=TEXTS, delay_between_s=0.1)


def _leaves(position: str, name: str, act: "Leaving", **fault: object) -> Iterator[Fault]:
    """A position at which the client leaves: by FIN, and by RST."""
    for how, title in (("fin", "it closes the connection"), ("rst", "it resets the connection")):
        yield Fault(id=f"client-{name}-{how}", title=title, position=position, act=act(reset=how == "rst"), **fault)  # type: ignore[arg-type]


class Leaving:
    """
    Asks, and leaves at some point.

    Args:
        point: What it does up to there.
    """

    def __init__(self, point: Act) -> None:
        self._point = point

    def __call__(self, *, reset: bool) -> Act:
        """To leave by FIN or by RST."""

        def act(line: Line) -> None:
            self._point(line)
            line.leave(reset=reset)

        return act


def half_sent(line: Line) -> None:
    """Half the body is out."""
    line.send(line.head() + line.body[: len(line.body) // 2])
    line.begun()


def asked(line: Line) -> None:
    """The provider has been asked."""
    line.send()
    line.arrived()


def reading(count: int) -> Act:
    """So many events have come."""

    def point(line: Line) -> None:
        line.send()
        line.events(count)

    return point


def whole(line: Line) -> None:
    """The whole answer has come."""
    line.send()
    line.read()


def _departures() -> Iterator[Fault]:
    yield from _leaves(
        "it leaves while it sends its request", "sending", Leaving(half_sent), json=gone(), stream=gone(), asked=0
    )
    yield from _leaves(
        "it leaves before the provider answers", "before-head", Leaving(asked), json=left("usage"), script=SOON
    )
    yield from _leaves(
        "it leaves before the provider's head", "before-stream", Leaving(asked), stream=left("estimate"), script=SILENT
    )
    for position, name, count, text in (
        ("it leaves after the first event", "first", 1, ""),
        ("it leaves between two events", "between", 2, SAID),
        ("it leaves before the finish reason", "texts", 3, "".join(TEXTS)),
    ):
        yield from _leaves(
            position,
            name,
            Leaving(reading(count)),
            stream=left("estimate"),
            script=Script(texts=TEXTS, stall_after_events=count),
            text=text,
        )
    yield from _leaves(
        "it leaves after the finish reason", "finish", Leaving(reading(4)), stream=left("usage"), script=LATER
    )
    done = Cell(None, None, after_head=False, charged="usage", outcome="completed")
    yield from _leaves(
        "it leaves with the last byte", "done", Leaving(whole), json=done, stream=done, script=Script(texts=TEXTS)
    )
    yield from _leaves(
        "it leaves between two events, and `on_disconnect` is `drain`",
        "drained",
        Leaving(reading(2)),
        stream=left("usage"),
        script=LATER,
        provider="drain",
    )


def half_closes(line: Line) -> None:
    """It says that it sends no more, and listens."""
    asked(line)
    line.half_close()
    line.ended()


def stands_still(line: Line) -> None:
    """It reads no more, and the connection stays."""
    line.send()
    line.events(2)
    line.quiet()


def _readers() -> Iterator[Fault]:
    half = Fault(
        id="client-half-close",
        title="it sends its FIN, and listens (which servers take for leaving)",
        position="it waits for its answer",
        act=half_closes,
    )
    yield replace(half, json=left("usage"), script=SOON)
    yield replace(
        half, id="client-half-close-stream", position="it waits for its stream", stream=left("estimate"), script=SILENT
    )
    yield Fault(
        id="client-frozen",
        title="it reads no more, and its connection stands",
        position="in mid-stream",
        stream=left("relayed"),
        script=Script(texts=("word " * 2_000,), endless=True),
        provider="hasty",
        fields={"max_tokens": 1_000_000},
        act=stands_still,
        text="word " * 2_000,
    )


def of(*parts: str, data: bytes | None = None, **replaced: str | None) -> Act:
    """Send a head with these lines and headers, and a body; and read the answer."""

    def act(line: Line) -> Answer:
        line.send(line.head(*parts, **replaced) + (line.body if data is None else data))
        return line.read()

    return act


def half(line: Line) -> Answer:
    """Send half of it, and wait."""
    half_sent(line)
    return line.read()


def byte_by_byte(line: Line) -> Answer:
    """Send a byte at a time."""
    line.send(line.head())
    for number in range(len(line.body)):
        line.send(line.body[number : number + 1])
    return line.read()


def expects(line: Line) -> Answer:
    """Wait for leave to send the body."""
    line.send(line.head("Expect: 100-continue"))
    line.until(b"HTTP/1.1 100 Continue\r\n\r\n")
    line.send(line.body)
    return line.read()


def chunked(line: Line) -> Answer:
    """Send chunks without end."""
    line.send(line.head("Transfer-Encoding: chunked", Content_Length=None))
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    for _ in range(200):
        line.send(piece)
    return line.read()


def twice(line: Line) -> Answer:
    """Send the request two times without waiting; the first answer must be good, and the second is told."""
    line.send(2 * (line.head() + line.body))
    first, second = line.reads(2)
    assert (first.status, first.text) == (200, second.text)
    return second


def _requests() -> Iterator[Fault]:
    rows: list[tuple[str, str, Cell, Act]] = [
        ("half", "half the body, and silence", unsent(408, "request_timeout"), half),
        ("long", "a length that is larger than the body", unsent(408, "request_timeout"), of(Content_Length="100000")),
        ("short", "a length that is smaller than the body", unsent(400, SERVERS), of(Content_Length="20")),
        ("negative", "a length below zero", unsent(400, SERVERS), of(Content_Length="-5")),
        ("two-lengths", "two lengths", unsent(400, SERVERS), of("Content-Length: 5")),
        ("both", "a length and chunks", unsent(400, SERVERS), of("Transfer-Encoding: chunked")),
        ("too-large", "a length above the limit", unsent(413, "request_too_large"), of(Content_Length="99999999")),
        ("endless", "chunks without end", unsent(413, "request_too_large"), chunked),
        ("no-type", "no content type", unsent(415, "unsupported_media_type"), of(Content_Type=None)),
        (
            "gzip",
            "a compressed body",
            unsent(415, "unsupported_media_type"),
            lambda line: of("Content-Encoding: gzip", data=(z := gzip.compress(line.body)), Content_Length=str(len(z)))(
                line
            ),
        ),
        ("keys", "two keys", unsent(401, "unauthorized"), of("apikey: another-key-of-somebody")),
        ("no-key", "no key", unsent(401, "unauthorized"), of(apikey=None)),
        ("utf8", "a body that is no UTF-8", unsent(400, "invalid_request"), of(data=b"\xff" * 9, Content_Length="9")),
        ("empty", "no body", unsent(400, "invalid_request"), of(data=b"", Content_Length="0")),
    ]
    for name, title, cell, act in rows:
        yield Fault(id=f"client-{name}", title=title, position="the request", json=cell, stream=cell, act=act, asked=0)
    for name, title, act, times in (
        ("slow", "byte by byte", byte_by_byte, 1),
        ("expect", "it waits for `100 Continue`", expects, 1),
        ("twice", "a second request before the first is answered", twice, 2),
    ):
        yield Fault(
            id=f"client-{name}",
            title=title,
            position="the request",
            act=act,
            asked=times,
            script=Script(texts=TEXTS),
            json=answer(),
            stream=answer(),
        )


CLIENTS: list[Fault] = [*_departures(), *_readers(), *_requests()]
