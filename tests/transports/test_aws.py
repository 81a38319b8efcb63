"""Amazon's signatures: as a server checks them, whatever sends them, and where the keys come from."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import eventstreams
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from rig import chunks, read_chat
from rig import gateway as make_gateway

from hpp_middleware.errors import ConfigurationError, UpstreamError
from hpp_middleware.ports import Transport
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.upstream import Exchange
from hpp_middleware.transports import signing
from hpp_middleware.transports.aiohttp import AiohttpTransport
from hpp_middleware.transports.aws import RETRY_S, AWSTransport, Keys, sign
from hpp_middleware.transports.httpx import HttpxTransport
from hpp_middleware.transports.native import NativeTransport
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

pytestmark = pytest.mark.anyio

KEYS = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None)
SESSION = ReadOnlyCredentials("ASIAIOSFODNN7EXAMPLE", "another/secret", "a/session+token==")
REGION = "eu-central-1"
ARN = "arn%3Aaws%3Abedrock%3Aeu-central-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-opus-4-6-v1"
OPTIONS = {"region": REGION, "access_key_id": KEYS.access_key, "secret_access_key": KEYS.secret_key}
ANSWER = json.dumps(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11},
        "metrics": {"latencyMs": 1},
    }
).encode()


def is_signed(exchange: Exchange, keys: ReadOnlyCredentials, region: str = REGION) -> bool:
    """
    Whether a server that knows the keys accepts a request: it makes the signature anew, of what has really come.

    The path is the one on the wire; everything that the client says it has signed is taken from the wire as well.
    """
    claimed = exchange.header("authorization") or ""
    names = claimed.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: exchange.header(name) or "" for name in names}
    assert {"host", "x-amz-date", "content-type"} <= headers.keys()
    assert (keys.token is not None) == ("x-amz-security-token" in headers)
    request = AWSRequest(exchange.method, f"https://{headers['host']}{exchange.path}", headers, exchange.body)
    request.context["timestamp"] = headers["x-amz-date"]
    judge = SigV4Auth(keys, "bedrock", region)
    text = judge.string_to_sign(request, judge.canonical_request(request))
    return claimed.endswith(f"Signature={judge.signature(text, request)}") and judge.scope(request) in claimed


def call(url: str, path: str = f"/model/{ARN}/converse") -> HTTPCall:
    headers = [("Content-Type", "application/json"), ("User-Agent", "hpp-router"), ("X-Request-Id", "req_1")]
    return HTTPCall(url=f"{url.removesuffix('/v1')}{path}", headers=headers, body='{"ü":1}'.encode(), connect_s=5)


@pytest.fixture(params=[HttpxTransport, AiohttpTransport, NativeTransport])
def kind(request: pytest.FixtureRequest, anyio_backend: str) -> Callable[[], Transport]:
    if anyio_backend != "asyncio" and request.param is not HttpxTransport:
        pytest.skip("this client needs asyncio")
    made: Callable[[], Transport] = request.param
    return made


@pytest.mark.parametrize("keys", [KEYS, SESSION])
@pytest.mark.parametrize("path", [f"/model/{ARN}/converse", "/model/amazon.nova-lite-v1%3A0/converse-stream"])
async def test_a_server_that_makes_the_signature_anew_finds_the_same(
    kind: Callable[[], Transport], keys: ReadOnlyCredentials, path: str
) -> None:
    async with FakeUpstream() as upstream:
        upstream.script = Script(raw_body=b"{}", content_type="application/json")
        transport = AWSTransport(kind(), REGION, lambda: keys)
        went: list[bool] = []
        response = await transport.send(call(upstream.url, path), provider="bedrock", sent=lambda: went.append(True))
        while await response.read():
            pass
        await response.aclose()
        await transport.aclose()
        (exchange,) = upstream.log
        assert (exchange.path, went, response.status) == (path, [True], 200)
        assert is_signed(exchange, keys)
        assert not is_signed(
            exchange, SESSION._replace(secret_key="guessed") if keys.token else KEYS._replace(secret_key="guessed")
        )
        exchange.body += b" "
        assert not is_signed(exchange, keys)


def test_what_a_proxy_may_change_is_not_signed() -> None:
    signed = dict(sign(call("http://127.0.0.1:9"), KEYS, REGION).headers)["Authorization"]
    assert "SignedHeaders=content-type;host;x-amz-date," in signed


async def test_a_signed_exchange_is_billed_and_one_without_keys_is_not(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with FakeUpstream() as upstream:
        upstream.script = Script(raw_body=ANSWER, content_type="application/json")
        root = upstream.url.removesuffix("/v1")
        without_key = Provider(base_url=root, dialect="bedrock", options=OPTIONS)
        async with make_gateway(upstream, providers={"fake": without_key}) as gateway:
            status, body = await read_chat(gateway)
            assert (status, json.loads(body)["choices"][0]["message"]["content"]) == (200, "Hello")
            assert is_signed(upstream.log[-1], KEYS)
            assert (await gateway.store.balance("alice")).used == 9 * 1_000 + 2 * 2_000
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        nobody = Provider(base_url=root, dialect="bedrock", options={"region": REGION})
        async with make_gateway(upstream, providers={"fake": nobody}) as gateway:
            status, body = await read_chat(gateway)
            assert (status, json.loads(body)["error"]["code"]) == (502, "provider_unavailable")
            assert "prove" in json.loads(body)["error"]["message"]
            balance = await gateway.store.balance("alice")
            assert (balance.used, balance.held, len(upstream.log)) == (0, 0, 1)
            lines = await gateway.store.lines("alice")
            assert sum(line.amount for line in lines) == 0


async def test_an_api_key_goes_as_it_is_and_nothing_is_signed(anyio_backend: str) -> None:
    async with FakeUpstream() as upstream:
        upstream.script = Script(raw_body=ANSWER, content_type="application/json")
        keyed = Provider(base_url=upstream.url.removesuffix("/v1"), dialect="bedrock", api_key="bedrock-key")
        async with make_gateway(upstream, providers={"fake": keyed}) as gateway:
            assert (await read_chat(gateway))[0] == 200
        assert upstream.log[-1].header("authorization") == "Bearer bedrock-key"
        assert upstream.log[-1].header("x-amz-date") is None


async def test_keys_of_the_environment_and_of_a_profile(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "credentials"
    file.write_text("[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = of-work\n", "utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SESSION.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SESSION.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", str(SESSION.token))
    async with FakeUpstream() as upstream:
        upstream.script = Script(raw_body=b"{}", content_type="application/json")
        for more, keys in (
            ({}, SESSION),
            ({"profile": "work"}, ReadOnlyCredentials("AKIAWORK", "of-work", None)),
        ):
            provider = Provider(
                base_url=upstream.url,
                dialect="bedrock",
                options={"region": REGION, **more},
            )
            transport = signing.signed(provider, HttpxTransport())
            response = await transport.send(call(upstream.url), provider="bedrock", sent=lambda: None)
            await response.aclose()
            await transport.aclose()
            assert is_signed(upstream.log[-1], keys)


async def test_keys_are_looked_up_once_and_a_failure_is_remembered_for_a_while(anyio_backend: str) -> None:
    now, looks = 100.0, 0
    found: Any = None

    def find() -> Any:
        nonlocal looks
        looks += 1
        if isinstance(found, Exception):
            raise found
        return found

    keys = Keys(find, clock=lambda: now)
    assert (await keys.get(), await keys.get(), looks) == (None, None, 1)
    found, now = OSError("no route"), now + RETRY_S
    assert (await keys.get(), looks) == (None, 2)
    found, now = Credentials("AKIA", "s"), now + RETRY_S
    for _ in range(3):
        assert await keys.get() == ReadOnlyCredentials("AKIA", "s", None)
    now += 10_000
    assert (await keys.get(), looks) == (ReadOnlyCredentials("AKIA", "s", None), 3)


async def test_keys_that_run_out_are_renewed_before(anyio_backend: str) -> None:
    now, fetched = 100.0, 0
    minutes: Iterator[int] = iter([5, 60, 60])

    def fetch() -> dict[str, str]:
        nonlocal fetched
        fetched += 1
        until = datetime.now(UTC) + timedelta(minutes=next(minutes))
        return {
            "access_key": f"ASIA{fetched}",
            "secret_key": "s",
            "token": "t",
            "expiry_time": until.isoformat(),
        }

    source = RefreshableCredentials.create_from_metadata(fetch(), refresh_using=fetch, method="test")
    keys = Keys(lambda: source, clock=lambda: now)
    first = await keys.get()  # what there was had five minutes left
    assert first is not None
    assert (first.access_key, fetched) == ("ASIA2", 2)
    now += 1_000
    assert (await keys.get(), fetched) == (first, 2)


async def test_without_keys_nothing_is_sent(anyio_backend: str) -> None:
    class Never:
        async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> Any:
            raise AssertionError("it was sent")

        async def aclose(self) -> None: ...

    with pytest.raises(UpstreamError) as caught:
        await AWSTransport(Never(), REGION, lambda: None).send(
            call("http://127.0.0.1:9"), provider="bedrock", sent=lambda: None
        )
    assert (caught.value.unsent, caught.value.provider) == (True, "bedrock")


def test_only_what_is_to_be_signed_is_put_behind_a_signer() -> None:
    plain = HttpxTransport()
    assert signing.signed(Provider(base_url="https://a.example", dialect="bedrock", api_key="key"), plain) is plain
    assert signing.signed(Provider(base_url="https://a.example"), plain) is plain
    with pytest.raises(ConfigurationError):
        signing.signed(Provider(base_url="https://a.example", dialect="bedrock"), plain)  # no region


async def test_a_stream_is_known_by_its_media_type(anyio_backend: str) -> None:
    stream = eventstreams.stream(
        ("messageStart", {"role": "assistant"}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}, "metrics": {"latencyMs": 1}}),
    )
    async with FakeUpstream() as upstream:
        url = upstream.url.removesuffix("/v1")
        provider = Provider(base_url=url, dialect="bedrock", options=OPTIONS, retries=0)
        async with make_gateway(upstream, providers={"fake": provider}) as gateway:
            upstream.next(Script(raw_body=stream, content_type="application/vnd.amazon.eventstream", chunk_size=7))
            _, body = await read_chat(gateway, stream=True)
            *events, done = chunks(body)
            assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "Hello"
            assert (done, (await gateway.store.balance("alice")).used) == ("[DONE]", 9 * 1_000 + 2 * 2_000)
            upstream.next(Script(raw_body=stream, content_type="text/event-stream"))
            status, _ = await read_chat(gateway, stream=True)
            assert (status, (await gateway.store.balance("alice")).used) == (502, 9 * 1_000 + 2 * 2_000)
