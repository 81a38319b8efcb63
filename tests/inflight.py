"""Requests in flight at a server in another process, each on a connection of its own, and what they came to."""

import http.client
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["SECONDS", "InFlight", "account", "outcomes", "wait_until"]

SECONDS = 60
"""A bound on waiting for what must happen; nothing is measured by it."""


def wait_until(happened: Callable[[], bool]) -> None:
    """Wait for what must happen."""
    give_up = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.02)


class InFlight:
    """A request that has been sent, and is being answered or not."""

    def __init__(self, url: str, path: str, key: str, **body: Any) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
        headers = {"apikey": key, "content-type": "application/json"}
        self._connection.request("POST", path, json.dumps(body), headers)
        self._response: http.client.HTTPResponse | None = None
        self._read = b""

    def begun(self, word: bytes) -> "InFlight":
        """Read on until a word has come."""
        while word not in self._read:
            piece = self.head.read1(65_536)
            assert piece, self._read
            self._read += piece
        return self

    @property
    def head(self) -> http.client.HTTPResponse:
        """Status and headers."""
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response

    def rest(self) -> bytes:
        """The whole body; what a broken connection has brought where it broke."""
        try:
            while piece := self.head.read1(65_536):
                self._read += piece
        except (OSError, http.client.HTTPException):
            pass
        self.close()
        return self._read

    def close(self) -> None:
        """Leave."""
        if self._response is not None:
            self._response.close()
        self._connection.close()


def outcomes(database: Path) -> list[str]:
    """The outcome of every line of the ledger, as the file has them."""
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT outcome FROM ledger WHERE line = 'resolution'").fetchall()
    connection.close()
    return [outcome for (outcome,) in rows]


def account(database: Path, name: str = "alice") -> tuple[int, int, int]:
    """What an account holds and has settled, and the sum of its ledger, in nano-dollars, as the file has them."""
    with sqlite3.connect(database) as connection:
        (found,) = connection.execute("SELECT held, settled FROM account WHERE id = ?", [name]).fetchall()
        ((total,),) = connection.execute("SELECT SUM(amount) FROM ledger WHERE account = ?", [name]).fetchall()
    connection.close()
    return (*found, total or 0)
