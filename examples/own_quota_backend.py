"""
A quota backend of your own: accounts, holds and ledger in one JSON file, durable, and shared by the workers of a host.

    uvicorn --app-dir examples --workers 2 own_quota_backend:app
    curl localhost:8000/llm/v1/chat/completions -H 'apikey: made-up-key-of-alice' \
        --json '{"model": "upstream/echo", "messages": [{"role": "user", "content": "Hello"}]}'
    cat quota.json

``core.quota`` decides; a backend is a transaction around its decisions, and ``carry_out`` is what happens inside. There
is nothing to inherit: it fits :class:`hpp_middleware.ports.QuotaStore` and ``Ledger``, and ``check_quota_store`` and
``check_ledger`` of :mod:`hpp_middleware.testing` hold it to every promise. A file is fine for a hundred requests.
"""

import fcntl
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from anyio import to_thread

from hpp_middleware import Gateway, Provider
from hpp_middleware.cli.echo import Echo
from hpp_middleware.core import quota
from hpp_middleware.stores.books import carry_out
from hpp_middleware.stores.memory import MemoryBooks
from hpp_middleware.types.operations import Operation, Result
from hpp_middleware.types.provider import Declared
from hpp_middleware.types.quota import Account, Balance, Entry


class FileQuota:
    """See the ports; ``clock`` is for the conformance suite, which sets it."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out each operation, in one transaction."""
        return await to_thread.run_sync(self._transaction, operations)

    async def balance(self, account: str) -> Balance:
        """Read one account, fresh."""
        return quota.balance(self._read().account(account) or Account(id=account))

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """Read the ledger lines of one request."""
        return [entry for entry in self._read().entries.get(account, []) if entry.hold == hold]

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """Read an account's ledger lines."""
        return self._read().entries.get(account, [])[after : after + most]

    def _transaction(self, operations: Sequence[Operation]) -> list[Result]:
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # one writer at a time, in all processes; closing the file frees it
            books = self._read()
            results = [carry_out(books, operation, now=self._clock()) for operation in operations]
            self._write(books)
        return results

    def _read(self) -> MemoryBooks:
        return msgspec.json.decode(self._path.read_bytes(), type=MemoryBooks) if self._path.exists() else MemoryBooks()

    def _write(self, books: MemoryBooks) -> None:
        written = self._path.with_suffix(".new")
        with written.open("wb") as file:
            file.write(msgspec.json.encode(books))
            file.flush()
            os.fsync(file)
        written.replace(self._path)  # all of it or nothing, whenever the machine stops
        folder = os.open(self._path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


BASE_URL = os.environ.get("OPENAI_BASE_URL")
API_KEY = os.environ.get("OPENAI_API_KEY") or None
MODEL = "upstream/" + os.environ.get("OPENAI_MODEL", "echo")

gateway = Gateway(
    quota=FileQuota(Path(os.environ.get("QUOTA_FILE", "quota.json"))),
    providers={"upstream": Provider(base_url=BASE_URL or "http://in-this-process", api_key=API_KEY)},
    transports={} if BASE_URL else {"upstream": Echo()},
    models={MODEL: {"input": "0.50", "output": "1.50"}},  # dollars a million tokens
    consumers={"alice": Declared(quota=5_000_000_000, keys=("made-up-key-of-alice",))},  # five dollars
)
app = gateway.app
