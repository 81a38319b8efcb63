"""The books of a store that lives in memory, or in a file of your own: dicts, as one struct that msgspec can encode."""

from collections.abc import Iterable, Sequence
from itertools import islice, takewhile

from msgspec import Struct, field

from hpp_middleware.core import quota
from hpp_middleware.core.ledger import OVERDUE_S
from hpp_middleware.stores.memory import packed
from hpp_middleware.stores.memory.packed import Packer
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Account, Claimed, Entry, Hold, Seal, Statement

__all__ = ["CompactBooks", "MemoryBooks"]

INDEX = (1 << 60) - 1
"""So much of a hash is an int of 32 bytes; the id itself takes 96."""


class MemoryBooks(Struct):
    """
    Accounts, holds and ledger; see :class:`hpp_middleware.stores.books.Books`.

    Attributes:
        live: The holds that the sweep looks at.
        resolved: When the others were resolved, the oldest first.
        keeping: How many bytes of answers are kept, by account.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    resolved: dict[str, float] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    claims: dict[str, Claimed] = field(default_factory=dict)
    keeping: dict[str, int] = field(default_factory=dict)
    seals: dict[str, dict[int, Seal]] = field(default_factory=dict)

    def account(self, account_id: str) -> Account | None:
        """One account."""
        return self.accounts.get(account_id)

    def hold(self, hold_id: str) -> Hold | None:
        """One hold."""
        return self.holds.get(hold_id)

    def granted(self, grant_id: str) -> tuple[str, int] | None:
        """To which account, and how much, was granted under an id."""
        grant = self.grants.get(grant_id)
        return (grant.account, grant.amount) if grant is not None else None

    def lease(self, owner: str) -> float | None:
        """When a worker's lease ends."""
        return self.leases.get(owner)

    def due(self, now: float) -> Iterable[Hold]:
        """Live holds whose owner's lease or own deadline has run out."""
        holds = (self.holds[hold_id] for hold_id in sorted(self.live))
        return [hold for hold in holds if quota.is_due(hold, lease_until=self.lease(hold.owner), now=now)]

    def claim(self, key: str) -> Claimed | None:
        """One idempotency claim."""
        return self.claims.get(key)

    def kept_bytes(self, account_id: str) -> int:
        """How long the answers are that an account has kept."""
        return self.keeping.get(account_id, 0)

    def put_account(self, account: Account) -> None:
        """Write an account."""
        self.accounts[account.id] = account

    def put_hold(self, hold: Hold) -> None:
        """Write a hold."""
        self.holds[hold.id] = hold
        if hold.state == "held":
            self.live.add(hold.id)
        else:
            self.live.discard(hold.id)
            self.put_resolved(hold)

    def put_grant(self, grant: Grant, now: float) -> None:  # noqa: ARG002  # the port's signature
        """Keep a grant."""
        self.grants[grant.id] = grant

    def put_lease(self, owner: str, until: float) -> None:
        """Extend a lease."""
        self.leases[owner] = max(until, self.leases.get(owner, until))

    def put_entry(self, entry: Entry) -> None:
        """Append a ledger line."""
        self.entries.setdefault(entry.account, []).append(entry)

    def put_claim(self, claimed: Claimed) -> None:
        """Write a claim."""
        self._drop_claim(claimed.key)
        self.claims[claimed.key] = claimed
        self._count(claimed, 1)

    def prune(self, now: float, before: float, most: int) -> bool:
        """Forget what is long over."""
        known = len(self.holds), len(self.claims)
        for hold_id, _ in list(takewhile(lambda each: each[1] < before, islice(self.resolved.items(), most))):
            del self.resolved[hold_id], self.holds[hold_id]
        owners = {self.holds[hold_id].owner for hold_id in self.live}
        for owner, until in list(self.leases.items()):
            if until < before and owner not in owners:
                del self.leases[owner]
        for key, claim in list(self.claims.items())[:most]:
            if claim.expires <= now and claim.hold not in self.live:
                self._drop_claim(key)
        return most in (known[0] - len(self.holds), known[1] - len(self.claims))

    def lines(self, account_id: str, after: int = 0, most: int | None = None) -> Sequence[Entry]:
        """An account's ledger lines behind so many, in order."""
        return self.entries.get(account_id, [])[after : None if most is None else after + most]

    def of_hold(self, account_id: str, hold_id: str) -> list[Entry]:
        """The ledger lines of one hold."""
        return [entry for entry in self.entries.get(account_id, ()) if entry.hold == hold_id]

    def statement(self, account_id: str, now: float) -> Statement:
        """What an auditor compares."""
        lines = self._figures(account_id)
        live = [hold for hold_id in self.live if account_id in (hold := self.holds[hold_id]).accounts]
        return Statement(
            account=self.account(account_id) or Account(id=account_id),
            granted=sum(grant.amount for grant in self.grants.values() if grant.account == account_id),
            held=sum(hold.amount for hold in live),
            charged=sum(amount for _, amount, _ in lines),
            lines=len(lines),
            seq=max((seq for seq, _, _ in lines), default=0),
            resolutions=sum(is_resolution for _, _, is_resolution in lines),
            overdue=sum(hold.deadline < now - OVERDUE_S for hold in live),
        )

    def _figures(self, account_id: str) -> list[tuple[int, int, bool]]:
        """Of each ledger line of an account its number, its amount, and whether it is a resolution."""
        return [(entry.seq, entry.amount, entry.line == "resolution") for entry in self.entries.get(account_id, ())]

    def put_resolved(self, hold: Hold) -> None:
        """Keep when a hold was resolved, to forget it in time."""
        self.resolved.pop(hold.id, None)  # so that a corrected one is the newest again
        self.resolved[hold.id] = hold.resolved or 0.0

    def _drop_claim(self, key: str) -> None:
        claim = self.claims.pop(key, None)
        if claim is not None:
            self._count(claim, -1)

    def _count(self, claim: Claimed, sign: int) -> None:
        if claim.kept:
            self.keeping[claim.account] = self.keeping.get(claim.account, 0) + sign * len(claim.kept)


class CompactBooks(MemoryBooks):
    """
    Books in which what was settled is packed, as a record each; of a store that lives in memory.

    Attributes:
        settled: The records of holds, the oldest first, by a hash of their ids.
        ledger: The ledger lines of each account: records, and what could be none.
    """

    settled: dict[int, bytes] = field(default_factory=dict)
    ledger: dict[str, list[bytes | Entry]] = field(default_factory=dict)
    packer: Packer = field(default_factory=Packer)

    def hold(self, hold_id: str) -> Hold | None:
        """See :class:`MemoryBooks`."""
        found = self.holds.get(hold_id)
        if found is None:
            record = self.settled.get(hash(hold_id) & INDEX)
            if record is not None and record.startswith(packed.begins(hold_id)):
                return self.packer.hold(record)
        return found

    def put_entry(self, entry: Entry) -> None:
        """See :class:`MemoryBooks`; a hold that was settled becomes a record with its resolution."""
        line: bytes | Entry = entry
        if entry.line == "resolution" and (hold := self.holds[entry.hold]).state == "settled":
            index = hash(hold.id) & INDEX
            try:
                record = self.packer.pack(hold, entry) if index not in self.settled else None
            except Exception:  # noqa: BLE001  # whatever it is: what was charged is never lost by how it is kept
                record = None
            if record is None:
                MemoryBooks.put_resolved(self, hold)
            else:
                self.settled[index] = line = record
                del self.holds[hold.id]
        self.ledger.setdefault(entry.account, []).append(line)

    def prune(self, now: float, before: float, most: int) -> bool:
        """See :class:`MemoryBooks`."""
        more = MemoryBooks.prune(self, now, before, most)
        oldest = islice(self.settled.items(), most)
        old = [index for index, _ in takewhile(lambda each: packed.record(each[1]).resolved < before, oldest)]
        for index in old:
            del self.settled[index]
        return more or len(old) == most

    def lines(self, account_id: str, after: int = 0, most: int | None = None) -> Sequence[Entry]:
        """See :class:`MemoryBooks`."""
        lines = self.ledger.get(account_id, [])[after : None if most is None else after + most]
        return [self._entry(line) for line in lines]

    def of_hold(self, account_id: str, hold_id: str) -> list[Entry]:
        """See :class:`MemoryBooks`."""
        own = packed.begins(hold_id)
        lines = self.ledger.get(account_id, ())
        return [
            self._entry(line)
            for line in lines
            if (line.startswith(own) if isinstance(line, bytes) else line.hold == hold_id)
        ]

    def _figures(self, account_id: str) -> list[tuple[int, int, bool]]:
        return [
            (line.seq, line.amount, line.line == "resolution") if isinstance(line, Entry) else packed.figures(line)
            for line in self.ledger.get(account_id, ())
        ]

    def put_resolved(self, hold: Hold) -> None:
        """See :class:`MemoryBooks`."""
        if hold.state != "settled":  # else its line is about to make a record of it
            MemoryBooks.put_resolved(self, hold)

    def _entry(self, line: bytes | Entry) -> Entry:
        return self.packer.entry(line) if isinstance(line, bytes) else line
