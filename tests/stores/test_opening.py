"""A store that cannot be opened: which setting names it, why in plain words, and nothing of its URL."""

import logging
import socket
import sqlite3
import ssl
import traceback
from pathlib import Path

import asyncpg
import pytest
import redis
from servers import free_port

from hpp_middleware import Gateway, SQLiteStore
from hpp_middleware.config import Settings, load
from hpp_middleware.errors import ConfigurationError, NotOpenedError, StoreError
from hpp_middleware.stores.opening import cause, opening
from hpp_middleware.testing import post

pytestmark = pytest.mark.anyio

PROVIDER = '[providers.local]\nbase_url = "http://127.0.0.1:9/v1"\n[models."local/m"]\ninput = "1"\noutput = "2"\n'
SECRET = "hunter2"
PEPPER = {"HPP_PEPPER": "sixteen-bytes-ok"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """What the shared stores are served on."""
    return "asyncio"


def configured(folder: Path, text: str) -> Settings:
    path = folder / "router.toml"
    path.write_text(PROVIDER + text, "utf-8")
    return load(path, environment=PEPPER)


async def refusal(settings: Settings) -> str:
    """What a served gateway is refused with; commands, which open the stores alone, are refused with the same."""
    with pytest.raises(NotOpenedError) as caught:
        async with settings.gateway():
            pass
    with pytest.raises(NotOpenedError) as again:
        async with settings.stores().opened():
            pass
    assert str(again.value) == str(caught.value)
    assert caught.value.message == "A store cannot be opened."
    shown = "".join(traceback.format_exception(caught.value))
    assert str(caught.value) in shown
    assert SECRET not in shown
    assert "://" not in shown
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
async def test_a_server_that_is_not_there_has_refused_the_connection(tmp_path: Path, scheme: str) -> None:
    settings = configured(tmp_path, f'[store]\nurl = "{scheme}://me:{SECRET}@127.0.0.1:{free_port()}/0"\n')
    assert await refusal(settings) == "store.url: cannot be opened: connection refused"


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
async def test_a_name_with_two_addresses_is_no_other_case(tmp_path: Path, scheme: str) -> None:
    settings = configured(tmp_path, f'[store]\nurl = "{scheme}://me:{SECRET}@localhost:{free_port()}/0"\n')
    assert await refusal(settings) == "store.url: cannot be opened: connection refused"


async def test_it_is_the_keys_or_the_ledger_where_those_are_elsewhere(tmp_path: Path, redis_url: str) -> None:
    away = f'url = "postgresql://me:{SECRET}@127.0.0.1:{free_port()}/hpp"\n'
    refused = "cannot be opened: connection refused"
    keys = configured(tmp_path, f"[credentials]\n{away}")
    assert await refusal(keys) == f"credentials.url: {refused}"
    moved = configured(tmp_path, f'[store]\nurl = "{redis_url}"\n[ledger]\n{away}')
    assert await refusal(moved) == f"ledger.url: {refused}"


async def test_a_database_that_is_not_there_is_said_to_be_so(tmp_path: Path, postgres_dsn: str, redis_url: str) -> None:
    nowhere = postgres_dsn.rpartition("/")[0] + "/nowhere"
    settings = configured(tmp_path, f'[store]\nurl = "{nowhere}"\n')
    assert await refusal(settings) == "store.url: cannot be opened: no such database"
    settings = configured(tmp_path, f'[store]\nurl = "{redis_url.rpartition("/")[0]}/9999"\n')
    assert await refusal(settings) == "store.url: cannot be opened: no such database"


async def test_a_password_that_is_refused_is_not_shown(tmp_path: Path, redis_url: str) -> None:
    settings = configured(tmp_path, f'[store]\nurl = "{redis_url.replace("://", f"://me:{SECRET}@")}"\n')
    assert await refusal(settings) == "store.url: cannot be opened: password refused"


async def test_a_file_that_is_no_database_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "hpp.db").write_text("not a database, though long enough for the head of one " * 20)
    assert await refusal(configured(tmp_path, "")) == "store.url: cannot be opened: not a database"


async def test_a_journal_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    settings = configured(tmp_path, '[journal]\ndir = "away"\n')
    (tmp_path / "away").write_text("a file")
    with pytest.raises(NotOpenedError, match=r"^journal\.dir: cannot be opened: ") as caught:
        async with settings.gateway():
            pass
    assert str(tmp_path / "away") in str(caught.value)


async def test_a_gateway_that_a_request_opens_tells_its_log_once_and_its_client_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hpp.db").write_text("not a database, though long enough for the head of one " * 20)
    gateway = Gateway(providers={}, store=SQLiteStore(tmp_path / "hpp.db"))
    with caplog.at_level(logging.ERROR, "hpp_middleware"):
        for _ in range(2):
            async with post(gateway.app, "/llm/v1/chat/completions", {}, headers={"apikey": "k" * 20}) as call:
                body = await call.read()
                assert call.status == 503
            assert b"A store cannot be opened." in body
            assert b"store.url" not in body
    assert caplog.messages == ["store.url: cannot be opened: not a database"]


def test_what_is_set_up_wrongly_keeps_its_words_behind_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"^store\.url: The server would forget\.$"), opening("store.url"):
        raise ConfigurationError("The server would forget.")


def failed(error: Exception) -> str:
    """What is said of an error that a store has translated."""
    try:
        try:
            raise error
        except Exception as inner:
            raise StoreError("The store cannot be used at the moment.") from inner
    except StoreError as outer:
        return cause(outer)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (asyncpg.InvalidPasswordError(SECRET), "password refused"),
        (asyncpg.InvalidAuthorizationSpecificationError(SECRET), "user refused"),
        (asyncpg.InsufficientPrivilegeError(SECRET), "the database's user may not do this"),
        (asyncpg.UndefinedTableError(SECRET), "the server answers with error 42P01"),
        (redis.AuthenticationError(SECRET), "password refused"),
        (redis.ResponseError(f"WRONGPASS {SECRET}"), "password refused"),
        (redis.ResponseError(f"NOAUTH {SECRET}"), "password missing"),
        (sqlite3.OperationalError(SECRET), "OperationalError at test_opening.py:"),
        (TimeoutError(SECRET), "no answer in time"),
        (socket.gaierror(-2, SECRET), "there is no such host"),
        (ssl.SSLError(1, SECRET), "TLS cannot be agreed on"),
        (ConnectionError(SECRET), "the server cannot be reached"),
        (OSError(28, SECRET), "the disk is full"),
        (KeyError(SECRET), "KeyError at test_opening.py:"),
        (StoreError("The database belongs to a newer version."), "The database belongs to a newer version"),
    ],
)
def test_a_cause_is_told_in_words_of_ours(error: Exception, words: str) -> None:
    told = failed(error)
    assert told.rstrip("0123456789") == words or told == words
    assert SECRET not in told


@pytest.mark.parametrize(("made", "words"), [(True, "the file"), (False, "the folder")])
def test_what_is_not_writable_is_named(tmp_path: Path, words: str, *, made: bool) -> None:
    path = tmp_path / "hpp.db"
    if made:
        path.touch()
    place = path if made else tmp_path
    assert cause(PermissionError(13, "no", str(path))) == f"{words} {place} is not writable"
