"""Faults of a database server, each for as long as a block lasts."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import redis
from anyio.to_thread import run_sync
from databases import Server

__all__ = ["POSTGRES", "VALKEY", "end_sessions"]

Admin: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1"


# --- both -----------------------------------------------------------------------------------------


@asynccontextmanager
async def killed(server: Server, _url: str) -> AsyncGenerator[None]:
    """``kill -9``, and later started again."""
    await run_sync(server.kill)
    try:
        yield
    finally:
        await run_sync(server.start)


@asynccontextmanager
async def stopped(server: Server, _url: str) -> AsyncGenerator[None]:
    """Stopped in order, and later started again."""
    await run_sync(server.stop)
    try:
        yield
    finally:
        await run_sync(server.start)


@asynccontextmanager
async def paused(server: Server, _url: str) -> AsyncGenerator[None]:
    """``SIGSTOP``."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


# --- PostgreSQL -----------------------------------------------------------------------------------


@asynccontextmanager
async def without_tables(_server: Server, url: str) -> AsyncGenerator[None]:
    """The tables are gone, as in a database that was made anew."""
    admin = await asyncpg.connect(url)
    await admin.execute("ALTER SCHEMA public RENAME TO away; CREATE SCHEMA public")
    try:
        yield
    finally:
        # Without CASCADE it drops an empty one only: nobody made tables meanwhile.
        await admin.execute("DROP SCHEMA public; ALTER SCHEMA away RENAME TO public")
        await admin.close(timeout=5)


@asynccontextmanager
async def read_only(server: Server, url: str) -> AsyncGenerator[None]:
    """Every new session can only read, and there are no old ones."""
    admin, name = await _beside(server, url)
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await end_sessions(admin, name)
    try:
        yield
    finally:
        await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await admin.close(timeout=5)


@asynccontextmanager
async def closed_to_all(server: Server, url: str) -> AsyncGenerator[None]:
    """Sessions are ended, and there are no new ones."""
    admin, name = await _beside(server, url)
    await admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    await end_sessions(admin, name)
    try:
        yield
    finally:
        await admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
        await admin.close(timeout=5)


@asynccontextmanager
async def crowded(server: Server, url: str) -> AsyncGenerator[None]:
    """Others have all the connections that the server gives."""
    admin, name = await _beside(server, url)
    others = [admin]
    while not others[-1].is_closed():
        await end_sessions(admin, name)
        try:
            others.append(await asyncpg.connect(server.url))
        except asyncpg.TooManyConnectionsError:
            if not await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name):
                break
    try:
        yield
    finally:
        for each in others:
            await each.close(timeout=5)


@asynccontextmanager
async def locked(_server: Server, url: str) -> AsyncGenerator[None]:
    """Somebody's transaction has the accounts locked, and takes its time."""
    admin = await asyncpg.connect(url)
    try:
        async with admin.transaction():
            await admin.execute("LOCK TABLE hpp_account")
            yield
    finally:
        await admin.close(timeout=5)


async def end_sessions(admin: Admin, name: str) -> None:
    """End all sessions of a database."""
    await admin.execute(END_SESSIONS, name)


async def _beside(server: Server, url: str) -> tuple[Admin, str]:
    """A session in another database of the server, and this one's name."""
    return await asyncpg.connect(server.url), url.rpartition("/")[2]


POSTGRES = [killed, stopped, paused, without_tables, read_only, closed_to_all, crowded, locked]


# --- Valkey ---------------------------------------------------------------------------------------


@asynccontextmanager
async def flushed(_server: Server, url: str) -> AsyncGenerator[None]:
    """``FLUSHALL``; later a backup is brought back."""
    with redis.Redis.from_url(url) as admin:
        backup = _backup(admin)
        admin.flushall()
        try:
            yield
        finally:
            _bring_back(admin, backup)


@asynccontextmanager
async def restarted_empty(server: Server, url: str) -> AsyncGenerator[None]:
    """The server is there again, and has nothing; later a backup is brought back."""
    with redis.Redis.from_url(url) as admin:
        backup = _backup(admin)
        admin.flushall()
        await run_sync(server.restart)
        try:
            yield
        finally:
            _bring_back(admin, backup)


@asynccontextmanager
async def a_replica(_server: Server, url: str) -> AsyncGenerator[None]:
    """It was made a replica, of a primary that is not there: READONLY."""
    with redis.Redis.from_url(url) as admin:
        admin.replicaof("127.0.0.1", 1)
        try:
            yield
        finally:
            admin.replicaof("NO", "ONE")


@asynccontextmanager
async def _configured(url: str, name: str, value: object, usual: object) -> AsyncGenerator[None]:
    with redis.Redis.from_url(url) as admin:
        admin.config_set(name, value)
        try:
            yield
        finally:
            admin.config_set(name, usual)


@asynccontextmanager
async def without_replicas(_server: Server, url: str) -> AsyncGenerator[None]:
    """It takes no write without a replica, and has none: NOREPLICAS."""
    async with _configured(url, "min-replicas-to-write", 1, 0):
        yield


@asynccontextmanager
async def out_of_memory(_server: Server, url: str) -> AsyncGenerator[None]:
    """Its memory is full: OOM."""
    async with _configured(url, "maxmemory", 1, 0):
        yield


@asynccontextmanager
async def writes_held_back(_server: Server, url: str) -> AsyncGenerator[None]:
    """``CLIENT PAUSE``: it takes what it is asked, and does not answer for now."""
    with redis.Redis.from_url(url) as admin:
        admin.client_pause(60_000, all=False)
        try:
            yield
        finally:
            admin.client_unpause()


@asynccontextmanager
async def busy(_server: Server, url: str) -> AsyncGenerator[None]:
    """Somebody's script does not end: BUSY."""
    with redis.Redis.from_url(url) as admin, redis.Redis.from_url(url) as somebody:
        admin.config_set("busy-reply-threshold", 20)
        running = asyncio.create_task(asyncio.to_thread(_run_for_ever, somebody))
        while not _is_busy(admin):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            admin.script_kill()
            await running
            admin.config_set("busy-reply-threshold", 5000)


@asynccontextmanager
async def crowded_server(_server: Server, url: str) -> AsyncGenerator[None]:
    """Connections are ended, and it takes no more of them."""
    with redis.Redis.from_url(url) as admin:
        admin.config_set("maxclients", 1)
        admin.client_kill_filter(_type="normal", skipme=True)
        try:
            yield
        finally:
            admin.config_set("maxclients", 1000)


def _backup(admin: redis.Redis) -> dict[bytes, bytes]:
    found: Any = {key: admin.dump(key) for key in admin.keys("*")}
    return dict(found)


def _bring_back(admin: redis.Redis, backup: dict[bytes, bytes]) -> None:
    assert backup
    assert admin.keys("*") == [], "an emptied server is left empty"
    for key, value in backup.items():
        admin.restore(key, 0, value)


def _run_for_ever(somebody: redis.Redis) -> None:
    try:
        somebody.eval("while true do end", 0)
    except redis.ResponseError:
        return


def _is_busy(admin: redis.Redis) -> bool:
    try:
        admin.ping()
    except redis.ResponseError:
        return True
    return False


VALKEY = [
    killed,
    stopped,
    paused,
    flushed,
    restarted_empty,
    a_replica,
    without_replicas,
    out_of_memory,
    writes_held_back,
    busy,
    crowded_server,
]
