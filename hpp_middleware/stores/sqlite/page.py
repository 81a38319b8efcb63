"""
The rows of one transaction, read once and written once, however many operations there are to carry out.

What many callers do to one account is one read and one write of its row; new holds and ledger lines go to SQLite by the
list. Nothing is in the file before :meth:`Page.write`. What one transaction has left there is known to the next one,
unless another connection has written meanwhile (:class:`Pages`).
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from hpp_middleware.stores.books import carry_out
from hpp_middleware.stores.sqlite.rows import SQLiteBooks, as_json
from hpp_middleware.types.operations import Declare, Grant, Operation, Release, Reserve, Result, Settle
from hpp_middleware.types.quota import Account, Claimed, Entry, Hold

__all__ = ["Page", "Pages"]

FEW = 2
"""So many rows are read one by one."""

MOST_KNOWN = 10_000
"""So many accounts, and live holds, are known from one transaction to the next: a few megabytes."""


class Page:
    """
    See :class:`hpp_middleware.stores.books.Books`.

    Args:
        connection: In the transaction.
        version: What SQLite counts of the commits of others.
    """

    def __init__(self, connection: sqlite3.Connection, version: int = 0) -> None:
        self.connection = connection
        self.version = version
        self._rows = SQLiteBooks(connection)
        self._accounts: dict[str, Account | None] = {}
        self._holds: dict[str, Hold | None] = {}
        self._asked: set[str] = set()  # holds that this transaction is about
        self._before: dict[str, Hold | None] = {}  # as the file has those that are to be written
        self._leases: dict[str, float | None] = {}
        self._changed: set[str] = set()  # accounts to be written
        self._entries: list[Entry] = []

    def carry_out(self, wanted: Sequence[Sequence[Operation]], now: float) -> list[list[Result]]:
        """The operations of several callers, and what became of them."""
        self.read(operation for operations in wanted for operation in operations)
        results = [[carry_out(self, operation, now=now) for operation in operations] for operations in wanted]
        self.write()
        return results

    def read(self, operations: Iterable[Operation]) -> None:
        """Read what these operations need of accounts and holds, and is not known, in two steps."""
        accounts: set[str] = set()
        holds: set[str] = set()
        for operation in operations:
            match operation:
                case Reserve():
                    accounts.update(operation.accounts)
                    holds.add(operation.id)
                case Settle() | Release():
                    holds.add(operation.id)
                case Grant() | Declare():
                    accounts.add(operation.account)
        self._asked |= holds
        unknown = _listable(holds - self._holds.keys())
        if len(unknown) > FEW:
            self._holds.update(dict.fromkeys(unknown))
            self._holds.update({hold.id: hold for hold in self._rows.holds(_listed(unknown))})
        accounts.update(*[hold.accounts for name in holds if (hold := self._holds.get(name)) is not None])
        unknown = _listable(accounts - self._accounts.keys())
        if len(unknown) > FEW:
            self._accounts.update(dict.fromkeys(unknown))
            self._accounts.update({account.id: account for account in self._rows.accounts(_listed(unknown))})

    def write(self) -> None:
        """Write what has changed."""
        whole: list[Hold] = []
        grown: list[Hold] = []
        for hold_id, before in self._before.items():
            hold = self._holds[hold_id]
            if hold is not None:
                (grown if before is not None and before.draft is hold.draft else whole).append(hold)
        accounts = [account for name in self._changed if (account := self._accounts[name]) is not None]
        self._rows.put_holds(whole)
        self._rows.update_holds(grown)
        self._rows.put_entries(self._entries)
        self._rows.put_accounts(accounts)
        self._before.clear()
        self._entries.clear()
        self._changed.clear()

    def forget(self) -> None:
        """Of what is committed now, keep what the next one may ask for: accounts, leases, and the holds that live."""
        for name in self._asked:
            hold = self._holds.get(name)
            if hold is None or hold.state != "held":
                self._holds.pop(name, None)
        self._asked.clear()
        if len(self._holds) > MOST_KNOWN:
            self._holds.clear()
        if len(self._accounts) > MOST_KNOWN:
            self._accounts.clear()

    def account(self, account_id: str) -> Account | None:
        """One account."""
        if account_id not in self._accounts:
            self._accounts[account_id] = self._rows.account(account_id)
        return self._accounts[account_id]

    def hold(self, hold_id: str) -> Hold | None:
        """One hold."""
        self._asked.add(hold_id)
        if hold_id not in self._holds:
            self._holds[hold_id] = self._rows.hold(hold_id)
        return self._holds[hold_id]

    def lease(self, owner: str) -> float | None:
        """When a worker's lease ends."""
        if owner not in self._leases:
            self._leases[owner] = self._rows.lease(owner)
        return self._leases[owner]

    def put_account(self, account: Account) -> None:
        """Write an account."""
        self._accounts[account.id] = account
        self._changed.add(account.id)

    def put_hold(self, hold: Hold) -> None:
        """Write a hold."""
        if hold.id not in self._before:
            self._before[hold.id] = self.hold(hold.id)
        self._holds[hold.id] = hold

    def put_entry(self, entry: Entry) -> None:
        """Append a ledger line."""
        self._entries.append(entry)

    def put_lease(self, owner: str, until: float) -> None:
        """Extend a lease."""
        self._rows.put_lease(owner, until)
        self._leases.pop(owner, None)

    # What is rare goes to the file at once; where that looks at holds, they are written before.

    def granted(self, grant_id: str) -> int | None:
        """The amount granted under an id."""
        return self._rows.granted(grant_id)

    def put_grant(self, grant: Grant, now: float) -> None:
        """Keep a grant."""
        self._rows.put_grant(grant, now)

    def claim(self, key: str) -> Claimed | None:
        """One idempotency claim."""
        return self._rows.claim(key)

    def kept_bytes(self, account_id: str) -> int:
        """How long the answers are that an account has kept."""
        return self._rows.kept_bytes(account_id)

    def put_claim(self, claimed: Claimed) -> None:
        """Write a claim."""
        self._rows.put_claim(claimed)

    def due(self, now: float) -> Iterable[Hold]:
        """Live holds whose owner's lease or own deadline has run out."""
        self.write()
        return self._rows.due(now)

    def prune(self, now: float, before: float, most: int) -> bool:
        """Forget what is long over."""
        self.write()
        self._holds.clear()
        self._leases.clear()
        return self._rows.prune(now, before, most)


class Pages:
    """
    Pages one after the other, of one connection.

    What a transaction has left in the file is there still at the next one, unless somebody else has written: this
    process by other work, which forgets the page, or another connection, of which SQLite tells.

    Args:
        clock: The store's.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._kept: Page | None = None

    def take(self, connection: sqlite3.Connection) -> Page:
        """The page of a transaction that has begun to write; nothing is kept of it unless it is given back."""
        kept, self._kept = self._kept, None
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if kept is not None and kept.connection is connection and kept.version == version:
            return kept
        return Page(connection, version)

    def keep(self, page: Page) -> None:
        """It is committed, and nothing else with it."""
        page.forget()
        self._kept = page


def _listable(names: Iterable[str]) -> set[str]:
    """Without those that SQLite would cut at a NUL: they are read one by one."""
    return {name for name in names if "\0" not in name}


def _listed(names: Iterable[str]) -> str:
    return as_json(list(names))
