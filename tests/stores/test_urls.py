"""URLs of stores: what each names, and that no refusal repeats one."""

import subprocess
import sys
from pathlib import Path

import pytest

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stores.memory import MemoryStore
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.stores.sqlite import SQLiteStore
from hpp_middleware.stores.urls import check_url, open_archived, open_store


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory:", MemoryStore),
        ("sqlite:///hpp.db", SQLiteStore),
        ("postgres://127.0.0.1:9/hpp", PostgresStore),
        ("postgresql://user@/hpp?host=/run/postgresql", PostgresStore),
        ("postgresql://a:1,b:2/hpp?target_session_attrs=read-write", PostgresStore),
        ("redis://127.0.0.1:9/0", RedisStore),
        ("rediss://:secret@[::1]:9/0?ssl_cert_reqs=required", RedisStore),
        ("valkey://127.0.0.1?db=2", RedisStore),
        ("valkeys://127.0.0.1", RedisStore),
        ("unix:///run/valkey.sock?db=1", RedisStore),
        ("unix://user:secret@/run/valkey.sock", RedisStore),
        ("redis://127.0.0.1:9?cluster=true&shards=16&prefix=mine", RedisStore),
    ],
)
def test_a_url_names_a_store(tmp_path: Path, url: str, kind: type[object]) -> None:
    assert type(open_store(url, tmp_path)) is kind
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis",
        "redis:",
        "redis:hunter2",
        "redis://",
        "redis://user:hunter2@",
        "redis://user:hunter2@host:port/0",
        "redis://user:hunter2@[host/0",
        "redis://user:hunter2@host:99999/0",
        "redis://user:hunter2@host/0?hunter2=1",
        "redis://user:hunter2@host/0?socket_timeout=hunter2",
        "redis://user:hunter2@host/0?shards=0",
        "redis://user:hunter2@host/0?shards=hunter2",
        "redis://user:hunter2@host/0?cluster=hunter2",
        "redis://user:hunter2@host/0?prefix=%7Bhunter2",
        "unix://",
        "mysql://user:hunter2@host/0",
        "postgresql+asyncpg://user:hunter2@host/0",
        "POSTGRESQL:user:hunter2@host/0",
    ],
)
def test_what_names_no_store_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url, tmp_path)
    assert "hunter2" not in caught.value.message
    assert caught.value.message


def test_the_stores_own_words_do_not_reach_the_driver(tmp_path: Path) -> None:
    store = open_store("redis://127.0.0.1:9/3?shards=4&socket_keepalive=true&prefix=mine", tmp_path)
    assert isinstance(store, RedisStore)
    assert store.server.shards == 4


@pytest.mark.parametrize("archive", ["memory:", "redis://127.0.0.1:9/1"])
def test_only_durable_stores_are_archives(tmp_path: Path, archive: str) -> None:
    with pytest.raises(ConfigurationError, match="only to SQLite or PostgreSQL"):
        open_archived("redis://127.0.0.1:9/0", archive, tmp_path)
    with pytest.raises(ConfigurationError, match="only a Redis store"):
        open_archived("sqlite:///a.db", "sqlite:///b.db", tmp_path)


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [("postgresql://u:hunter2@h/n", "asyncpg", "postgres"), ("redis://u:hunter2@h", "redis", "redis")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path: Path, url: str, library: str, extra: str) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "sys.modules[sys.argv[2]] = None\n"
        "from hpp_middleware.stores.urls import check_url, open_store\n"
        "from hpp_middleware.errors import ConfigurationError\n"
        "check_url(sys.argv[1], Path())\n"
        "try:\n    open_store(sys.argv[1], Path())\n"
        "except ConfigurationError as error:\n    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, url, library], capture_output=True, text=True, check=True)
    assert f"pip install 'hpp_middleware[{extra}]'" in done.stdout
    assert "hunter2" not in done.stdout


def test_checking_imports_no_library(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hpp_middleware.stores.urls import check_url\n"
        "for url in ('memory:', 'sqlite:///a.db', 'postgresql://h/n', 'redis://h'): check_url(url, Path())\n"
        "print({'asyncpg', 'redis', 'sqlite3'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "set()\n"
    assert check_url("unix:///run/valkey.sock", tmp_path) == "redis"
