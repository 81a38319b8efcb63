"""Vertex's access tokens: google-auth against a token endpoint on loopback, off the event loop, one call for many."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rig import KEY, ask, check_books, gateway

from hpp_middleware import ConfigurationError, Gateway, Provider
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.transports import signing

pytestmark = pytest.mark.anyio

MODEL = "fake/gemini-2.5-flash"
COUNTS = {"promptTokenCount": 20, "candidatesTokenCount": 6, "totalTokenCount": 26}
CANDIDATE = {"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}
ANSWER = Script(raw_body=json.dumps({"candidates": [CANDIDATE], "usageMetadata": COUNTS}).encode())
NANO = 20 * 1_000 + 6 * 2_000
PATH = "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-flash:generateContent"


def token(name: str, *, lasts_s: int = 3600, **script: Any) -> Script:
    body = {"access_token": name, "expires_in": lasts_s, "token_type": "Bearer"}
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json", **script)


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def account(folder: Path, private_key: str, tokens: FakeUpstream) -> Path:
    """The file of a service account whose tokens come from loopback."""
    path = folder / "account.json"
    fields = {"type": "service_account", "client_email": "router@p.example", "private_key": private_key}
    path.write_text(json.dumps({**fields, "private_key_id": "k1", "token_uri": f"{tokens.url}/token"}))
    return path


def vertex(upstream: FakeUpstream, credentials: Path | None, **settings: Any) -> Gateway:
    options = {"project": "p", "location": "europe-west4"}
    if credentials is not None:
        options["credentials"] = str(credentials)
    provider = {"dialect": "vertex", "options": options, "api_key": None}
    base = Provider(base_url=upstream.url, **provider)  # type: ignore[arg-type]  # its fields, by name
    model = {MODEL: {"input": "1", "output": "2"}}
    return gateway(upstream, providers={"fake": base}, models=model, **settings)


async def status_of(found: Gateway) -> tuple[int, Any]:
    async with ask(found, key=KEY, model=MODEL) as call:
        status = await call.started()
        return status, json.loads(await call.read())


async def test_a_call_carries_a_token_that_is_fetched_once(tmp_path: Path, private_key: str) -> None:
    async with FakeUpstream() as upstream, FakeUpstream() as tokens:
        tokens.next(token("ya29.first", delay_head_s=0.05))
        upstream.script = ANSWER
        found = vertex(upstream, account(tmp_path, private_key, tokens))
        statuses: list[int] = []

        async def one() -> None:
            statuses.append((await status_of(found))[0])

        async with found:
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(one)
            assert statuses == [200] * 5
            assert [(await status_of(found))[0] for _ in range(2)] == [200] * 2
            assert len(tokens.log) == 1
            assert [line.amount for line in await check_books(found)] == [NANO] * 7
        assert {each.header("authorization") for each in upstream.log} == {"Bearer ya29.first"}
        assert {each.path for each in upstream.log} == {PATH}
        assert upstream.log[0].header("x-goog-api-key") is None
        claims = parse_qs(tokens.log[0].body.decode())["assertion"][0].split(".")[1]
        asked = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
        assert (asked["iss"], asked["scope"]) == (
            "router@p.example",
            "https://www.googleapis.com/auth/cloud-platform",
        )


async def test_the_machine_s_own_credentials_are_used_where_none_are_named(
    tmp_path: Path, private_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeUpstream() as upstream, FakeUpstream() as tokens:
        tokens.next(token("ya29.own"))
        upstream.script = ANSWER
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account(tmp_path, private_key, tokens)))
        found = vertex(upstream, None)
        async with found:
            assert (await status_of(found))[0] == 200
        assert upstream.log[0].header("authorization") == "Bearer ya29.own"


async def test_a_token_that_is_about_to_run_out_is_replaced(tmp_path: Path, private_key: str) -> None:
    async with FakeUpstream() as upstream, FakeUpstream() as tokens:
        tokens.next(token("ya29.first", lasts_s=60), token("ya29.second"))
        upstream.script = ANSWER
        found = vertex(upstream, account(tmp_path, private_key, tokens))
        async with found:
            assert [(await status_of(found))[0] for _ in range(3)] == [200] * 3
        used = [each.header("authorization") for each in upstream.log]
        assert used == ["Bearer ya29.first", "Bearer ya29.second", "Bearer ya29.second"]


async def test_one_that_still_holds_is_used_where_no_other_can_be_had(tmp_path: Path, private_key: str) -> None:
    async with FakeUpstream() as upstream, FakeUpstream() as tokens:
        tokens.next(token("ya29.first", lasts_s=60))
        tokens.script = Script(status=400, error={"error": "invalid_grant"})
        upstream.script = ANSWER
        found = vertex(upstream, account(tmp_path, private_key, tokens))
        async with found:
            assert [(await status_of(found))[0] for _ in range(2)] == [200] * 2
        assert [each.header("authorization") for each in upstream.log] == ["Bearer ya29.first"] * 2
        assert len(tokens.log) >= 2


@pytest.mark.parametrize("broken", ["refused", "unreachable", "no file", "no account"])
async def test_without_a_token_nothing_is_sent_or_charged(tmp_path: Path, private_key: str, broken: str) -> None:
    async with FakeUpstream() as upstream, FakeUpstream() as tokens:
        tokens.script = Script(status=400, error={"error": "invalid_grant", "error_description": "a secret of theirs"})
        path = account(tmp_path, private_key, tokens)
        if broken == "unreachable":
            path.write_text(path.read_text().replace(tokens.url, "http://127.0.0.1:1"))
        elif broken == "no file":
            path.unlink()
        elif broken == "no account":
            path.write_text("{}")
        found = vertex(upstream, path)
        async with found:
            status, body = await status_of(found)
            assert (status, body["error"]["code"]) == (502, "provider_unavailable")
            assert "secret" not in json.dumps(body)
            assert [line.amount for line in await check_books(found)] == [0]
        assert upstream.log == []


async def test_an_api_key_stands_in_its_place() -> None:
    async with FakeUpstream() as upstream:
        upstream.script = ANSWER
        base = Provider(base_url=upstream.url, dialect="vertex", api_key="AIza-express")
        found = gateway(upstream, providers={"fake": base}, models={MODEL: {"input": "1", "output": "2"}})
        async with found:
            assert (await status_of(found))[0] == 200
        assert upstream.log[0].path == "/v1/publishers/google/models/gemini-2.5-flash:generateContent"
        assert upstream.log[0].header("x-goog-api-key") == "AIza-express"
        assert upstream.log[0].header("authorization") is None


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({}, "options.project"),
        ({"project": "p/../q"}, "options.project"),
        ({"project": "p", "location": "a/b"}, "options.location"),
        ({"project": "p", "document_pages": "many"}, "options.document_pages"),
        ({"project": "p", "document_pages": "0"}, "options.document_pages"),
    ],
)
def test_options_that_lead_nowhere_are_refused_when_the_gateway_is_made(options: dict[str, str], param: str) -> None:
    provider = Provider(base_url="https://aiplatform.googleapis.com/v1", dialect="vertex", options=options)
    with pytest.raises(ConfigurationError) as raised:
        Gateway(providers={"vertex": provider}, prices=None)
    assert raised.value.param == f"providers.vertex.{param}"


def test_a_signer_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "SIGNERS", {"vertex": ("x", "google.not_there.at_all", "vertex")})
    provider = Provider(base_url="https://aiplatform.googleapis.com/v1", dialect="vertex")
    with pytest.raises(ConfigurationError, match=r"hpp_middleware\[vertex\]"):
        signing.check("g", provider)
    signing.check("g", Provider(base_url="https://aiplatform.googleapis.com/v1", dialect="vertex", api_key="k"))
    monkeypatch.setattr(signing, "SIGNERS", {})
    signing.check("g", provider)
