"""
The rows of one transaction, read once and written once, however many operations there are to carry out.

What many callers do to one account is one read and one write of its row; new holds and ledger lines go to SQLite by the
list. Nothing is in the file before :meth:`Page.write`. What one transaction has left there is known to the next one,
unless another connection has written meanwhile (:class:`Pages`); and a hold that is not known is taken for a new one,
as nearly every one is, until the file refuses it.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from hpp_middleware.stores.books import carry_out
from hpp_middleware.stores.sqlite.rows import SQLiteBooks, as_json
from hpp_middleware.types.operations import Declare, Grant, Operation, Release, Reserve, Result, Settle
from hpp_middleware.types.quota import Account, Claimed, Entry, Hold

__all__ = ["Page", "Pages", "TakenIdError"]

FEW = 2
"""So many rows are read one by one."""

MOST_KNOWN = 10_000
"""So many accounts, and live holds, are known from one transaction to the next: a few megabytes."""


class TakenIdError(Exception):
    """A hold that was taken for a new one is in the file."""


class Page:
    """
    See :class:`hpp_middleware.stores.books.Books`.

    Args:
        connection: In the transaction.
        version: What SQLite counts of the commits of others.
        guesses: Whether a hold that is to be placed, and is not known, is taken for a new one without a look into the
            file. So it is, but for what is asked again after a failure; where it is not, nothing can be carried out.
    """

    def __init__(self, connection: sqlite3.Connection, version: int = 0, *, guesses: bool = False) -> None:
        self.connection = connection
        self.version = version
        self._guesses = guesses
        self._rows = SQLiteBooks(connection)
        self._accounts: dict[str, Account | None] = {}
        self._holds: dict[str, Hold | None] = {}
        self._guessed: set[str] = set()
        self._passing: set[str] = set()  # holds that are not to be known any longer than this transaction
        self._before: dict[str, Hold | None] = {}  # as the file has those that are to be written
        self._leases: dict[str, float | None] = {}
        self._changed: set[str] = set()  # accounts to be written
        self._entries: list[Entry] = []

    def anew(self) -> "Page":
        """One of the same transaction that knows nothing yet."""
        return Page(self.connection, self.version, guesses=self._guesses)

    def carry_out(self, wanted: Sequence[Sequence[Operation]], now: float) -> list[list[Result]]:
        """
        The operations of several callers, and what became of them.

        Raises:
            TakenIdError: A guess was wrong: the transaction is to be rolled back, and carried out without guesses.
            sqlite3.IntegrityError: So it was, or the books refuse something else.
        """
        self.read(wanted)
        results = [
            [carry_out(self, each[0], now=now)]
            if len(each) == 1
            else [carry_out(self, operation, now=now) for operation in each]
            for each in wanted
        ]
        if self._guessed:
            self._check_guesses()
        self.write()
        return results

    def read(self, wanted: Iterable[Sequence[Operation]]) -> None:
        """Read what these operations need of accounts and holds, and is not known, in two steps."""
        accounts: set[str] = set()
        placed: set[str] = set()
        holds: set[str] = set()
        for operations in wanted:
            for operation in operations:
                if isinstance(operation, Reserve):
                    accounts.update(operation.accounts)
                    placed.add(operation.id)
                elif isinstance(operation, Settle | Release):
                    holds.add(operation.id)
                elif isinstance(operation, Grant | Declare):
                    accounts.add(operation.account)
        known = self._holds
        if self._guesses:
            self._guessed = placed - known.keys()
            known.update(dict.fromkeys(self._guessed))
        else:
            holds |= placed
        unknown = _listable(holds - known.keys())
        if len(unknown) > FEW:
            self._passing |= unknown
            known.update(dict.fromkeys(unknown))
            read = self._rows.holds(_listed(unknown))
            known.update({hold.id: hold for hold in read})
            accounts.update(*[hold.accounts for hold in read])
        unknown = _listable(accounts - self._accounts.keys())
        if len(unknown) > FEW:
            self._accounts.update(dict.fromkeys(unknown))
            self._accounts.update({account.id: account for account in self._rows.accounts(_listed(unknown))})

    def write(self) -> None:
        """Write what has changed."""
        new: list[Hold] = []
        other: list[Hold] = []
        grown: list[Hold] = []
        for hold_id, before in self._before.items():
            hold = self._holds[hold_id]
            if hold is None:
                continue
            if before is None:
                new.append(hold)
            else:
                (grown if before.draft is hold.draft else other).append(hold)
        self._rows.add_holds(new)
        if other:
            self._rows.put_holds(other)
        self._rows.update_holds(grown)
        self._rows.put_entries(self._entries)
        self._rows.put_accounts([account for name in self._changed if (account := self._accounts[name]) is not None])
        self._before.clear()
        self._entries.clear()
        self._changed.clear()

    def forget(self) -> None:
        """Of what is committed now, keep what the next one may ask for: accounts, leases, and the holds that live."""
        for name in self._passing:
            self._holds.pop(name, None)
        self._passing.clear()
        if len(self._holds) > MOST_KNOWN:
            self._holds.clear()
        if len(self._accounts) > MOST_KNOWN:
            self._accounts.clear()

    def _check_guesses(self) -> None:
        """A hold that was placed is found to be new where it is written; for others this says so."""
        not_placed = [name for name in self._guessed if self._holds.get(name) is None]
        self._guessed = set()
        for name in not_placed:
            self._passing.add(name)
            if self._rows.hold(name) is not None:
                raise TakenIdError

    def account(self, account_id: str) -> Account | None:
        """One account."""
        try:
            return self._accounts[account_id]
        except KeyError:
            found = self._accounts[account_id] = self._rows.account(account_id)
            return found

    def hold(self, hold_id: str) -> Hold | None:
        """One hold."""
        try:
            return self._holds[hold_id]
        except KeyError:
            found = self._holds[hold_id] = self._rows.hold(hold_id)
            self._passing.add(hold_id)
            return found

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
        name = hold.id
        if name not in self._before:
            self._before[name] = self.hold(name)
        self._holds[name] = hold
        if hold.state != "held":
            self._passing.add(name)

    def put_entry(self, entry: Entry) -> None:
        """Append a ledger line."""
        self._entries.append(entry)

    def put_lease(self, owner: str, until: float) -> None:
        """Extend a lease."""
        self._rows.put_lease(owner, until)
        self._leases.pop(owner, None)

    # What is rare goes to the file at once; where that looks at holds, they are written before.

    def granted(self, grant_id: str) -> tuple[str, int] | None:
        """To which account, and how much, was granted under an id."""
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
        self._check_guesses()
        self._holds.clear()
        self._leases.clear()
        return self._rows.prune(now, before, most)


class Pages:
    """
    Pages one after the other, of one connection.

    What a transaction has left in the file is there still at the next one, unless another connection has written
    meanwhile, of which SQLite tells. (What this one writes by other work begins a page anew.)

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
        return Page(connection, version, guesses=True)

    def keep(self, page: Page) -> None:
        """It is committed, and nothing after what it knows."""
        page.forget()
        self._kept = page


def _listable(names: Iterable[str]) -> set[str]:
    """Without those that SQLite would cut at a NUL: they are read one by one."""
    return {name for name in names if "\0" not in name}


def _listed(names: Iterable[str]) -> str:
    return as_json(list(names))
