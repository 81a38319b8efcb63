"""
Idempotency keys: who has one, and what a repeat of its request is told.

A claim is placed with its hold and dies with it: where the hold was released, or its owner died, the key is free again.
"""

from hpp_middleware.types.operations import Claim, Kept, Reserve, Result
from hpp_middleware.types.quota import Claimed, Hold

__all__ = ["answer", "claimed", "is_live", "keep"]


def is_live(found: Claimed, hold: Hold | None, *, now: float) -> bool:
    """Whether a claim still stands: its hold lives, or was settled and the answer is not out of date."""
    if hold is not None and hold.state == "held":
        return True
    died = hold is not None and hold.state in {"released", "expired"}
    return not died and now < found.expires


def answer(operation: Reserve, claim: Claim, found: Claimed | None, hold: Hold | None, *, now: float) -> Result | None:
    """
    What a reserve is told whose key another hold has; None where the key is free.

    Args:
        operation: The reserve.
        claim: Its claim.
        found: The claim that is kept under this key.
        hold: The hold which that one was placed with.
        now: By the store's clock.
    """
    if found is None or not is_live(found, hold, now=now):
        return None
    if found.fingerprint != claim.fingerprint:
        return Result(id=operation.id, status="mismatch", hold=found.hold)
    if hold is not None and hold.state == "held":
        return Result(id=operation.id, status="running", hold=found.hold)
    return Result(id=operation.id, status="finished", hold=found.hold, kept=found.kept)


def claimed(claim: Claim, hold: Hold, *, now: float) -> Claimed:
    """What is kept of a claim whose hold was placed."""
    return Claimed(
        key=claim.key,
        fingerprint=claim.fingerprint,
        hold=hold.id,
        account=hold.accounts[0],
        expires=now + claim.ttl_s,
    )


def keep(kept: Kept, found: Claimed | None, hold: Hold, *, stored: int) -> bool:
    """
    Whether an answer is kept.

    Args:
        kept: The answer.
        found: The claim that its hold was placed with.
        hold: The hold.
        stored: How many bytes the account has kept already.
    """
    return found is not None and found.hold == hold.id and found.kept is None and stored + len(kept.body) <= kept.most
