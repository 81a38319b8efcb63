"""
Rows that a bug, an operator's hand or another version has damaged: what can still be carried out of them.

Nothing here awaits, reads a clock, or knows a store.
"""

from collections.abc import Sequence

from hpp_middleware.types.quota import Account, Hold

__all__ = ["MOST_COUNTED", "is_sound"]

MOST_COUNTED = 2**62 - 1
"""As far as stores count: there is room behind it for one amount more."""


def is_sound(hold: Hold, accounts: Sequence[Account], *, most: int) -> bool:
    """
    Whether a live hold can be resolved: it has what a line is written of, and its accounts hold what it has.

    Args:
        hold: The hold.
        accounts: Those it is in.
        most: The largest amount that there can be.
    """
    if hold.draft is None or not accounts or not 0 <= hold.amount <= most:
        return False
    return all(each.held >= hold.amount and _is_counted(each) for each in accounts)


def _is_counted(account: Account) -> bool:
    return max(abs(account.settled), account.seq, account.requests, account.tokens) <= MOST_COUNTED
