"""
What the lines of payers come to in other accounts: those above them, and budgets.

An account's charges are the sum of its own lines, and of all lines that name it. The lines of several accounts are in
no one snapshot; so they are compared at a moment at which nothing was charged between one look and the next.
"""

from collections import Counter
from collections.abc import Iterable

import anyio

from hpp_middleware.audit.seal import PAGE, Audited
from hpp_middleware.core.ledger import Finding
from hpp_middleware.types.quota import Entry

__all__ = ["Shares"]

TRIES = 40
PAUSE_S = 0.05
"""An account that is charged so often that no two looks are the same is not compared."""


class Shares:
    """
    Sums over the lines of all payers.

    Args:
        store: Whose lines.
    """

    def __init__(self, store: Audited) -> None:
        self._store = store
        self._sums: Counter[str] = Counter()
        self._read: dict[str, int] = {}  # up to which line of each payer

    def feed(self, lines: Iterable[Entry]) -> None:
        """Add lines of a payer, in order; one that was added before changes nothing."""
        for line in lines:
            if line.seq > self._read.get(line.account, 0):
                self._read[line.account] = line.seq
                for name in line.draft.also:
                    self._sums[name] += line.share(name)

    def names(self, account: str) -> bool:
        """Whether a line that was read names an account besides its own."""
        return account in self._sums

    async def compare(self, account: str) -> list[Finding]:
        """Whether an account's charges are the lines of its own, and those that name it."""
        for turn in range(TRIES):
            if turn:
                await anyio.sleep(PAUSE_S)
            before = await self._store.statement(account)
            await self._catch_up()
            after = await self._store.statement(account)
            if (before.account.settled, before.charged) != (after.account.settled, after.charged):
                continue
            due = after.charged + self._sums[account]
            if after.account.settled == due:
                return []
            said = f"{after.account.settled} the account's, {due} in the ledger's lines that name it"
            return [Finding(account, "settled", said)]
        return []

    async def _catch_up(self) -> None:
        """Read what was written since the last time, of every payer."""
        after = ""
        while names := await self._store.accounts(after):
            for name in names:
                while page := await self._store.lines(name, self._read.get(name, 0), PAGE):
                    self.feed(page)
            after = names[-1]
