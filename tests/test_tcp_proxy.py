"""The proxy passes bytes, and loses only what it is told to lose."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from databases import psql, running_valkey
from redis.backoff import NoBackoff
from redis.retry import Retry
from tcp_proxy import Ending, TCPProxy, tcp_proxy

ONCE = Retry(NoBackoff(), 0)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[TCPProxy]:
    with tcp_proxy(redis_url) as running:
        yield running


@pytest.fixture
def client(proxy: TCPProxy) -> Iterator[redis.Redis]:
    with connected(proxy.url) as client:
        yield client


def connected(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=ONCE, socket_timeout=0.3)


def test_bytes_pass_in_both_directions(client: redis.Redis) -> None:
    large = bytes(range(256)) * 4000
    client.set("large", large)
    assert client.get("large") == large


def test_a_postgres_is_reached_through_it(postgres_dsn: str) -> None:
    with tcp_proxy(postgres_dsn) as proxy:
        assert psql(proxy.url, "SELECT 1") == "1\n"
        assert proxy.connections == 1


def test_a_dropped_reply_is_to_a_request_that_went_through(
    proxy: TCPProxy, client: redis.Redis, redis_url: str
) -> None:
    client.set("n", 0)
    proxy.drop_replies(2, to=b"INCR")  # not to what a client says first on a new connection
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.incr("n")
    assert proxy.dropped == 2
    assert client.incr("n") == 3
    assert proxy.dropped == 2
    with connected(redis_url) as beside:
        assert beside.get("n") == b"3"


def test_a_lost_request_never_arrives(proxy: TCPProxy, client: redis.Redis) -> None:
    client.set("n", 0)
    proxy.lose_requests(of=b"INCR")
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert proxy.dropped == 1
    assert client.incr("n") == 1


def test_only_the_reply_to_a_marked_request_is_dropped(proxy: TCPProxy, client: redis.Redis) -> None:
    proxy.drop_replies(to=b"INCR")
    client.set("n", 0)
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert client.get("n") == b"1"


def test_a_cut_ends_what_is_open_and_nothing_new(proxy: TCPProxy, client: redis.Redis) -> None:
    client.ping()
    assert proxy.connections == 1
    proxy.cut()
    assert client.ping()  # it sees that its connection has ended, and makes another one
    assert proxy.connections == 2


def test_refused_connections_fail_until_they_are_accepted(proxy: TCPProxy, client: redis.Redis) -> None:
    proxy.refuse()
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            client.ping()
    proxy.accept()
    assert client.ping()


def test_what_was_kept_back_while_stalled_arrives_after_all(proxy: TCPProxy, redis_url: str) -> None:
    with redis.Redis.from_url(proxy.url) as patient, connected(redis_url) as beside, ThreadPoolExecutor(1) as thread:
        patient.ping()
        proxy.stall()
        with connected(proxy.url) as impatient, pytest.raises(redis.TimeoutError):
            impatient.ping()
        late = thread.submit(patient.incr, "n")
        assert not beside.exists("n")
        proxy.resume()
        assert late.result() == 1
        assert beside.get("n") == b"1"


def test_a_delay_is_waited_in_each_direction(proxy: TCPProxy, client: redis.Redis) -> None:
    client.ping()
    proxy.delay = 0.4
    with pytest.raises(redis.TimeoutError):
        client.ping()
    proxy.delay = 0.0
    assert client.ping()


def test_it_ends_while_stalled_and_while_the_server_is_gone(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as server, tcp_proxy(server.url) as proxy, connected(proxy.url) as client:
        client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        client.ping()
        proxy.stall()


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
def test_a_reply_ends_after_so_many_bytes(how: Ending, redis_url: str) -> None:
    with tcp_proxy(redis_url) as proxy:
        proxy.end_after(3, how=how)
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3 if how == "stall" else 20) as line:
                line.sendall(b"PING\r\n")
                assert line.recv(100) == b"+PO"
                if how == "close":
                    assert line.recv(100) == b""
                else:
                    with pytest.raises(ConnectionResetError if how == "reset" else TimeoutError):
                        line.recv(100)
        proxy.end_after(None)
        with connected(proxy.url) as whole:
            assert whole.ping()
