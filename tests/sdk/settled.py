"""What an SDK's calls were charged: the client has its answer before that is in the books."""

from inflight import wait_until

from hpp_middleware import MemoryStore
from hpp_middleware.types.quota import Entry

__all__ = ["lines"]


def lines(store: MemoryStore) -> list[Entry]:
    """Alice's ledger, once nothing is held for her any more."""
    wait_until(lambda: not _held(store))
    return list(store._books.lines("alice"))


def _held(store: MemoryStore) -> int:
    account = store._books.account("alice")
    return account.held if account is not None else 0
