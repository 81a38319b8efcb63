"""The books of a store that lives in memory, or in a file of your own: dicts, as one struct that msgspec can encode."""

from collections.abc import Iterable

from msgspec import Struct, field

from hpp_middleware.core import quota
from hpp_middleware.core.ledger import OVERDUE_S
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Account, Claimed, Entry, Hold, Seal, Statement

__all__ = ["MemoryBooks"]


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

    def granted(self, grant_id: str) -> int | None:
        """The amount granted under an id."""
        grant = self.grants.get(grant_id)
        return grant.amount if grant is not None else None

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
            return
        self.live.discard(hold.id)
        self.resolved.pop(hold.id, None)  # so that a corrected one is the newest again
        self.resolved[hold.id] = hold.resolved or 0.0

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
        for hold_id, resolved in list(self.resolved.items())[:most]:
            if resolved >= before:
                break
            del self.resolved[hold_id], self.holds[hold_id]
        owners = {self.holds[hold_id].owner for hold_id in self.live}
        for owner, until in list(self.leases.items()):
            if until < before and owner not in owners:
                del self.leases[owner]
        for key, claim in list(self.claims.items())[:most]:
            if claim.expires <= now and claim.hold not in self.live:
                self._drop_claim(key)
        return most in (known[0] - len(self.holds), known[1] - len(self.claims))

    def statement(self, account_id: str, now: float) -> Statement:
        """What an auditor compares."""
        lines = self.entries.get(account_id, ())
        live = [hold for hold_id in self.live if account_id in (hold := self.holds[hold_id]).accounts]
        return Statement(
            account=self.account(account_id) or Account(id=account_id),
            granted=sum(grant.amount for grant in self.grants.values() if grant.account == account_id),
            held=sum(hold.amount for hold in live),
            charged=sum(entry.amount for entry in lines),
            lines=len(lines),
            seq=max((entry.seq for entry in lines), default=0),
            resolutions=sum(entry.line == "resolution" for entry in lines),
            overdue=sum(hold.deadline < now - OVERDUE_S for hold in live),
        )

    def _drop_claim(self, key: str) -> None:
        claim = self.claims.pop(key, None)
        if claim is not None:
            self._count(claim, -1)

    def _count(self, claim: Claimed, sign: int) -> None:
        if claim.kept:
            self.keeping[claim.account] = self.keeping.get(claim.account, 0) + sign * len(claim.kept)
