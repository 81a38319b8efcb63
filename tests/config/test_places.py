"""``[store]``, ``[credentials]`` and ``[ledger]``: which URLs are taken, and what they come to."""

from pathlib import Path

import pytest
from reading import LOCAL, read, refusal

from hpp_middleware.stores.archived import ArchivedLedger
from hpp_middleware.stores.memory import MemoryStore
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.stores.sqlite import SQLiteStore

PEPPER = "sixteen-bytes-ok"
SHORT = "must have at least 16 bytes (from the environment variable HPP_PEPPER)"
POSTGRES = "postgresql://user:hunter2@127.0.0.1:9/hpp"
REDIS = "redis://user:hunter2@127.0.0.1:9/0"
NO_PEPPER = 'keys.pepper: is missing; set HPP_PEPPER, or write "env:NAME": a store that is shared keeps none of its own'
WRITTEN_THERE = (
    "ledger.url: must be left out: this store writes the ledger in the transaction that settles, and only the lines of "
    "a Redis store are moved to another one"
)
MOVED_FOR_GOOD = "ledger.url: must be of SQLite or PostgreSQL, where a Redis store's lines are moved for good"


def sections(**urls: str) -> str:
    return "".join(f'[{name}]\nurl = "{url}"\n' for name, url in urls.items())


def path(folder: Path, url: str) -> Path:
    store = read(folder, sections(store=url)).stores().store
    assert isinstance(store, SQLiteStore)
    return store.path


def test_three_slashes_are_relative_to_the_file_and_four_are_absolute(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert path(tmp_path, "sqlite:///data/a.db") == tmp_path / "data" / "a.db"
    assert path(tmp_path, f"sqlite:///{tmp_path}/b.db") == tmp_path / "b.db"


def test_the_stores_are_built_as_named(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, sections(store="memory:")).stores().store, MemoryStore)
    store = read(tmp_path, "").stores().store
    assert isinstance(store, SQLiteStore)
    assert store.path == tmp_path / "hpp.db"


@pytest.mark.parametrize(("url", "kind"), [(POSTGRES, PostgresStore), (REDIS, RedisStore)])
def test_a_shared_store_may_come_from_the_environment(tmp_path: Path, url: str, kind: type[object]) -> None:
    settings = read(tmp_path, LOCAL + sections(store="env:STORE_URL"), STORE_URL=url, HPP_PEPPER=PEPPER)
    stores = settings.stores()
    assert type(stores.store) is kind
    assert (stores.credentials, stores.ledger) == (None, None)
    assert "hunter2" not in repr(settings) + repr(settings.file) + repr(settings.places)


@pytest.mark.parametrize("name", ["store", "credentials", "ledger"])
def test_a_url_whose_variable_is_not_set_is_named(tmp_path: Path, name: str) -> None:
    problem = f"{name}.url: the environment variable STORE_URL is not set"
    assert refusal(tmp_path, sections(**{name: "env:STORE_URL"})) == [problem]


@pytest.mark.parametrize("name", ["store", "credentials"])
@pytest.mark.parametrize(
    "url",
    ["", "hpp.db", "sqlite://hpp.db", "sqlite:///", "sqlite:///:memory:", "memory", "mysql://user:hunter2@host/0"],
)
def test_another_kind_of_store_is_refused_and_the_kinds_are_named(tmp_path: Path, name: str, url: str) -> None:
    (problem,) = refusal(tmp_path, sections(**{name: url}))
    assert problem.startswith(f'{name}.url: must be "sqlite:///FILE"')
    assert all(kind in problem for kind in ('"memory:"', '"postgresql://...', '"redis://...'))
    assert "hunter2" not in problem


def test_a_store_in_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, sections(store="sqlite:///no/hpp.db")) == [
        f"store.url: there is no directory {tmp_path / 'no'}"
    ]


def test_a_store_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hpp.db").mkdir()
    assert refusal(tmp_path, "") == [f"store.url: {tmp_path / 'hpp.db'} is a directory"]


# --- the pepper of shared keys ---


@pytest.mark.parametrize("url", [POSTGRES, REDIS, "unix:///run/valkey.sock"])
def test_keys_in_a_shared_store_need_a_pepper_that_is_set(tmp_path: Path, url: str) -> None:
    assert refusal(tmp_path, sections(store=url)) == [NO_PEPPER]
    assert refusal(tmp_path, sections(credentials=url)) == [NO_PEPPER]
    read(tmp_path, sections(store=url), HPP_PEPPER=PEPPER)


def test_a_pepper_that_is_wrong_is_not_said_to_be_missing_too(tmp_path: Path) -> None:
    assert refusal(tmp_path, sections(store=REDIS), HPP_PEPPER="short") == [f"keys.pepper {SHORT}"]


def test_keys_on_this_host_need_none_though_the_accounts_are_shared(tmp_path: Path) -> None:
    settings = read(tmp_path, sections(store=REDIS, credentials="sqlite:///keys.db"))
    assert settings.pepper is None


# --- keys and ledger apart ---


def test_keys_may_be_kept_apart(tmp_path: Path) -> None:
    text = LOCAL + sections(store=REDIS, credentials="sqlite:///keys.db")
    gateway = read(tmp_path, text, HPP_PEPPER=PEPPER).gateway()
    backends = gateway.setup.backends
    assert isinstance(backends.credentials, SQLiteStore)
    assert isinstance(backends.quota, RedisStore)
    assert backends.ledger is backends.quota


def test_the_same_url_twice_is_one_store(tmp_path: Path) -> None:
    text = LOCAL + sections(store="sqlite:///a.db", credentials="sqlite:///a.db", ledger="sqlite:///a.db")
    assert len(read(tmp_path, text).gateway().setup.backends.each()) == 1


@pytest.mark.parametrize("archive", ["sqlite:///ledger.db", POSTGRES])
def test_a_redis_stores_ledger_may_be_moved(tmp_path: Path, archive: str) -> None:
    text = LOCAL + sections(store=REDIS, ledger=archive)
    backends = read(tmp_path, text, HPP_PEPPER=PEPPER).gateway().setup.backends
    assert isinstance(backends.ledger, ArchivedLedger)
    assert isinstance(backends.ledger.archive, (SQLiteStore, PostgresStore))
    assert backends.each() == [backends.quota, backends.ledger]


@pytest.mark.parametrize("store", ["memory:", "sqlite:///a.db", POSTGRES])
@pytest.mark.parametrize("ledger", ["sqlite:///b.db", POSTGRES + "2", REDIS])
def test_no_other_store_has_its_ledger_elsewhere(tmp_path: Path, store: str, ledger: str) -> None:
    assert refusal(tmp_path, sections(store=store, ledger=ledger), HPP_PEPPER=PEPPER) == [WRITTEN_THERE]


@pytest.mark.parametrize("ledger", ["memory:", REDIS + "1"])
def test_a_ledger_is_not_moved_to_what_may_forget_it(tmp_path: Path, ledger: str) -> None:
    assert refusal(tmp_path, sections(store=REDIS, ledger=ledger), HPP_PEPPER=PEPPER) == [MOVED_FOR_GOOD]


def test_keys_are_not_kept_in_memory_beside_accounts_that_last(tmp_path: Path) -> None:
    assert refusal(tmp_path, sections(credentials="memory:")) == [
        'credentials.url: keys are kept in memory only where store.url is "memory:" too'
    ]
