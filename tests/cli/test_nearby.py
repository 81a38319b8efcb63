"""Model servers on this machine, found by their ports."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import anyio
import pytest
from anyio.abc import SocketStream

from hpp_middleware.asgi.app import Gateway
from hpp_middleware.cli import nearby
from hpp_middleware.cli.demo import Upstreams
from hpp_middleware.dialects.presets import PRESETS, Preset
from hpp_middleware.testing import FakeUpstream

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@pytest.fixture
def silent() -> Iterator[str]:
    """A port that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@pytest.fixture
def shut() -> str:
    """A port where nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@asynccontextmanager
async def saying(words: bytes) -> AsyncIterator[str]:
    """A server that answers everybody with the same bytes."""

    async def answer(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(words)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, answer)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}/v1"
        tasks.cancel_scope.cancel()


def presets(monkeypatch: pytest.MonkeyPatch, **urls: str) -> None:
    named = {name: Preset(base_url=url) for name, url in urls.items()}
    monkeypatch.setattr(nearby, "PRESETS", {**named, "far": Preset(base_url="https://far.invalid", key_variable="K")})


async def test_those_that_answer_are_found_with_their_models(
    monkeypatch: pytest.MonkeyPatch, silent: str, shut: str
) -> None:
    async with FakeUpstream(models=["gpt-oss:120b", "org/name@q4"]) as upstream:
        presets(monkeypatch, ollama=upstream.url, vllm=shut, lmstudio=silent)
        assert await nearby.find(except_port=0) == {"ollama": ["gpt-oss:120b", "org/name@q4"]}


async def test_the_demo_offers_them_free_of_charge(monkeypatch: pytest.MonkeyPatch, shut: str) -> None:
    async with FakeUpstream(models=["gpt-oss:120b"]) as upstream:
        for name, preset in PRESETS.items():
            if preset.local:
                monkeypatch.setitem(PRESETS, name, Preset(base_url=upstream.url if name == "ollama" else shut))
        found = Upstreams()
        await anyio.to_thread.run_sync(found.add_nearby, 0)
        (target,) = Gateway(providers=found.providers, models=found.models, prices=None).catalog.targets()
        assert (target.id, target.provider.base_url) == ("ollama/gpt-oss:120b", upstream.url)
        assert (target.price.base.input, target.price.base.output) == (0, 0)
        assert found.lines == ["ollama      gpt-oss:120b"]


async def test_our_own_port_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeUpstream() as upstream:
        presets(monkeypatch, ollama=upstream.url)
        assert await nearby.find(except_port=int(upstream.url.split(":")[2].split("/")[0])) == {}
        assert upstream.log == []


async def test_names_that_no_model_id_can_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeUpstream(models=["a b", "fine", "x" * 181, ""]) as upstream:
        presets(monkeypatch, ollama=upstream.url)
        assert await nearby.find(except_port=0) == {"ollama": ["fine"]}


@pytest.mark.parametrize(
    "words",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
        HEAD + b"<html>",
        HEAD + b'{"data": {}}',
        HEAD + b'{"data": [{"id": 1}]}',
        HEAD + b'{"data": [' + b'{"id": "m"},' * 100_000 + b'{"id": "m"}]}',
        HEAD.replace(b"Connection: close", b"Content-Length: 100") + b'{"data"',
    ],
)
async def test_what_is_no_list_of_models_is_passed_over(monkeypatch: pytest.MonkeyPatch, words: bytes) -> None:
    async with saying(words) as url:
        presets(monkeypatch, ollama=url)
        assert await nearby.find(except_port=0) == {}
