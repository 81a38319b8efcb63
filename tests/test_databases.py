"""The databases that tests run on are real, empty at first, and gone at the end."""

import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
import redis
from databases import Server, fresh_database, psql, running_postgres, running_valkey
from redis.backoff import NoBackoff
from redis.retry import Retry

ONCE = Retry(NoBackoff(), 0)
SAVED = ("--appendonly", "yes", "--appendfsync", "always")


def test_a_postgres_database_is_empty_and_its_own(postgres_dsn: str, postgres_server: str) -> None:
    assert psql(postgres_dsn, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0\n"
    psql(postgres_dsn, "CREATE TABLE marks (n int)")
    with fresh_database(postgres_server) as other, pytest.raises(subprocess.CalledProcessError):
        psql(other, "SELECT * FROM marks")
    with pytest.raises(subprocess.CalledProcessError):
        psql(other, "SELECT 1")


@pytest.mark.parametrize("_round", range(2))
def test_a_redis_database_is_empty(redis_url: str, _round: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("mark", 1)


def test_a_valkey_restarts_with_what_it_was_told_to_keep(tmp_path: Path) -> None:
    with running_valkey(tmp_path, *SAVED) as server, redis.Redis.from_url(server.url) as client:
        client.set("kept", 1)
        url, pid = server.url, server.pid
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.restart()
        assert client.get("kept") == b"1"
        assert (server.url, server.pid == pid) == (url, False)
        with redis.Redis(unix_socket_path=str(server.home / "valkey.sock")) as beside:
            assert beside.get("kept") == b"1"
    assert_gone(server)


def test_a_paused_valkey_answers_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server, redis.Redis(port=server.port, socket_timeout=0.2, retry=ONCE) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()
        server.pause()
    assert_gone(server)


def test_a_postgres_restarts_with_what_was_committed(tmp_path: Path) -> None:
    with running_postgres(tmp_path) as server:
        psql(server.url, "CREATE TABLE kept (n int)")
        family = [process.pid for process in psutil.Process(server.pid).children()]
        server.kill()
        assert family
        assert not any(map(psutil.pid_exists, family))
        server.restart()
        assert psql(f"postgresql://postgres@/postgres?host={server.home}&port={server.port}", "TABLE kept") == ""
        server.pause()
    assert_gone(server)


def test_a_server_ends_with_a_failed_test_and_with_the_tests_own_process(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib, databases\n"
        "with databases.running_valkey(pathlib.Path(sys.argv[1])) as server:\n"
        "    print(server.pid, server.home, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    pid, home = done.stdout.split()
    wait_until_gone(int(pid), Path(home))


def wait_until_gone(pid: int, home: Path) -> None:
    give_up = time.monotonic() + 20
    while (alive(pid) or home.exists()) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not alive(pid)
    assert not home.exists()


def alive(pid: int) -> bool:
    """Whether it runs; whoever adopts a process may leave it a zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def assert_gone(server: Server) -> None:
    assert server.process.returncode is not None
    assert not server.home.exists()
