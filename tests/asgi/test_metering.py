"""Auth, hold and settlement around an ASGI app that serves completions itself."""

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from rig import BOB_KEY, KEY, USAGE_NANO, check_books, chunks, read
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import Message, Receive, Scope, Send

from hpp_middleware import ConfigurationError, Gateway, Provider
from hpp_middleware.asgi.metering import MeteringMiddleware
from hpp_middleware.testing import get, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.provider import Declared, Timeouts
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def meter(**settings: Any) -> Gateway:
    """A gateway whose provider is the app that it stands before."""
    defaults: dict[str, Any] = {
        "providers": {"local": Provider(base_url="http://app/v1", timeouts=Timeouts(first_byte=20, idle=20, total=30))},
        "models": {"local/own": {"input": "1", "output": "2"}, "local/dear": {"input": "1", "output": "9000"}},
        "consumers": {"alice": Declared(quota=10**9, keys=(KEY,)), "bob": Declared(quota=0, keys=(BOB_KEY,))},
        "prices": None,
    }
    return Gateway(**{**defaults, **settings})


def question(**fields: Any) -> dict[str, Any]:
    return {"model": "own", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, **fields}


def ask(app: Any, path: str = CHAT, *, key: str = KEY, **fields: Any) -> Call:
    return post(app, path, question(**fields), headers={"apikey": key, "cookie": "secret=1"}, ahead=0)


class App:
    """An app that answers as it is told, and writes down what it was asked."""

    def __init__(self, *messages: Message | Callable[[], Any]) -> None:
        self.messages = messages
        self.scopes: list[Scope] = []
        self.bodies: list[Any] = []
        self.heard: list[str] = []
        self.ended = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self.scopes.append(scope)
        request = await receive()
        self.bodies.append(json.loads(request["body"] or b"null"))
        try:
            for message in self.messages:
                if callable(message):
                    await message()
                else:
                    await send(message)
        except OSError:
            self.heard.append("OSError")
        self.heard.append((await receive())["type"])
        self.ended.set()


async def books(found: Gateway, spent: int) -> list[Entry]:
    lines = await check_books(found)
    assert sum(line.amount for line in lines) == spent
    return lines


def start(kind: str, status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind.encode())]}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "own-1", "model": "own", **fields}).encode() + b"\n\n"


def word(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


JSON = json.dumps(
    {
        "id": "own-1",
        "model": "own",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
STREAM = (
    start("text/event-stream"),
    body(word("Hel"), more=True),
    body(word("lo", "stop"), more=True),
    body(event(choices=[], usage=USAGE), more=True),
    body(b"data: [DONE]\n\n"),
)


async def test_an_answer_is_billed_by_what_the_app_says_and_named_as_the_app_names_it() -> None:
    app, found = App(start("application/json"), body(JSON)), meter()
    async with found, ask(MeteringMiddleware(app, found)) as call:
        assert await call.started() == 200
        assert await call.json() == json.loads(JSON)
        assert call.headers["x-hpp-router-resolved-model"] == "local/own"
        assert call.headers["x-hpp-router-cost"] == "0.000013"
        await call.returned()
        (entry,) = await books(found, USAGE_NANO)
    assert (entry.draft.model, entry.draft.requested_model) == ("local/own", "own")
    assert app.heard == ["http.disconnect"]


async def test_the_app_sees_the_request_without_the_clients_key_and_with_who_pays() -> None:
    app, found = App(start("application/json"), body(JSON)), meter()
    async with found, ask(MeteringMiddleware(app, found), user="someone") as call:
        assert await call.started() == 200
    (scope,), (asked,) = app.scopes, app.bodies
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "POST",
        CHAT,
        CHAT.encode(),
        b"",
    )
    assert scope["hpp.consumer"] == "alice"
    names = {name for name, _ in scope["headers"]}
    assert names == {
        b"content-type",
        b"accept",
        b"accept-encoding",
        b"user-agent",
        b"x-request-id",
        b"content-length",
    }
    assert asked == {**question(), "user": "someone"}


async def test_a_stream_is_passed_on_piece_by_piece_and_its_usage_taken_out() -> None:
    taken = anyio.Event()
    app = App(STREAM[0], STREAM[1], taken.wait, *STREAM[2:])
    found = meter()
    async with found, ask(MeteringMiddleware(app, found), stream=True) as call:
        assert await call.started() == 200
        first = await call.event()
        assert b"Hel" in first  # and the app waits to go on
        taken.set()
        *events, end = chunks(first + b"\n\n" + await call.read())
        assert end == "[DONE]"
        assert "".join(each["choices"][0]["delta"]["content"] for each in events) == "Hello"
        assert {each["model"] for each in events} == {"own"}
        assert app.bodies[0]["stream_options"] == {"include_usage": True}
        await call.returned()
        await books(found, USAGE_NANO)


async def test_an_app_is_not_asked_for_more_than_the_client_takes() -> None:
    sent: list[int] = []

    async def flood(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start("text/event-stream"))
        for number in range(1000):
            sent.append(number)
            await send(body(word("x" * 1000), more=True))

    found = meter()
    async with found, ask(MeteringMiddleware(flood, found), stream=True, max_tokens=100_000) as call:
        assert await call.started() == 200
        await call.event()
        await call.event()
        with anyio.move_on_after(0.2):
            await anyio.sleep_forever()
        assert len(sent) < 10


async def test_a_client_that_leaves_ends_the_app_and_is_charged_for_what_came() -> None:
    app = App(STREAM[0], *(body(word("x"), more=True) for _ in range(1000)))
    found = meter()
    async with found, ask(MeteringMiddleware(app, found), stream=True) as call:
        assert await call.started() == 200
        await call.event()
        call.disconnect()
        with anyio.fail_after(20):
            await app.ended.wait()
        await call.returned()
        (entry,) = await check_books(found)
    assert entry.report.outcome == "abandoned"
    assert entry.amount > 0
    assert app.heard == ["OSError", "http.disconnect"]


@pytest.mark.parametrize(("key", "model", "status", "code"), [
    ("a-key-that-nobody-has-0123", "own", 401, "unauthorized"),
    (BOB_KEY, "own", 429, "insufficient_quota"),
    (KEY, "dear", 429, "insufficient_quota"),
    (KEY, "other", 400, "unsupported_model"),
    (KEY, "local/own", 400, "unsupported_model"),
])  # fmt: skip
async def test_what_is_refused_never_reaches_the_app(key: str, model: str, status: int, code: str) -> None:
    app, found = App(), meter()
    async with found, ask(MeteringMiddleware(app, found), key=key, model=model, max_tokens=10**6) as call:
        assert await call.started() == status
        assert (await call.json())["error"]["code"] == code
    assert app.scopes == []


async def test_everything_else_passes_through_as_it_is() -> None:
    app, found = App(start("text/plain", 418), body(b"short and stout")), meter()
    async with found, get(MeteringMiddleware(app, found), "/v1/teapots", headers={"cookie": "tea=1"}) as call:
        assert await call.started() == 418
        assert await call.read() == b"short and stout"
        call.disconnect()
    assert (b"cookie", b"tea=1") in app.scopes[0]["headers"]
    assert "hpp.consumer" not in app.scopes[0]


async def fails() -> None:
    raise RuntimeError("a secret of the app's")


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("stream", [False, True])
async def test_an_app_that_raises_is_an_upstream_that_broke_off(
    caplog: pytest.LogCaptureFixture, before: int, *, stream: bool
) -> None:
    head = STREAM[0] if stream else start("application/json")
    pieces = [STREAM[1]] if stream else [body(JSON[:20], more=True)]
    app, found = App(*[head, *pieces][:before], fails), meter()
    async with found, ask(MeteringMiddleware(app, found), stream=stream) as call:
        status = await call.started()
        said = await call.read()
        await call.returned()
        (entry,) = await check_books(found)
    assert entry.report.outcome == "failed"
    assert b"provider_unavailable" in said
    assert status == (200 if stream and before else 502)
    assert "secret" not in caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(("status", "told"), [("200", 200), (200.0, 200), (b"200", 200), ("OK", 502), (None, 502)])
async def test_a_status_that_is_no_number_leaves_the_books_readable(status: Any, told: int) -> None:
    head = {**start("application/json"), "status": status}
    app, found = App(head, body(JSON)), meter()
    async with found, ask(MeteringMiddleware(app, found)) as call:
        assert await call.started() == told
        await call.read()
        await call.returned()
        (entry,) = await books(found, USAGE_NANO if told == 200 else 0)
        assert entry.report.attempts[0].status == (200 if told == 200 else None)


async def test_an_error_of_the_apps_is_told_as_an_upstreams_and_costs_nothing() -> None:
    told = json.dumps({"error": {"message": "The prompt is too long.", "code": "context_length_exceeded"}}).encode()
    app, found = App(start("application/json", 400), body(told)), meter()
    async with found, ask(MeteringMiddleware(app, found)) as call:
        assert await call.started() == 400
        error = (await call.json())["error"]
        assert (error["code"], error["provider"]) == ("context_length_exceeded", "local")
        await call.returned()
        await books(found, 0)


async def test_an_app_that_is_mounted_is_asked_under_its_mount() -> None:
    app, found = App(start("application/json"), body(JSON)), meter()
    host = Starlette(lifespan=found.lifespan)
    host.mount("/llm", MeteringMiddleware(app, found))
    async with found, ask(host, f"/llm{CHAT}") as call:
        assert await call.started() == 200
    assert (app.scopes[0]["root_path"], app.scopes[0]["path"]) == ("/llm", f"/llm{CHAT}")


async def test_an_app_that_is_mounted_is_metered_where_the_path_lacks_what_a_proxy_has_cut_off() -> None:
    app, found = App(start("application/json"), body(JSON)), meter()
    host = Starlette(lifespan=found.lifespan)
    host.mount("/llm", MeteringMiddleware(app, found))
    asked: dict[str, Any] = {"model": "own", "messages": [{"role": "user", "content": "Hi"}]}
    async with found:
        for key, status in ((KEY, 200), ("nobody-shows-this-key", 401)):
            scope = {"root_path": "/outside"}
            async with post(host, f"/llm{CHAT}", asked, headers={"apikey": key}, scope=scope) as call:
                assert await call.started() == status
    assert (app.scopes[0]["root_path"], app.scopes[0]["path"]) == ("/outside/llm", f"/outside/llm{CHAT}")


async def test_starlette_takes_it_as_a_middleware() -> None:
    app, found = App(start("application/json"), body(JSON)), meter()
    host = Starlette(middleware=[Middleware(MeteringMiddleware, gateway=found)])
    host.mount("/", app)
    async with found, ask(host) as call:
        assert await call.started() == 200
        assert (await call.json())["model"] == "own"


async def test_a_host_may_say_which_paths_are_metered() -> None:
    from hpp_middleware.apis.chat import CHAT as API

    app, found = App(start("application/json"), body(JSON)), meter()
    wrapped = MeteringMiddleware(app, found, paths={"/talk": API})
    async with found:
        async with ask(wrapped, "/talk") as call:
            assert await call.started() == 200
        async with ask(wrapped, CHAT, key="nobody's") as call:
            assert await call.started() == 200  # which is the app's own affair
        assert (await read(found, "/api/usage"))["requests"] == 1


DISGUISES = [
    "//v1/chat/completions",
    "/v1//chat/completions/",
    "/V1/Chat/Completions",
    "/v1/chat%2Fcompletions",
    "/v1/chat%252Fcompletions",
    "/v1/./chat/completions",
    "/v1/models/../chat/completions",
    "/v1/chat/completions;v=1",
    "/v1/chat/completions ",
    "/v1\\chat\\completions",
]


async def reach(app: Any, path: str, *, kind: str = "http", method: str = "POST", root: str = "") -> int | None:
    """The status at a path that no client of good will would write, without a key; None where there is none."""
    sent: list[Message] = []
    scope = {"type": kind, "method": method, "path": path, "root_path": root, "query_string": b"", "headers": []}
    messages: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status: int | None = sent[0].get("status", sent[0].get("code"))
    return status


@pytest.mark.parametrize("path", DISGUISES)
async def test_no_disguise_of_a_path_reaches_the_app_unpaid(path: str) -> None:
    app, found = App(start("application/json"), body(JSON)), meter()
    async with found:
        assert await reach(MeteringMiddleware(app, found), path) == 401
    assert app.scopes == []


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        (CHAT, {"method": "post"}, 401),  # Django, for one, knows it for a POST
        (CHAT, {"method": "PUT"}, 405),
        (CHAT, {"kind": "websocket"}, 1008),
        (CHAT, {"root": "/v"}, 401),  # where the app is not below: Starlette goes by whole segments
        (f"/ai{CHAT}", {"root": "/ai/"}, 401),
        ("/v1/completions", {}, 404),  # vLLM's, which no API here can meter
        ("//invocations", {"kind": "websocket"}, 1008),
    ],
)
async def test_no_other_way_to_ask_reaches_the_app_unpaid(path: str, asked: dict[str, Any], status: int) -> None:
    app, found = App(start("application/json"), body(JSON)), meter()
    async with found:
        assert await reach(MeteringMiddleware(app, found), path, **asked) == status
    assert app.scopes == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
async def test_what_asks_for_nothing_passes_at_a_metered_path_too(method: str) -> None:
    app, found = App(start("text/plain", 204), body(b"")), meter()
    async with found:
        assert await reach(MeteringMiddleware(app, found), CHAT, method=method) == 204


async def test_a_path_is_metered_however_the_host_writes_it_and_open_where_the_host_says_so() -> None:
    from hpp_middleware.apis.chat import CHAT as API

    app, found = App(start("application/json"), body(JSON)), meter()
    wrapped = MeteringMiddleware(app, found, paths={"/Talk/": API}, closed=())
    async with found:
        assert await reach(wrapped, "/talk") == 401
        assert await reach(wrapped, "/Talk/") == 401
        assert app.scopes == []
        assert await reach(wrapped, "/v1/completions") == 200


def test_the_provider_that_stands_for_the_app_must_be_known() -> None:
    two = meter(providers={name: Provider(base_url="http://app/v1") for name in ("local", "other")})
    with pytest.raises(ConfigurationError, match="one of local, other"):
        MeteringMiddleware(App(), two)
    with pytest.raises(ConfigurationError, match="no provider 'third'"):
        MeteringMiddleware(App(), two, provider="third")
    MeteringMiddleware(App(), two, provider="other")


async def test_what_is_over_a_limit_never_reaches_the_app() -> None:
    app, found = App(start("application/json"), body(JSON)), meter(rate_limits=[RateLimit(requests_per_hour=1)])
    async with found:
        for status in (200, 429):
            async with ask(MeteringMiddleware(app, found)) as call:
                assert await call.started() == status
                assert call.headers["x-ratelimit-remaining-requests"] == "0"
                await call.read()
                await call.returned()
    assert len(app.scopes) == 1
