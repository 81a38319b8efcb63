"""Departures that are heard by a call, where the server's own ``receive`` is asked."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message

from hpp_middleware.asgi.client import ASGIClient
from hpp_middleware.asgi.listening import Listening, is_plain

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

LEFT: Message = {"type": "http.disconnect"}
PIECE: Message = {"type": "http.request", "body": b"", "more_body": False}


class Server:
    """As uvicorn has it: an event that is set, and a look at what has happened."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.messages: list[Message] = []
        self.asked = 0

    async def receive(self) -> Message:
        self.asked += 1
        while not self.messages:
            self.event.clear()
            await self.event.wait()
        return self.messages.pop(0)

    def say(self, message: Message) -> None:
        self.messages.append(message)
        self.event.set()


Server.__module__ = "uvicorn.protocols.http.made_up"


async def sent(_message: Message) -> None:
    """Nobody looks."""


async def turns(number: int = 3) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def test_a_departure_is_told_once_and_whatever_else_is_passed_over(anyio_backend: str) -> None:
    server, told = Server(), []
    listening = Listening(server.receive, lambda: told.append("left"))
    await turns()
    assert told == []
    server.say(PIECE)
    await turns()
    assert (told, server.asked) == ([], 2)
    server.say(LEFT)
    await turns()
    assert told == ["left"]
    server.say(LEFT)
    await turns()
    listening.stop()
    assert told == ["left"]


async def test_one_that_has_left_already_is_told_at_once(anyio_backend: str) -> None:
    server, told = Server(), []
    server.say(LEFT)
    Listening(server.receive, lambda: told.append("left")).stop()
    assert told == ["left"]


async def test_after_it_is_stopped_nothing_is_told_and_nobody_waits(anyio_backend: str) -> None:
    server, told = Server(), []
    listening = Listening(server.receive, lambda: told.append("left"))
    await turns()
    listening.stop()
    assert not server.event._waiters
    server.say(LEFT)
    await turns()
    assert told == []


async def test_a_server_that_fails_has_no_client_any_more(anyio_backend: str) -> None:
    class Failing(Server):
        async def receive(self) -> Message:
            await super().receive()
            raise OSError("gone")

    server, told = Failing(), []
    listening = Listening(server.receive, lambda: told.append("left"))
    server.say(PIECE)
    await turns()
    listening.stop()
    assert told == ["left"]


async def test_only_the_servers_own_receive_is_asked_so(anyio_backend: str) -> None:
    server, queue = Server(), asyncio.Queue[Message]()

    async def wrapped() -> Message:
        return await server.receive()

    class Middleware:
        async def receive(self) -> Message:
            return await server.receive()

    assert is_plain(server.receive)
    assert is_plain(queue.get)
    assert not is_plain(wrapped)
    assert not is_plain(Middleware().receive)
    assert ASGIClient(wrapped, sent, "req_1").hear(lambda: None) is None
    stop: Any = ASGIClient(server.receive, sent, "req_1").hear(lambda: None)
    stop()
