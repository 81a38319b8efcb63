"""Keys as they lie on disk: those of older versions, what an operator changes by hand, and several processes."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from hpp_middleware import Gateway, Provider, SQLiteStore
from hpp_middleware.accounts import Accounts, NewKey
from hpp_middleware.core import auth
from hpp_middleware.errors import RequestError
from hpp_middleware.stores.sqlite import schema

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper of thirty-two bytes long"
WORKER = Path(__file__).with_name("stores") / "sqlite_gateway.py"


def make(**settings: Any) -> Gateway:
    return Gateway(providers={"fake": Provider(base_url="http://127.0.0.1:9/v1")}, prices=None, **settings)


async def who(gateway: Gateway, key: str) -> str | int:
    """Whom a key names, or the status of the refusal."""
    try:
        return (await gateway.authenticate([(b"apikey", key.encode())])).id
    except RequestError as error:
        return error.status


def _as_it_was_before(path: Path, key: str, pepper: bytes) -> None:
    """A file of a version that noted no pepper, with one key."""
    with closing(sqlite3.connect(path)) as connection:
        for number, text in schema.migrations():
            if number < 3:
                connection.executescript(text)
                connection.execute(f"PRAGMA user_version = {number:d}")
        row = (auth.digest(key, pepper), "old", '{"id":"alice"}', 1.0)
        connection.execute("INSERT INTO credential (digest, id, consumer, created) VALUES (?,?,?,?)", row)
        connection.commit()


async def test_a_key_of_an_older_version_works_and_has_its_pepper_noted_when_it_is_used(tmp_path: Path) -> None:
    key, _ = auth.make_key(b"\1" * 8, b"\2" * 20)
    _as_it_was_before(tmp_path / "hpp.db", key, PEPPER)
    async with make(store=SQLiteStore(tmp_path / "hpp.db"), pepper=PEPPER) as gateway:
        (before,) = await gateway.accounts.keys()
        assert gateway.accounts.kept_under(before) == "unknown"
        assert await who(gateway, key) == "alice"
        (after,) = await gateway.accounts.keys()
        assert gateway.accounts.kept_under(after) == "current"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM credential",
        "UPDATE credential SET revoked = 1",
        'UPDATE credential SET consumer = \'{"id":"eve"}\'',
    ],
)
async def test_what_an_operator_changes_by_hand_counts_as_a_change(statement: str, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "hpp.db")
    await store.open()
    await Accounts(store, store, PEPPER).create_key("alice")
    before = await store.epoch()
    with closing(sqlite3.connect(tmp_path / "hpp.db")) as connection:
        connection.execute(statement)
        connection.commit()
    assert await store.epoch() == before + 1
    await store.aclose()


async def test_no_file_of_the_store_holds_a_key_or_its_secret(tmp_path: Path) -> None:
    async with make(store=SQLiteStore(tmp_path / "hpp.db")) as gateway:
        made = [await gateway.accounts.create_key(f"consumer-{number}", quota="1") for number in range(20)]
        for each in made[:10]:
            assert await who(gateway, each.key) == each.consumer
            rotated = await gateway.accounts.rotate_key(each.id)
            assert rotated is not None
            made.append(rotated)
        pepper = gateway.setup.pepper
        while_open = _bytes_in(tmp_path)
    on_disk = while_open + _bytes_in(tmp_path)
    assert made[0].id.encode() in on_disk
    for each in made:
        _, _, secret, _ = each.key.split("_")
        assert secret.encode() not in on_disk
    assert (while_open.count(pepper), _bytes_in(tmp_path).count(pepper)) == (1, 1)  # in the file of its own


def test_a_revocation_reaches_every_process_at_the_file(tmp_path: Path) -> None:
    path = tmp_path / "hpp.db"

    async def office(key_id: str | None) -> NewKey | bool:
        store = SQLiteStore(path)
        await store.open()
        try:
            accounts = Accounts(store, store, store.pepper())
            return await (accounts.create_key("alice") if key_id is None else accounts.revoke(key_id))
        finally:
            await store.aclose()

    made, sister = anyio.run(office, None), anyio.run(office, None)
    assert isinstance(made, NewKey)
    assert isinstance(sister, NewKey)
    with ExitStack() as stack:
        workers = [stack.enter_context(_process(path)) for _ in range(4)]
        assert [_ask(each, made.key) for each in workers] == ["alice"] * 4
        assert anyio.run(office, made.id) is True
        polls = 0
        while [_ask(each, made.key) for each in workers] != ["401"] * 4:
            polls += 1
            assert polls < 1200, "a minute after its revocation the key is still good somewhere"
            time.sleep(0.05)
        assert [_ask(each, sister.key) for each in workers] == ["alice"] * 4


def _bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@contextmanager
def _process(path: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, str(WORKER), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _ask(process: "subprocess.Popen[str]", key: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(key + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()
