"""
Whether a host lets streams stream: its whole app on a real server, before a provider that waits for its client.

The provider says an event only when the one before has reached the client, so that no clock has to tell what is
collected on the way; the host's own keys, providers and accounts are not touched.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Self

import anyio.to_thread
import h11
import msgspec

from hpp_middleware.asgi.app import Gateway
from hpp_middleware.ports import UpstreamResponse
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Declared, Model, Provider
from hpp_middleware.types.streams import KeepAlive

__all__ = ["check_streaming", "streaming_problems"]

MODEL = "rehearsal/stream"
KEY = "rehearsal-of-a-stream-no-real-key"
EVENTS = 4
_KEPT = frozenset({"app", "_public_models", "_cors_origins"})
"""What a gateway keeps while it rehearses: where it is mounted, and what is around it."""


async def check_streaming(
    app: Any,
    gateway: Gateway | None = None,
    *,
    path: str = "/llm/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
    wait_s: float = 5.0,
) -> None:
    """
    Hold a host's app to what streams need; the message of what it raises says what is wrong, and what to do.

    ``await check_streaming(app, path="/ai/llm/v1/chat/completions")``, where the gateway is mounted at ``/ai``. It
    takes uvicorn, from the extra ``testing``.

    Args:
        app: The whole ASGI app, middleware and all; its lifespan is run.
        gateway: The one in it; found by itself where it is mounted in Starlette or FastAPI.
        path: Where chat completions are served.
        headers: What the host's own middleware wants besides, a cookie say. The gateway takes a key of the check's own.
        wait_s: For how long the provider waits before an event counts as held back, in seconds.
    Raises:
        AssertionError: A stream does not reach its client as it is; a line a problem.
    """
    problems = await streaming_problems(app, gateway, path=path, headers=headers, wait_s=wait_s)
    assert not problems, "\n".join(problems)


async def streaming_problems(
    app: Any,
    gateway: Gateway | None = None,
    *,
    path: str = "/llm/v1/chat/completions",
    headers: Mapping[str, str] | None = None,
    wait_s: float = 5.0,
) -> list[str]:
    """What :func:`check_streaming` raises, a line a problem; none where streams stream."""
    found = gateway or _gateway_in(app)
    if found is None:
        raise AssertionError("No gateway was found in this app: name it, check_streaming(app, gateway).")
    request = partial(_request, path, dict(headers or {}))
    # In a thread, so that it may be called from any event loop; servers and sockets are asyncio's.
    return await anyio.to_thread.run_sync(lambda: asyncio.run(_rehearsed(app, found, request, wait_s)))


async def _rehearsed(app: Any, gateway: Gateway, request: Callable[[int], bytes], wait_s: float) -> list[str]:
    stage = _Stage(wait_s)
    with _rehearsing(gateway, stage):
        async with _served(app) as port:
            problems = await _streamed(stage, port, request(port))
            if not problems:
                problems += await _left(stage, port, request(port))
    return problems


@contextmanager
def _rehearsing(gateway: Gateway, stage: "_Stage") -> Iterator[None]:
    """The same object, with everything of another gateway: one provider, one key, and accounts in memory."""
    price = Price(base=Rates(input=0, output=0))
    other = Gateway(
        providers={"rehearsal": Provider(base_url="http://rehearsal.invalid/v1")},
        models={MODEL: Model(price=price)},
        consumers={"rehearsal": Declared(quota=10**9, keys=(KEY,))},
        transports={"rehearsal": stage},
        keep_alive=KeepAlive(kind="off"),
        prices=None,
        capabilities=None,
        tokenizer=None,
    )
    own = dict(vars(gateway))
    vars(gateway).update({name: value for name, value in vars(other).items() if name not in _KEPT})
    try:
        yield
    finally:
        vars(gateway).clear()
        vars(gateway).update(own)


class _Stage:
    """A transport whose provider waits for its client."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s
        self.begin()

    def begin(self, *, patience_s: float | None = None) -> None:
        """For the next request, whose provider waits for so long before it goes on all the same."""
        self.patience_s = self.wait_s if patience_s is None else patience_s
        self.seen = [asyncio.Event() for _ in range(EVENTS)]
        self.closed = asyncio.Event()
        self.held_back = 0  # the first event that had not arrived when the provider went on; 0 for none

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:  # noqa: ARG002  # there is one
        """See :class:`hpp_middleware.ports.Transport`."""
        sent()
        return _Played(self)

    async def aclose(self) -> None:
        """There is no pool."""


class _Played:
    """See :class:`hpp_middleware.ports.UpstreamResponse`."""

    status = 200

    def __init__(self, stage: _Stage) -> None:
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream"}
        self._stage = stage
        self._said = 0

    async def read(self) -> bytes:
        """The next event, when the one before has arrived, or is held back."""
        stage, number = self._stage, self._said
        if number and not stage.held_back:
            try:
                await asyncio.wait_for(stage.seen[number - 1].wait(), stage.patience_s)
            except TimeoutError:
                stage.held_back = number
        self._said += 1
        return _said(number) if number < EVENTS else b"data: [DONE]\n\n" if number == EVENTS else b""

    async def aclose(self) -> None:
        """The stream is over, or was left."""
        self._stage.closed.set()


def _said(number: int) -> bytes:
    last = number == EVENTS - 1
    choice = {"index": 0, "delta": {"content": f"word {number} "}, "finish_reason": "stop" if last else None}
    chunk = {"id": "rehearsal", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [choice]}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


WHOLE = b"".join(map(_said, range(EVENTS))) + b"data: [DONE]\n\n"


def _request(path: str, headers: dict[str, str], port: int) -> bytes:
    body = msgspec.json.encode(
        {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, "stream": True}
    )
    given = {
        "host": f"127.0.0.1:{port}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "accept": "text/event-stream",
        "accept-encoding": "gzip, deflate, br, zstd",
        "apikey": KEY,
        **{name.lower(): value for name, value in headers.items() if name.lower() not in {"apikey", "authorization"}},
    }
    connection = h11.Connection(h11.CLIENT)
    head = connection.send(h11.Request(method="POST", target=path, headers=list(given.items())))
    return (head or b"") + body


class _Reader:
    """A client that reads as it comes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._http = h11.Connection(h11.CLIENT)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.broke = False

    async def __aenter__(self) -> Self:
        self._in, self._out = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._out.close()
        with suppress(OSError):
            await self._out.wait_closed()

    async def ask(self, request: bytes) -> None:
        """Send a request."""
        self._http.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
        self._http.send(h11.EndOfMessage())
        self._out.write(request)
        await self._out.drain()

    async def more(self) -> bool:
        """Read what comes next; False at the end."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._in.read(65536))
        except (h11.RemoteProtocolError, OSError):
            self.broke = True
            return False
        if isinstance(event, h11.Response):
            self.status = event.status_code
            self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            self.body += bytes(event.data)
        return not isinstance(event, h11.EndOfMessage | h11.ConnectionClosed)


async def _streamed(stage: _Stage, port: int, request: bytes) -> list[str]:
    """Read one stream to its end."""
    stage.begin()
    async with _Reader(port) as client:
        await client.ask(request)
        while await client.more():
            for number in range(EVENTS):
                if f"word {number} ".encode() in client.body:
                    stage.seen[number].set()
        return list(_faults(stage, client))


def _faults(stage: _Stage, client: _Reader) -> Iterator[str]:
    if client.status != 200:
        yield (
            f"The gateway was not reached: {client.status or 'no answer'}. Give the path where it is mounted (path=), "
            "and the headers that the host's own middleware wants (headers=)."
        )
        return
    encoding = client.headers.get("content-encoding", "identity")
    if encoding != "identity":
        yield (
            f"The stream is compressed ({encoding}): leave text/event-stream out of what the host's middleware "
            "compresses; most compressors hold events back."
        )
    if stage.held_back:
        yield (
            f"Event {stage.held_back} of {EVENTS} had not arrived {stage.wait_s:g} s after it was sent: a middleware "
            "collects the response. It must pass on each http.response.body message as it comes; one that reads "
            "response.body_iterator to its end, or a whole body, must leave text/event-stream alone."
        )
    if encoding == "identity" and (client.body != WHOLE or client.broke):
        yield "The stream is changed on the way: its client does not get the bytes that the gateway has sent."
    kind = client.headers.get("content-type", "")
    if not kind.startswith("text/event-stream"):
        yield f"The stream's Content-Type is changed to {kind or 'none'}: it must be text/event-stream."
    if client.headers.get("x-accel-buffering") != "no":
        yield "X-Accel-Buffering: no is taken off the response: without it, nginx and its like hold streams back."
    if "no-cache" not in client.headers.get("cache-control", ""):
        yield "Cache-Control: no-cache is taken off the response: without it, a cache may hold streams back."
    if "x-request-id" not in client.headers:
        yield "X-Request-Id is taken off the response: it is how a client names its request."


async def _left(stage: _Stage, port: int, request: bytes) -> list[str]:
    """Leave one stream in its middle."""
    stage.begin(patience_s=100 * stage.wait_s)  # it does not go on by itself while it is looked at
    async with _Reader(port) as client:
        await client.ask(request)
        while b"word 0 " not in client.body and await client.more():
            pass
    try:
        await asyncio.wait_for(stage.closed.wait(), stage.wait_s)
    except TimeoutError:
        words = (
            f"A client that left in mid-stream was not noticed for {stage.wait_s:g} s, and its answer goes on to be "
            "paid for: a middleware hides http.disconnect. It must pass receive() on as it is."
        )
        return [words]
    finally:
        for event in stage.seen:
            event.set()
    return []


@asynccontextmanager
async def _served(app: Any) -> AsyncGenerator[int]:
    """The app on a real server, in this event loop; yields its port."""
    try:
        import uvicorn
    except ImportError as error:
        raise AssertionError('check_streaming takes uvicorn: pip install "hpp_middleware[testing]"') from error
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = uvicorn.Config(app, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=2)
        server = uvicorn.Server(settings)
        serving = asyncio.create_task(_run(server, listener))
        try:
            while not server.started and not serving.done():  # noqa: ASYNC110  # uvicorn tells it no other way
                await asyncio.sleep(0.005)
            if not server.started:
                raise AssertionError("The app did not start: its lifespan failed.")
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def _run(server: Any, listener: socket.socket) -> None:
    with suppress(SystemExit):  # its way to say that the lifespan has failed
        await server.serve(sockets=[listener])


def _gateway_in(app: Any) -> Gateway | None:
    """The gateway that is mounted in an app of Starlette's, or of what is made like one."""
    waiting, seen = [app], set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        owner = getattr(each, "_owner", None)
        if isinstance(owner, Gateway):
            return owner
        waiting += [getattr(each, name, None) for name in ("app", "_app", "asgi_app", "router")]
        routes = getattr(each, "routes", None)
        waiting += routes if isinstance(routes, list | tuple) else []
    return None
