"""
A model provider of one's own: OpenAI's API on a real loopback socket, with faults on demand.

It answers as scripted and keeps a log of what it was asked and what it gave: a witness that owes the router nothing.
"""

import json
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import anyio
import anyio.lowlevel
import h11

from hpp_middleware.stages.tasks.beside import beside
from hpp_middleware.testing.http1 import HTTP1Connection
from hpp_middleware.testing.script import Answer, Script, Tokens, answer, error_body

__all__ = ["Exchange", "FakeUpstream", "TokenCount"]


HOLDING_S = 0.005
"""How often is looked whether requests still wait: that may be said from any thread."""

UNREAD_S = 1.0
"""For how long the rest of a request's body is left unread: only by reading it is a departure behind it heard of."""


class TokenCount(NamedTuple):
    """Tokens as OpenAI names them."""

    prompt: int = 0
    completion: int = 0
    total: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Exchange:
    """
    One request, and what became of it.

    Attributes:
        connection: The number of its connection; requests with the same number shared one.
        headers: As they came, in order, the names lower-case.
        body: The request's body.
        status: The status sent, or None if none was.
        usage: The last usage object that was sent whole.
        bytes_sent: How much of the response's body was sent, before any chunked framing.
        finished: The response was sent to its end.
        closed_early: The client closed the connection before that.
    """

    connection: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    status: int | None = None
    usage: Tokens | None = None
    bytes_sent: int = 0
    finished: bool = False
    closed_early: bool = False

    def json(self) -> Any:
        """The request's body, parsed."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first header of a name, or None."""
        return next((value for key, value in self.headers if key == name.lower()), None)


class FakeUpstream:
    """
    An OpenAI-compatible server with faults, on asyncio and on trio.

    ::

        async with FakeUpstream() as upstream:
            upstream.next(Script(status=500), Script(truncate_after_events=2))
            ...  # requests to upstream.url + "/chat/completions"
            await upstream.idle()
            assert upstream.log[-1].closed_early

    A POST takes the next of the scripts given to :meth:`next`, or else ``script``. Attributes may be set, and the log
    read, from any thread; the methods that wait belong to the event loop that the server runs in.

    Args:
        models: The ids that ``GET /v1/models`` lists.

    Attributes:
        url: The base URL, which ends in ``/v1``.
        script: What every request gets that no other script was given for.
        holding: Whether requests wait: none is answered until it is false.
        log: The exchanges so far, in the order of their arrival.
    """

    def __init__(self, models: Sequence[str] = ("fake-1",)) -> None:
        self.models = tuple(models)
        self.script = Script()
        self.holding = False
        self.log: list[Exchange] = []
        self.url = ""
        self._scripts: deque[Script] = deque()
        self._running = 0
        self._connections = 0
        self._changed = anyio.Event()

    async def __aenter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._serving = beside(self._listen)
        await self._serving.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._serving.__aexit__(None, None, None)  # told of no error: what the block raised leaves it as it was

    def next(self, *scripts: Script) -> None:
        """Script the coming POST requests, one each, in the order of their arrival."""
        self._scripts.extend(scripts)

    async def arrived(self, requests: int = 1) -> None:
        """Return when so many requests have arrived since the start."""
        while len(self.log) < requests:
            await self._changed.wait()

    async def idle(self) -> None:
        """Return when no exchange is running: each has been answered, or its client has left."""
        while self._running:
            await self._changed.wait()

    def usage_total(self) -> TokenCount:
        """The tokens reported in all exchanges."""
        reported = [exchange.usage for exchange in self.log if exchange.usage is not None]
        prompt = sum(usage.get("prompt_tokens", 0) for usage in reported)
        completion = sum(usage.get("completion_tokens", 0) for usage in reported)
        return TokenCount(prompt, completion, prompt + completion)

    async def _listen(self) -> None:
        try:
            async with anyio.create_task_group() as serving:
                while True:
                    await anyio.wait_readable(self._listener)
                    try:
                        sock, _ = self._listener.accept()
                    except (BlockingIOError, ConnectionError):
                        continue
                    self._connections += 1
                    serving.start_soon(self._serve, HTTP1Connection(sock), self._connections)
        finally:
            anyio.notify_closing(self._listener)
            self._listener.close()

    async def _serve(self, connection: HTTP1Connection, number: int) -> None:
        reset = False
        try:
            while head := await connection.head():
                exchange = _exchange(head, number)
                self.log.append(exchange)
                self._running += 1
                self._notify()
                try:
                    script = await self._carry_out(exchange, connection)
                finally:
                    self._running -= 1
                    self._notify()
                if not exchange.finished:
                    reset = script.reset
                    break
        finally:
            connection.close(reset=reset)

    async def _carry_out(self, exchange: Exchange, connection: HTTP1Connection) -> Script:
        """One exchange, for as long as its client is there."""
        script = self._script_for(exchange)
        try:
            exchange.body = await connection.body(script.answer_after)
        except (OSError, h11.RemoteProtocolError):
            exchange.closed_early = True
            return Script()
        async with anyio.create_task_group() as group:
            unread_s = 0.0 if script.answer_after is None else UNREAD_S
            group.start_soon(_watch, exchange, connection, group.cancel_scope, unread_s)
            try:
                await self._respond(exchange, connection, script)
            except OSError:
                exchange.closed_early = True
            group.cancel_scope.cancel()
        return script

    def _script_for(self, exchange: Exchange) -> Script:
        if exchange.method == "GET" and exchange.path == "/v1/models":
            models = [{"id": model, "object": "model", "created": 0, "owned_by": "fake"} for model in self.models]
            body = json.dumps({"object": "list", "data": models}).encode()
            return Script(raw_body=body, content_type="application/json")
        if exchange.method != "POST":
            return Script(status=404)
        script = self._scripts.popleft() if self._scripts else self.script
        if exchange.path != "/v1/chat/completions" and not script.is_raw:
            return Script(status=404)
        return script

    async def _respond(self, exchange: Exchange, connection: HTTP1Connection, script: Script) -> None:
        while self.holding:  # noqa: ASYNC110  # another thread says so, where no event of this loop can be set
            await anyio.sleep(HOLDING_S)
        await anyio.sleep(script.delay_head_s)
        if script.close_before_head:
            await _break_off(script)
            return
        await _interim(connection, script.interim)
        reply = self._answer(exchange, script)
        if script.raw_head is not None:
            await connection.write(script.raw_head[: script.truncate_head_at])
        else:
            headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in reply.headers]
            head = h11.Response(status_code=reply.status, headers=headers)
            await connection.send(head, most=script.truncate_head_at)
        if script.truncate_head_at is not None:
            await _break_off(script)
            return
        exchange.status = reply.status
        for piece in reply.pieces:
            # At least a checkpoint, in which a client in the same event loop reads what was written before.
            await anyio.sleep(script.delay_between_s if exchange.bytes_sent else 0)
            if script.raw_head is not None:
                await connection.write(piece.data)
            else:
                await connection.send(h11.Data(piece.data), *([h11.EndOfMessage()] if piece.then == "end" else []))
            exchange.finished = piece.then == "end"
            exchange.bytes_sent += len(piece.data)
            exchange.usage = piece.usage or exchange.usage
            if piece.then == "close":
                await _break_off(script)
            elif piece.then == "stall":
                await anyio.sleep_forever()
        if exchange.finished:
            await connection.write(script.trailing)

    def _answer(self, exchange: Exchange, script: Script) -> Answer:
        try:
            request = exchange.json() if not script.is_raw and script.status < 300 else {}
        except ValueError:
            request = None
        if not isinstance(request, dict):
            script = Script(status=400, error=error_body(400, "The body is no JSON object."))
            request = {}
        return answer(script, request, number=len(self.log))

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _exchange(head: h11.Request, connection: int) -> Exchange:
    return Exchange(
        connection=connection,
        method=head.method.decode(),
        path=head.target.decode().partition("?")[0],
        headers=[(name.decode(), value.decode("latin-1")) for name, value in head.headers],
    )


async def _break_off(script: Script) -> None:
    """Return, so that the connection is closed; never, where it is to stand."""
    if script.stall:
        await anyio.sleep_forever()


async def _interim(connection: HTTP1Connection, number: int) -> None:
    """So many interim responses; without end for a number below 0."""
    while number:
        await connection.send(h11.InformationalResponse(status_code=103, headers=[]))
        await anyio.lowlevel.checkpoint()
        number -= 1


async def _watch(exchange: Exchange, connection: HTTP1Connection, scope: anyio.CancelScope, unread_s: float) -> None:
    """End an exchange when its client leaves."""
    await anyio.sleep(unread_s)
    await connection.gone()
    exchange.closed_early = not exchange.finished
    scope.cancel()
