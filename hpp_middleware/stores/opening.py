"""
Why a store cannot be opened, in plain words: which setting names it, and what is the matter.

Nothing that a driver or a server says is repeated, since it may hold a URL, and that a password. Drivers are known by
the codes and the names of their exceptions, so that none of them is imported here.
"""

import errno
import os
import re
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpp_middleware.errors import ConfigurationError, GatewayError, NotOpenedError

__all__ = ["cause", "opening"]

_ERRNOS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "the server closed the connection",
    errno.EPIPE: "the server closed the connection",
    errno.EHOSTUNREACH: "the host cannot be reached",
    errno.ENETUNREACH: "the network cannot be reached",
    errno.ETIMEDOUT: "no answer in time",
    errno.ENOENT: "there is no such file or folder",
    errno.ENOTDIR: "its folder is a file",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EMFILE: "too many open files",
}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_SQLSTATES = {
    "28P01": "password refused",
    "28000": "user refused",
    "3D000": "no such database",
    "42501": "the database's user may not do this",
    "53300": "the server has too many connections",
    "57P03": "the server is starting or stopping",
}
_SQLITE = {
    sqlite3.SQLITE_NOTADB: "not a database",
    sqlite3.SQLITE_CORRUPT: "the database is damaged",
    sqlite3.SQLITE_READONLY: "the file or its folder is not writable",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be read or made",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_BUSY: "another process keeps it locked",
}
_NAMES = {
    "AuthenticationError": "password refused",
    "AuthenticationWrongNumberOfArgsError": "password refused",
    "NoPermissionError": "the server's user may not do this",
    "MaxConnectionsError": "the server has too many connections",
    "BusyLoadingError": "the server is starting",
}
_REDIS = {
    "NOAUTH": "password missing",
    "WRONGPASS": "password refused",
    "NOPERM": "the server's user may not do this",
    "Invalid Database": "no such database",
    "DB index is out of range": "no such database",
}
_GENERIC = re.compile(r"The (database|store) cannot be used at the moment\.")
_NUMBERS = re.compile(r"\[Errno (\d+)\]")


@contextmanager
def opening(where: str) -> Iterator[None]:
    """
    Name the setting whose store is opened in this block in what goes wrong.

    The foreign exceptions behind it are not shown in tracebacks: they may hold a URL.

    Args:
        where: ``store.url``, ``credentials.url``, ``ledger.url`` or ``journal.dir``.
    Raises:
        ConfigurationError: It is not set up as it must be; the message begins with the setting.
        NotOpenedError: All else.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message}", param=error.param or where) from None
    except NotOpenedError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, the setting is named
        raise NotOpenedError(where, cause(error)) from None


def cause(error: BaseException) -> str:
    """What is the matter, in words of ours."""
    chain = list(_chain(error))
    for each in chain:
        if words := _words(each):
            return words
    ours = [each.message for each in chain if isinstance(each, GatewayError) and not _GENERIC.fullmatch(each.message)]
    return ours[-1].removesuffix(".") if ours else f"{type(chain[-1]).__name__}{_place(chain[-1])}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it comes from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _words(error: BaseException) -> str | None:
    match error:
        case GatewayError():
            return None
        case sqlite3.Error():
            return _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        case TimeoutError():
            return "no answer in time"
        case socket.gaierror():
            return "there is no such host"
        case ssl.SSLCertVerificationError():
            return "the server's certificate is not trusted"
        case ssl.SSLError():
            return "TLS cannot be agreed on"
        case OSError():
            return _system(error)
        case _:
            return _foreign(error)


def _foreign(error: BaseException) -> str | None:
    """What a driver's own exception says."""
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):  # PostgreSQL's
        return _SQLSTATES.get(state, f"the server answers with error {state}")
    for kind in type(error).__mro__:
        if kind.__name__ in _NAMES:
            return _NAMES[kind.__name__]
    said = str(error)
    return next((words for begin, words in _REDIS.items() if said.startswith(begin)), None)


def _system(error: OSError) -> str | None:
    number = error.errno
    if number is None and isinstance(error.__cause__, OSError):  # anyio's, around the one that knows
        return None
    if number is None:  # asyncio's, of a name with several addresses: each has its own number
        found = _NUMBERS.search(str(error))
        number = int(found[1]) if found else 0
    place = error.filename if isinstance(error.filename, str) else ""
    if number in _FORBIDDEN:
        folder = not os.path.lexists(place)
        named = f" {Path(place).parent if folder else place}" if place else ""
        return f"the {'folder' if folder and place else 'file'}{named} is not writable"
    words = _ERRNOS.get(number) or (os.strerror(number).lower() if number > 0 else "the server cannot be reached")
    return f"{words}: {place}" if place else words


def _place(error: BaseException) -> str:
    """Where it was raised, as file and line."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
