"""Who may ask: keys in headers, before the body is looked at, and a host's own identity in their place."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rig import ALICE, BOB_KEY, CANARY, CHAT, KEY, MODEL, Delegate, ask, check_books, gateway, question, read
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from hpp_middleware import Consumer, MemoryStore, RequestError, StoreError
from hpp_middleware.testing import FakeUpstream, get, post
from hpp_middleware.types.consumer import Credential

pytestmark = pytest.mark.anyio

GUARDED = ("/api/usage", "/api/quota-check", "/api/user/audit/req_1")
WRONG = "a-key-that-nobody-was-given"

ACCEPTED: dict[str, list[tuple[str, str]]] = {
    "apikey": [("apikey", KEY)],
    "Bearer": [("authorization", f"Bearer {KEY}")],
    "bearer in other letters": [("authorization", f"bEARER {KEY}")],
    "spaces around": [("authorization", f"  Bearer   {KEY}  "), ("apikey", f" {KEY} ")],
    "both, and the same": [("apikey", KEY), ("authorization", f"Bearer {KEY}")],
}
REFUSED: dict[str, list[tuple[str, str]]] = {
    "none": [],
    "empty": [("apikey", "")],
    "unknown": [("apikey", WRONG)],
    "too short": [("apikey", "x")],
    "too long": [("apikey", "x" * 100_000)],
    "both, and different": [("apikey", KEY), ("authorization", f"Bearer {BOB_KEY}")],
    "both, one of them empty": [("apikey", KEY), ("authorization", "Bearer ")],
    "repeated": [("apikey", KEY), ("apikey", KEY)],
    "repeated Bearer": [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
    "two in one": [("authorization", f"Bearer {KEY}, Bearer {KEY}")],
    "another scheme": [("authorization", f"Basic {KEY}")],
    "no scheme": [("authorization", KEY)],
    "no ascii": [("apikey", f"{KEY}\xe9")],
    "a nul": [("apikey", f"{KEY}\x00")],
    "another letter case": [("apikey", KEY.upper())],
    "one letter less": [("apikey", KEY[:-1])],
    "injected": [("apikey", "' OR 1=1; DROP TABLE credential; --")],
    "in the query": [],
    "x-key": [("x-key", KEY)],
    "three, one of them another": [("apikey", KEY), ("authorization", f"Bearer {KEY}"), ("x-api-key", KEY[::-1])],
    "x-api-key as Bearer": [("x-api-key", f"Bearer {KEY}")],
    "a cookie": [("cookie", f"apikey={KEY}")],
}


@pytest.mark.parametrize("way", ACCEPTED)
async def test_a_key_is_accepted(way: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found, get(found.app, "/api/usage", headers=ACCEPTED[way]) as call:
        assert await call.started() == 200
        assert (await call.json())["consumer_id"] == "alice"


@pytest.mark.parametrize("way", REFUSED)
async def test_anything_else_is_the_same_401(way: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        for path in GUARDED:
            async with get(found.app, f"{path}?apikey={KEY}", headers=REFUSED[way]) as call:
                assert await call.started() == 401
                assert call.headers["www-authenticate"] == "Bearer"
                assert (await call.json())["error"] == {
                    "message": "Invalid API key",
                    "type": "authentication_error",
                    "code": "unauthorized",
                    "param": None,
                    "retryable": False,
                }
        async with post(found.app, CHAT, question(), headers=REFUSED[way]) as call:
            assert await call.started() == 401
    assert fake_upstream.log == []


async def test_the_key_is_checked_before_the_body_is_read(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        for body, headers in ((b"{", {}), (b"x" * 10**6, {"content-length": "99999999999"})):
            async with post(found.app, CHAT, body, headers={**headers, "apikey": WRONG}, unfinished=True) as call:
                assert await call.started() == 401
                assert len(call._requests) == 1  # not one piece was taken


async def test_a_key_works_at_once_and_a_revoked_or_expired_one_does_not(fake_upstream: FakeUpstream) -> None:
    now = 1000.0
    async with gateway(fake_upstream, store=MemoryStore(clock=lambda: now)) as found:
        made = await found.accounts.create_key("carol", quota="1")
        assert (await read(found, "/api/usage", key=made.key))["quota"] == 1
        second = await found.accounts.create_key("carol")
        assert await found.accounts.revoke(second.id)
        async with get(found.app, "/api/usage", headers={"apikey": second.key}) as call:
            assert await call.started() == 401
        (await found.worker()).authenticator._clock = lambda: 2.0**33
        third = await found.accounts.create_key("carol", expires=2.0**33 - 1)
        async with get(found.app, "/api/usage", headers={"apikey": third.key}) as call:
            assert await call.started() == 401


async def test_a_credential_store_that_fails_is_a_503_and_never_a_401(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryStore):
        broken = True

        async def find(self, digest: bytes) -> Credential | None:
            if self.broken:
                raise OSError(CANARY)
            return await super().find(digest)

    store = Broken()
    async with gateway(fake_upstream, store=store) as found:
        made = await found.accounts.create_key("carol", quota="1")
        for key in (made.key, WRONG):
            async with ask(found, key=key) as call:
                assert await call.started() == 503
                assert call.headers["retry-after"] == "1"
                assert CANARY.encode() not in await call.read()
        assert "quota_unavailable OSError at test_auth.py:" in caplog.text
        assert "Broken.find)" in caplog.text
        assert CANARY not in caplog.text
        store.broken = False
        assert (await read(found, "/api/usage", key=made.key))["quota"] == 1
    assert fake_upstream.log == []


async def test_a_key_may_be_bound_to_models(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, aliases={"fast": MODEL}) as found:
        made = await found.accounts.create_key("carol", quota="1", models=["other/*", "fake/2*"])
        for name in (MODEL, "fast"):
            async with ask(found, key=made.key, model=name) as call:
                assert await call.started() == 403
                assert (await call.json())["error"]["code"] == "model_not_allowed"
        wide = await found.accounts.create_key("carol", models=["fake/*"])
        async with ask(found, key=wide.key, model="fast") as call:
            assert await call.started() == 200


async def test_no_key_is_logged_wherever_it_is_refused(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = Delegate()
    secrets = ("sk-secret-one-of-many-letters", "sk-s\xe9cret-of-many-letters", "hpp_x_y_z-secret-three")
    async with gateway(fake_upstream, store=store) as found:
        store.error = OSError("x")
        for secret in secrets:
            async with ask(found, key=secret) as call:
                assert await call.started() == 401
                told = await call.read() + str(call.headers).encode()
                assert secret.encode("latin-1") not in told
    everything = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert not any(secret in everything for secret in secrets)


# --- a host's own identity -------------------------------------------------------------------------


def by_header(connection: HTTPConnection) -> Consumer | None:
    """A host that puts its own user's name where only it can."""
    name = connection.headers.get("x-user")
    return Consumer(id=name, username=name.title(), custom_id="c-1", account="alice") if name else None


async def by_header_later(connection: HTTPConnection) -> Consumer | None:
    return by_header(connection)


@pytest.mark.parametrize("hook", [by_header, by_header_later])
async def test_a_host_may_know_its_users_itself(
    hook: Callable[[HTTPConnection], Consumer | Awaitable[Consumer | None] | None], fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream, authenticate=hook) as found:
        async with post(found.app, CHAT, question(), headers={"x-user": "dora"}) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        async with get(found.app, "/api/usage", headers={"x-user": "dora"}) as call:
            figures = await call.json()
        assert (figures["consumer_id"], figures["username"], figures["custom_id"]) == ("dora", "Dora", "c-1")
        assert figures["requests"] == 1
        (line,) = await found.store.lines("alice")
        assert (line.draft.consumer, line.draft.key_id) == ("dora", None)
        async with get(found.app, "/api/usage", headers={"apikey": KEY}) as call:
            assert await call.started() == 401  # keys mean nothing where the host knows better


GARBAGE: list[Any] = [None, False, True, "alice", {"id": "alice"}, Consumer, 0, [ALICE]]


@pytest.mark.parametrize("answer", GARBAGE, ids=repr)
async def test_whatever_is_no_consumer_is_a_401_and_named_in_the_log(
    answer: object, fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(fake_upstream, authenticate=lambda _: answer) as found:
        for path in GUARDED:
            async with get(found.app, path, headers={"apikey": KEY}) as call:
                assert await call.started() == 401
        async with ask(found) as call:
            assert await call.started() == 401
    assert fake_upstream.log == []
    assert (f"authenticate=, which returned {type(answer).__name__}, no Consumer" in caplog.text) == (
        answer is not None
    )


RAISED: list[tuple[Exception, int, str]] = [
    (KeyError(CANARY), 503, "quota_unavailable"),
    (OSError(CANARY), 503, "quota_unavailable"),
    (TypeError(CANARY), 503, "quota_unavailable"),
    (StoreError("My directory is down."), 503, "quota_unavailable"),
    (RequestError("Who are you?", status=401, code="unauthorized"), 401, "unauthorized"),
    (HTTPException(401, CANARY), 401, "unauthorized"),
    (HTTPException(403, CANARY), 403, "forbidden"),
    (HTTPException(500, CANARY), 503, "quota_unavailable"),
    (HTTPException(503, CANARY), 503, "quota_unavailable"),
]


@pytest.mark.parametrize(("error", "status", "code"), RAISED, ids=lambda value: repr(value)[:40])
async def test_what_the_hosts_hook_raises_is_never_anybody(
    error: Exception, status: int, code: str, fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(_: HTTPConnection) -> Consumer:
        raise error

    async with gateway(fake_upstream, authenticate=hook) as found:
        async with ask(found) as call:
            assert await call.started() == status
            told = await call.json()
        assert told["error"]["code"] == code
        assert told["error"]["retryable"] is (status == 503)
        assert CANARY not in str(told)
        assert CANARY not in caplog.text
        assert await found.store.lines("alice") == []
    assert fake_upstream.log == []


async def test_a_hook_that_fails_is_told_to_the_log_by_type_and_place(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    def hook(_: HTTPConnection) -> Consumer:
        raise KeyError(CANARY)

    async with gateway(fake_upstream, authenticate=hook) as found, ask(found) as call:
        assert await call.started() == 503
    assert "internal error KeyError at test_auth.py:" in caplog.text
    assert ".hook)" in caplog.text
    assert CANARY not in caplog.text


async def test_a_hook_that_answers_with_something_else_is_told_to_the_log(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    answer: Any = {"id": CANARY}
    async with gateway(fake_upstream, authenticate=lambda _: answer) as found, ask(found) as call:
        assert await call.started() == 401
    assert "internal error TypeError" in caplog.text
    assert CANARY not in caplog.text


async def test_the_canary_is_what_the_upstream_was_given(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        async with ask(found) as call:
            await call.read()
            await call.returned()
        assert fake_upstream.log[0].header("authorization") == f"Bearer {CANARY}"
        assert len(await check_books(found)) == 1
