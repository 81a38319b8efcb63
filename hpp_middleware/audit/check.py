"""
The checks: lines against their seals and exported heads (``verify``), and against sums and holds (``reconcile``).

They run beside live traffic: a ledger is only appended to, so that what is read up to a line stays as it is; and what
looks wrong is looked at once more before it is said.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import anyio

from hpp_middleware.audit.heads import Known
from hpp_middleware.audit.seal import PAGE, Audited, unreadable
from hpp_middleware.audit.shares import Shares
from hpp_middleware.core import ledger
from hpp_middleware.core.ledger import Finding, Walk
from hpp_middleware.core.quota import KEEP_RESOLVED_S
from hpp_middleware.errors import StoreError
from hpp_middleware.types.quota import Entry, Hold, Seal

__all__ = ["Auditor", "Checked"]

AGAIN_S = 0.25
"""After this long, what looked wrong is looked at again."""

REMEMBERED_S = KEEP_RESOLVED_S - 86_400
"""A hold that was resolved more recently is still known, whatever a day does to clocks."""


class Checked(NamedTuple):
    """
    What a check of one account has found.

    Attributes:
        lines: How many lines it has.
        sealed: Up to which line they are under a seal that was checked.
    """

    account: str
    lines: int
    sealed: int
    findings: tuple[Finding, ...]


class Auditor:
    """
    Checks one store's books.

    Args:
        store: Whose.
        keys: The seals' keys, by their ids; without them seals are not checked.
        known: What the heads file says.
        holds: Whether the store keeps holds; False for an archive, where lines are moved without them.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: Audited,
        *,
        keys: Mapping[str, bytes] | None = None,
        known: Known | None = None,
        holds: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._keys = dict(keys or {})
        self._heads = known.heads if known is not None else {}
        self._keeps_holds = holds
        self._clock = clock
        self._shares = Shares(store)

    async def accounts(self) -> list[str]:
        """All that can be checked: the store's accounts, and those that only the heads file remembers."""
        found, after = set(self._heads), ""
        while page := await self._store.accounts(after):
            found.update(page)
            after = page[-1]
        return sorted(found)

    async def verify(self, account: str) -> Checked:
        """Whether an account's lines are what was sealed."""
        return await _twice(account, lambda: _Chains(self._store, account, self._keys, self._mine(account)).check())

    async def reconcile(self, account: str) -> Checked:
        """Whether an account, its lines, its grants and its holds agree."""
        return await _twice(account, lambda: self._reconcile(account))

    async def shared(self, checked: Checked) -> Checked:
        """
        What is found once all accounts were looked at: one that is above payers, or is a budget, is charged with lines
        that are theirs. An archive has the lines only, and nothing to compare them with.
        """
        differs = any(finding.kind == "settled" for finding in checked.findings)
        if not self._keeps_holds or not (differs or self._shares.names(checked.account)):
            return checked
        left = [finding for finding in checked.findings if finding.kind != "settled"]
        return checked._replace(findings=(*left, *await self._shares.compare(checked.account)))

    def _mine(self, account: str) -> Mapping[str, Seal]:
        return self._heads.get(account, {})

    async def _reconcile(self, account: str) -> Checked:
        statement = await self._store.statement(account)
        walk = Walk(account)
        findings: list[Finding] = []
        last = max(statement.seq, statement.account.seq)
        after = 0
        while after < last and (page := await self._store.lines(account, after, min(PAGE, last - after))):
            for entry in page:
                findings += walk.feed(entry)
            self._shares.feed(page)
            if self._keeps_holds:
                findings += await self._holds(account, page)
            after += len(page)
        findings += [*walk.close(), *ledger.compared(statement, walk)]
        return Checked(account, walk.lines, 0, tuple(findings))

    async def _holds(self, account: str, page: Sequence[Entry]) -> list[Finding]:
        """Whether what these lines resolved is known, and was charged what its lines come to."""
        sums: Counter[str] = Counter()
        for entry in page:
            sums[entry.hold] += entry.amount
        known = {hold.id: hold for hold in await self._store.holds(list(sums))}
        since = self._clock() - REMEMBERED_S
        findings = [
            Finding(account, "hold", f"{entry.hold} of line {entry.seq} is not known")
            for entry in page
            if entry.hold not in known and entry.created > since
        ]
        also = {entry.hold: entry.draft.also for entry in page}
        for hold in known.values():
            if hold.accounts[:1] == (account,) and hold.accounts[1:] != also[hold.id]:
                said = f"{hold.id} is held in {list(hold.accounts[1:])} besides, its line names {list(also[hold.id])}"
                findings.append(Finding(account, "hold", said))
            if hold.charged != sums[hold.id] or account not in hold.accounts[:1] or hold.state in {"held", "released"}:
                findings += await self._hold(account, hold.id)
        return findings

    async def _hold(self, account: str, hold_id: str) -> list[Finding]:
        """One hold and all its lines, read until nothing came between."""
        while True:
            before = await self._store.holds([hold_id])
            lines = await self._store.entries(account, hold_id)
            if before == await self._store.holds([hold_id]):
                return [Finding(account, "hold", said) for hold in before for said in _judged(account, hold, lines)]


def _judged(account: str, hold: Hold, lines: Sequence[Entry]) -> list[str]:
    charged = sum(line.amount for line in lines)
    found = []
    if hold.accounts[:1] != (account,):
        found.append(f"{hold.id} is charged to {account}, but another account holds for it")
    if hold.state in {"held", "released"}:
        found.append(f"{hold.id} is {hold.state}, and has {len(lines)} lines")
    elif hold.charged != charged:
        found.append(f"{hold.id} was charged {hold.charged} nano-dollars, its lines come to {charged}")
    return found


class _Chains:
    """One account's lines, beside the chains of all keys, its seals, and its exported heads."""

    def __init__(self, store: Audited, account: str, keys: Mapping[str, bytes], heads: Mapping[str, Seal]) -> None:
        self._store = store
        self._account = account
        self._keys = keys
        self._macs = {name: ledger.start(key, account) for name, key in keys.items()}
        self._heads = sorted(heads.values(), key=lambda head: head.seq)
        self._seals: list[Seal] = []  # those read and not yet reached
        self._read = 0
        self._good = 0
        self._strange: Seal | None = None
        self._broken = False
        self._findings: list[Finding] = []

    async def check(self) -> Checked:
        """All of it."""
        walk = Walk(self._account)
        await self._more_seals()
        after = 0
        while page := await self._store.lines(self._account, after, PAGE):
            for entry in page:
                self._findings += walk.feed(entry)
                self._extend(entry)
                await self._compare(entry.seq)
            after = max(after + len(page), walk.seq)
        self._findings += walk.close()
        await self._lost(walk)
        if self._keys and self._strange is not None and self._strange.seq > self._good and not self._broken:
            self._find(
                "key", f"line {self._strange.seq} is sealed by {self._strange.key}, a key that is not configured"
            )
        return Checked(self._account, walk.lines, self._good, tuple(self._findings))

    def _extend(self, entry: Entry) -> None:
        try:
            line = ledger.canonical(entry)
        except ValueError:
            self._broken = True  # the walk has said so
            return
        for name, key in self._keys.items():
            self._macs[name] = ledger.extend(key, self._macs[name], line)

    async def _compare(self, seq: int) -> None:
        """Seals and heads that were taken after this line."""
        while True:
            if not self._seals:
                await self._more_seals()
            if not self._seals or self._seals[0].seq > seq:
                break
            self._judge(self._seals.pop(0), seq, "sealed")
        while self._heads and self._heads[0].seq <= seq:
            self._judge(self._heads.pop(0), seq, "exported as the head")

    def _judge(self, seal: Seal, seq: int, said: str) -> None:
        if not self._keys or self._broken:
            return
        if seal.key not in self._keys:
            self._strange = seal
        elif seal.seq == seq and self._macs[seal.key].hex() == seal.mac:
            self._good = seq
        else:
            self._broken = True
            first, last = self._good + 1, seal.seq
            where = f"line {first} is" if first == last else f"lines {first} to {last} are"
            self._find("seal" if said == "sealed" else "head", f"{where} not what was {said} at line {last}")

    async def _lost(self, walk: Walk) -> None:
        """Lines that a seal or a head remembers, and the ledger does not."""
        if not self._seals:
            await self._more_seals()
        if not self._seals and not self._heads:
            return
        if await self._store.lines(self._account, walk.seq, 1):
            return  # they were written, and sealed, while the others were read
        last = max(seal.seq for seal in (*self._seals, *self._heads))
        kind = "missing" if self._seals else "head"
        said = "were sealed" if self._seals else "were exported"
        self._find(kind, f"lines {walk.seq + 1} to {last} {said}, and are not there")

    async def _more_seals(self) -> None:
        self._seals = await self._store.seals(self._account, self._read, PAGE)
        if self._seals:
            self._read = self._seals[-1].seq

    def _find(self, kind: str, detail: str) -> None:
        self._findings.append(Finding(self._account, kind, detail))


async def _twice(account: str, check: Callable[[], Awaitable[Checked]]) -> Checked:
    """What is still wrong at a second look."""
    found = await _looked(account, check)
    if found.findings:
        await anyio.sleep(AGAIN_S)
        found = await _looked(account, check)
    return found


async def _looked(account: str, check: Callable[[], Awaitable[Checked]]) -> Checked:
    try:
        return await check()
    except StoreError as error:
        return Checked(account, 0, 0, (unreadable(account, error),))
