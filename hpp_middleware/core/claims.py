"""
Idempotency keys: who has one, and what a repeat of its request is told.

A claim is placed with its hold and dies with it: where the hold was released, where its owner died,
or where the request failed and cost nothing, the key is free again.
"""

import msgspec

from hpp_middleware.types.operations import Claim, Reserve, Result, Settle
from hpp_middleware.types.quota import Claimed, Hold

__all__ = ["after", "answer", "claimed", "freed", "is_live"]


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


def after(operation: Settle, found: Claimed | None, hold: Hold, *, stored: int, now: float) -> Claimed | None:
    """
    A claim as it is to be written when its hold is charged; None where it stays as it is.

    A request that failed and cost nothing frees its key, so that it can be tried again; any other is never run again.

    Args:
        operation: What charges the hold.
        found: The claim that is kept under the hold's key.
        hold: The hold, charged.
        stored: How many bytes of answers the account has kept already.
        now: By the store's clock.
    """
    if found is None or found.hold != hold.id:
        return None  # the key was claimed anew meanwhile
    if operation.report.outcome == "failed" and operation.amount == 0:
        return freed(found, hold, now=now)
    kept = operation.kept
    if kept is None or stored + len(kept.body) > kept.most:
        return None
    return msgspec.structs.replace(found, kept=kept.body)


def freed(found: Claimed | None, hold: Hold, *, now: float) -> Claimed | None:
    """
    A claim as it is to be written when its hold, which was swept before, is given back; None where it stays as it is.

    A release alone says so by the hold's state; one that corrects a charge leaves the same as a late settlement does.
    """
    if found is None or found.hold != hold.id:
        return None  # the key was claimed anew meanwhile
    return msgspec.structs.replace(found, expires=now)
