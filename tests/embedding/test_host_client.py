"""A host's own HTTP client for all upstreams: it is used as it is, and stays the host's."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import h11
import httpx2
import pytest
from anyio.abc import SocketStream
from rig import CANARY, CHAT, KEY, MODEL, USAGE_NANO, ask, check_books, gateway, question, read_chat
from servers import free_port

from hpp_middleware.testing import FakeUpstream, Script, get, post

pytestmark = pytest.mark.anyio


class Response:
    """What the gateway asks of a response, and no more."""

    def __init__(self, stream: SocketStream, connection: h11.Connection, head: h11.Response) -> None:
        self.status_code = head.status_code
        self.headers = {name.decode(): value.decode() for name, value in head.headers}
        self._stream = stream
        self._connection = connection

    async def aiter_raw(self) -> AsyncGenerator[bytes]:
        while True:
            event = await received(self._stream, self._connection)
            if not isinstance(event, h11.Data):
                return
            yield bytes(event.data)

    async def aclose(self) -> None:
        await self._stream.aclose()


class Duck:
    """A client of nobody's library: one connection a request, and errors of its own."""

    class NoRouteError(Exception):
        """Its text tells where the upstream is."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def build_request(self, method: str, url: str, *, headers: Any, content: bytes, **_: Any) -> Any:
        return method, httpx2.URL(url), headers, content

    async def send(self, request: Any, **_: Any) -> Response:
        method, url, headers, content = request
        self.sent.append(str(url))
        try:
            stream = await anyio.connect_tcp(url.host, url.port or 80)
        except OSError as error:
            raise self.NoRouteError(f"no route to {url}") from error
        connection = h11.Connection(h11.CLIENT)
        fields = [("Host", url.host), ("Content-Length", str(len(content))), *headers]
        head = h11.Request(method=method, target=url.path, headers=fields)
        for event in (head, h11.Data(data=content), h11.EndOfMessage()):
            await stream.send(connection.send(event) or b"")
        answer = await received(stream, connection)
        assert isinstance(answer, h11.Response)
        return Response(stream, connection, answer)


async def received(stream: SocketStream, connection: h11.Connection) -> Any:
    """The next event."""
    while (event := connection.next_event()) is h11.NEED_DATA:
        try:
            connection.receive_data(await stream.receive())
        except anyio.EndOfStream:
            connection.receive_data(b"")
    return event


@pytest.fixture(params=["httpx2", "duck"])
async def client(request: pytest.FixtureRequest) -> AsyncGenerator[Any]:
    """A client of the host's."""
    if request.param == "duck":
        yield Duck()
        return
    async with httpx2.AsyncClient(trust_env=False) as client:
        yield client


async def test_json_and_streams_go_through_it(client: Any, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, client=client) as found:
        assert (await read_chat(found))[0] == 200
        status, stream = await read_chat(found, stream=True)
        assert (status, stream.endswith(b"data: [DONE]\n\n")) == (200, True)
        lines = await check_books(found)
        assert [line.amount for line in lines] == [USAGE_NANO, USAGE_NANO]
    assert len(fake_upstream.log) == 2


async def test_the_clients_key_does_not_go_through_it(client: Any, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, client=client) as found:
        async with ask(found, headers={"cookie": "session=1", "x-forwarded-for": "10.1.2.3"}) as call:
            assert await call.started() == 200
        sent = dict(fake_upstream.log[0].headers)
        assert KEY not in str(sent)
        assert {"cookie", "apikey", "x-forwarded-for"}.isdisjoint(sent)


async def test_a_client_that_leaves_closes_the_connection_that_it_has_opened(
    client: Any, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.next(Script(stall_after_events=2))
    async with gateway(fake_upstream, client=client) as found:
        async with ask(found, stream=True) as call:
            assert b"assistant" in await call.event()
        await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        (line,) = await check_books(found)
        assert line.report.outcome == "abandoned"


async def test_an_upstream_that_breaks_off_is_told_as_any_other(client: Any, fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(truncate_after_events=2))
    async with gateway(fake_upstream, client=client) as found:
        _, stream = await read_chat(found, stream=True)
        assert b'"finish_reason":"error"' in stream
        assert b"[DONE]" not in stream
        (line,) = await check_books(found)
        assert line.report.outcome == "failed"


async def test_an_upstream_that_cannot_be_reached_is_a_502_that_names_no_address(client: Any) -> None:
    async with gateway(f"http://127.0.0.1:{free_port()}/v1", client=client) as found:
        status, body = await read_chat(found)
        assert status == 502
        assert b"127.0.0.1" not in body
        assert b"route" not in body


async def test_a_redirect_is_not_followed_though_the_hosts_client_would(fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(status=307, headers=[("location", "/v1/chat/completions")], raw_body=b""))
    async with (
        httpx2.AsyncClient(trust_env=False, follow_redirects=True) as client,
        gateway(fake_upstream, client=client) as found,
    ):
        status, _ = await read_chat(found)
        assert status == 502
    assert len(fake_upstream.log) == 1


async def test_the_hosts_client_is_open_after_the_gateway_has_closed(fake_upstream: FakeUpstream) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        async with gateway(fake_upstream, client=client) as found:
            assert (await read_chat(found))[0] == 200
        assert not client.is_closed
        assert (await client.get(f"{fake_upstream.url}/models")).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_hosts_client_that_is_closed_is_named_in_the_log_and_costs_nothing(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture, *, stream: bool
) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        pass
    async with gateway(fake_upstream, client=client) as found:
        status, body = await read_chat(found, stream=stream)
        assert (status, json.loads(body)["error"]["code"]) == (500, "internal_error")
        assert "fake cannot be asked: the host's own HTTP client is closed" in caplog.text
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (0, "failed")
    assert fake_upstream.log == []


@pytest.mark.parametrize("event", ["request", "response"])
async def test_a_hook_of_the_hosts_client_that_fails_is_named_in_the_log(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    async def hook(_: Any) -> None:
        raise KeyError(CANARY)

    async with (
        httpx2.AsyncClient(trust_env=False, event_hooks={event: [hook]}) as client,
        gateway(fake_upstream, client=client) as found,
    ):
        status, body = await read_chat(found)
        assert status == 500
        assert "KeyError at test_host_client.py:" in caplog.text
        assert ".hook)" in caplog.text
        assert CANARY not in caplog.text
        assert CANARY.encode() not in body
        await check_books(found)


async def test_what_the_hosts_client_adds_for_itself_reaches_the_upstream(fake_upstream: FakeUpstream) -> None:
    headers = {"x-team": "red", "authorization": "Bearer host"}
    async with (
        httpx2.AsyncClient(trust_env=False, headers=headers) as client,
        gateway(fake_upstream, client=client) as found,
    ):
        assert (await read_chat(found))[0] == 200
    assert fake_upstream.log[0].header("x-team") == "red"
    # The operator's key for this provider wins over the client's own.
    assert [value for name, value in fake_upstream.log[0].headers if name == "authorization"] == [
        f"Bearer {found.catalog.providers['fake'].api_key}"
    ]


@pytest.mark.parametrize("keyed", [True, False])
async def test_the_credentials_of_the_hosts_client_go_to_no_provider_that_has_a_key(
    fake_upstream: FakeUpstream, *, keyed: bool
) -> None:
    provider: dict[str, Any] = {} if keyed else {"api_key": None}
    async with (
        httpx2.AsyncClient(trust_env=False, auth=("host", "a-password-of-the-hosts")) as client,
        gateway(fake_upstream, client=client, provider=provider) as found,
    ):
        assert (await read_chat(found))[0] == 200
        assert (await read_chat(found, stream=True))[0] == 200
    for exchange in fake_upstream.log:  # without a key of its own, the client's is what the host means
        assert str(exchange.header("authorization")).startswith("Bearer " if keyed else "Basic ")


async def test_one_host_client_serves_two_gateways(client: Any, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, client=client) as one, gateway(fake_upstream, client=client) as other:
        for found in (one, other):
            async with post(found.app, CHAT, question(), headers={"apikey": KEY}) as call:
                assert (await call.json())["model"] == MODEL
            async with get(found.app, "/api/usage", headers={"apikey": KEY}) as call:
                assert (await call.json())["requests"] == 1


@pytest.mark.parametrize("kind", [httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ConnectError])
async def test_a_connection_that_was_never_made_costs_nothing(kind: type[httpx2.TransportError]) -> None:
    class Unreachable(Duck):
        async def send(self, request: Any, **_: Any) -> Response:
            raise kind("there is nobody")

    async with gateway(f"http://127.0.0.1:{free_port()}/v1", client=Unreachable()) as found:
        status, _ = await read_chat(found)
        assert status in {502, 503, 504}
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (0, "failed")


async def test_a_read_that_timed_out_after_sending_is_never_free() -> None:
    class Silent(Duck):
        async def send(self, request: Any, **_: Any) -> Response:
            raise httpx2.ReadTimeout("it was sent, and nothing came")

    async with gateway(f"http://127.0.0.1:{free_port()}/v1", client=Silent()) as found:
        status, _ = await read_chat(found)
        assert status == 504
        (line,) = await check_books(found)
        assert line.amount > 0
        assert line.report.estimated
