"""A gateway in a server of its own, before a fake upstream and before nobody, and what is asked of its books."""

import io
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any, Self

import anyio
from background import BackgroundUpstream, running_upstream
from servers import free_port, serve

from hpp_middleware import Gateway, MemoryStore, Provider
from hpp_middleware.audit.check import Auditor
from hpp_middleware.testing import Script
from hpp_middleware.testing.upstream import Exchange
from hpp_middleware.types.provider import Declared, Limits, Timeouts
from hpp_middleware.types.quota import Entry

__all__ = ["CHAT", "Answer", "Bench", "Line", "absent", "blackhole", "estimate", "key", "running", "wait"]

CHAT = "/llm/v1/chat/completions"
PATIENT = Timeouts(connect=10, first_byte=30, idle=30, total=60)
HASTY = Timeouts(connect=0.5, first_byte=0.5, idle=0.5, total=30)
BRIEF = Timeouts(connect=10, first_byte=10, idle=10, total=0.5)
NARROW = Timeouts(connect=0.3, first_byte=30, idle=30, total=60)
PRICE = {"input": "1", "output": "2"}
PATIENCE_S = 30.0
QUOTA = 100 * 10**9


@dataclass(slots=True)
class Answer:
    """
    What a client got.

    Attributes:
        status: None where it got none.
        whole: Whether the body came to its end, as HTTP has it.
    """

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True

    @property
    def events(self) -> list[Any]:
        """The data of a stream's events, parsed; ``[DONE]`` as it is."""
        data = [event.removeprefix(b"data: ") for event in self.body.split(b"\n\n") if event.startswith(b"data: ")]
        return ["[DONE]" if item == b"[DONE]" else json.loads(item) for item in data]

    @property
    def is_stream(self) -> bool:
        """By its head."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def text(self) -> str:
        """What the model said."""
        if self.is_stream:
            choices = [item["choices"][0] for item in self.events if item != "[DONE]" and item.get("choices")]
            return "".join(choice["delta"].get("content") or "" for choice in choices)
        found = json.loads(self.body) if self.status == 200 else {}
        return str(found["choices"][0]["message"]["content"]) if found else ""

    @property
    def error(self) -> dict[str, Any] | None:
        """The error, in the place of an answer, or as the last event of a stream."""
        found: Any = self.events[-1] if self.is_stream and self.events else None if self.is_stream else self.body
        if isinstance(found, bytes):
            found = json.loads(found) if found else {}
        told: dict[str, Any] | None = found.get("error") if isinstance(found, dict) else None
        return told


class Counted:
    """
    The app, and how many requests are running in it.

    Attributes:
        begun: How many there were.
        running: How many have not returned.
    """

    def __init__(self, app: Any) -> None:
        self.begun = self.running = 0
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass it on."""
        self.begun += scope["type"] == "http"
        self.running += scope["type"] == "http"
        try:
            await self._app(scope, receive, send)
        finally:
            self.running -= scope["type"] == "http"


class Bench:
    """
    The gateway, its upstream, and its books.

    Attributes:
        url: The gateway's.
        upstream: Behind all providers that are there at all.
        app: What the server runs.
        store: The books.
    """

    def __init__(self, url: str, upstream: BackgroundUpstream, app: Counted, store: MemoryStore) -> None:
        self.url = url
        self.upstream = upstream
        self.app = app
        self.store = store
        self._consumers = 0

    def consumer(self) -> str:
        """One that nobody was before; its key is :func:`key`."""
        self._consumers += 1
        return f"consumer-{self._consumers}"

    def script(self, *scripts: Script) -> None:
        """Script the coming requests; what was scripted before, and nobody has asked for, is forgotten."""
        self.upstream.fake._scripts.clear()
        self.upstream.next(*scripts)

    def line(self, consumer: str, body: Mapping[str, Any], *, path: str = CHAT) -> "Line":
        """A client's connection, for ``with``."""
        return Line(self, consumer, json.dumps(body).encode(), path)

    def quiet(self) -> None:
        """Wait until nothing runs: each request has returned, and each exchange with the upstream has ended."""
        wait(lambda: not self.app.running)
        self.upstream.wait_until_idle()

    def lines(self, consumer: str) -> list[Entry]:
        """The ledger of a consumer; nothing is held, and the books agree."""
        checked = anyio.run(Auditor(self.store).reconcile, consumer)
        assert checked.findings == ()
        balance = anyio.run(self.store.balance, consumer)
        lines = anyio.run(self.store.lines, consumer)
        assert balance.held == 0
        assert balance.used == sum(line.amount for line in lines)
        return lines


class _Open(io.BufferedReader):
    """What is read from a connection; it stays open for the next response."""

    def close(self) -> None:
        """Not yet."""

    def makefile(self, _mode: str) -> Self:
        """As a socket has it."""
        return self


def _response(stream: _Open) -> Answer:
    response = HTTPResponse(stream, method="POST")  # type: ignore[arg-type]  # of a socket it asks for makefile alone
    try:
        response.begin()
    except (OSError, ValueError, HTTPException):
        return Answer(None, whole=False)
    headers = {name.lower(): value for name, value in response.getheaders()}
    try:
        return Answer(response.status, headers, response.read())
    except IncompleteRead as cut:
        return Answer(response.status, headers, cut.partial, whole=False)
    except OSError:
        return Answer(response.status, headers, whole=False)


def key(consumer: str) -> str:
    """What a consumer shows."""
    return f"the-key-that-{consumer}-shows"


class Line:
    """
    A client and its connection.

    Attributes:
        body: What it asks.
        seen: The bytes that :meth:`events` has read.
    """

    def __init__(self, bench: Bench, consumer: str, body: bytes, path: str) -> None:
        self.body = body
        self.seen = b""
        self._bench = bench
        self._consumer = consumer
        self._path = path
        self._asked, self._begun = len(bench.upstream.log), bench.app.begun
        self._socket = socket.create_connection(("127.0.0.1", int(bench.url.rpartition(":")[2])), timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._socket.close()

    def head(self, *more: str, **replaced: str | None) -> bytes:
        """
        The head of the request.

        Args:
            more: Lines of it besides.
            replaced: Headers by their names, with ``_`` for ``-``; None leaves one out.
        """
        fields: dict[str, str | None] = {
            "Host": "gateway",
            "Content-Type": "application/json",
            "Content-Length": str(len(self.body)),
            "apikey": key(self._consumer),
            **{name.replace("_", "-"): value for name, value in replaced.items()},
        }
        lines = [*(f"{name}: {value}" for name, value in fields.items() if value is not None), *more]
        return "\r\n".join([f"POST {self._path} HTTP/1.1", *lines, "", ""]).encode()

    def send(self, data: bytes | None = None) -> None:
        """Send bytes; without any, the whole request."""
        with suppress(ConnectionError):  # it may have been answered before it was sent
            self._socket.sendall(self.head() + self.body if data is None else data)

    def read(self) -> Answer:
        """A response, as far as it comes."""
        return self.reads(1)[0]

    def reads(self, count: int) -> list[Answer]:
        """So many responses, one after the other."""
        stream = _Open(socket.SocketIO(self._socket, "r"))
        return [_response(stream) for _ in range(count)]

    def until(self, end: bytes) -> None:
        """Read bytes up to these."""
        while not self.seen.endswith(end):
            piece = self._socket.recv(1)
            assert piece, "the answer ends too early"
            self.seen += piece

    def events(self, count: int) -> None:
        """Read so many events of a stream."""
        while self.seen.count(b"\n\n") < count:
            piece = self._socket.recv(65_536)
            assert piece, "the answer ends too early"
            self.seen += piece

    def quiet(self) -> None:
        """Wait until nothing runs, with the connection open."""
        self._bench.quiet()

    def arrived(self) -> None:
        """Wait until the provider has been asked."""
        wait(lambda: len(self._bench.upstream.log) > self._asked)

    def begun(self) -> None:
        """Wait until the gateway knows of the request."""
        wait(lambda: self._bench.app.begun > self._begun)

    def leave(self, *, reset: bool = False) -> None:
        """Close the connection, by FIN or by RST."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def half_close(self) -> None:
        """Say FIN, and go on listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def ended(self) -> None:
        """Wait until the gateway has closed the connection."""
        with suppress(ConnectionError):
            while self._socket.recv(65_536):
                pass


def wait(condition: Callable[[], bool]) -> None:
    """Return when something has become true."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "it does not come true"
        time.sleep(0.002)


def estimate(exchange: Exchange, text: str) -> int:
    """By what the witness was to get and the client's text: a token for four bytes."""
    return -(-int(exchange.header("content-length") or 0) // 4) * 1_000 + -(-len(text.encode()) // 4) * 2_000


@contextmanager
def running(
    places: Mapping[str, str],
    *,
    consumers: int,
    quotas: Mapping[str, int] | None = None,
    retries: int = 0,
    **settings: Any,
) -> Iterator[Bench]:
    """
    A bench, until the block ends.

    Args:
        places: The base URLs of providers that are not the fake upstream: those called ``tls-..`` trust ``ca_file``.
        consumers: How many there may be.
        quotas: Consumers besides, and how many nano-dollars they have.
        retries: How often each provider is asked once more, before ``spare/other`` is asked; 0 for no such chain.
        settings: Of the gateway; ``breaker`` is every provider's.
    """
    store = MemoryStore()
    ca_file = settings.pop("ca_file", None)
    with ExitStack() as stack:
        upstream = stack.enter_context(running_upstream())
        told: dict[str, Any] = {
            "api_key": "upstream-canary-f00dfeed",
            "breaker": settings.pop("breaker", None),  # each fault comes by itself, where none is meant
            "retries": retries,
        }  # each fault comes by itself
        providers = {
            "fake": Provider(base_url=upstream.url, timeouts=PATIENT, **told),
            "hasty": Provider(base_url=upstream.url, timeouts=HASTY, **told),
            "brief": Provider(base_url=upstream.url, timeouts=BRIEF, **told),
            "drain": Provider(base_url=upstream.url, timeouts=PATIENT, on_disconnect="drain", **told),
            "narrow": Provider(base_url=upstream.url, timeouts=NARROW, connections=1, **told),
        }
        for name, url in places.items():
            trusted = ca_file if name.startswith("tls-") and name != "tls-untrusted" else None
            hasty = name in {"blackhole", "tls-stall"}
            providers[name] = Provider(base_url=url, timeouts=HASTY if hasty else PATIENT, ca_file=trusted, **told)
        given = {f"consumer-{number}": QUOTA for number in range(1, consumers + 1)} | dict(quotas or {})
        models = [f"{name}/m" for name in providers]
        if retries:
            providers["spare"] = replace(providers["fake"], retries=0)
            settings["fallbacks"] = dict.fromkeys(models, ("spare/other",))
            models.append("spare/other")
        gateway = Gateway(
            store=store,
            providers=providers,
            models=dict.fromkeys(models, PRICE),
            consumers={name: Declared(quota=nano, keys=(key(name),)) for name, nano in given.items()},
            prices=None,
            limits=Limits(response_bytes=1_000_000, usage_wait_s=20, json_wait_s=20, body_s=0.5, send_s=1.0),
            **settings,
        )
        app = Counted(gateway.app)
        url = stack.enter_context(serve(app, timeout_keep_alive=60, timeout_graceful_shutdown=5))
        yield Bench(url, upstream, app, store)


def absent() -> str:
    """Where nobody listens."""
    return f"http://127.0.0.1:{free_port()}/v1"


@contextmanager
def blackhole() -> Iterator[str]:
    """Where connections are neither made nor refused: the queue is full of those that nobody accepts."""
    with socket.socket() as busy, socket.socket() as first, socket.socket() as second:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(busy.getsockname())
        yield f"http://127.0.0.1:{busy.getsockname()[1]}/v1"
