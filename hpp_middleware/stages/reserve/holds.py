"""Take room before spending: the last act before the upstream. What cannot be verified is refused, 503."""

from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

import anyio

from hpp_middleware.core import ceilings, replay
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.errors import GatewayError, StoreError
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.types.operations import Release, Reserve, Result

__all__ = ["give_back", "place", "unavailable", "verified"]

_T = TypeVar("_T")
RESERVE_S = 10.0


def unavailable() -> StoreError:
    """The one message for every fault of a store; its own text stays here."""
    return StoreError("Quota cannot be verified at the moment; nothing was forwarded.", headers={"Retry-After": "1"})


async def place(lease: Lease, operation: Reserve, scope: Scope | None = None) -> Result:
    """
    Place a hold.

    Args:
        lease: The worker's.
        operation: What to reserve.
        scope: What it is to be in, for the words of a refusal.
    Returns:
        ``done`` with what was granted, in nano-dollars; or ``finished``: nothing was placed, since a request with the
        same idempotency key has been answered.
    Raises:
        RequestError: 429 ``insufficient_quota``: it does not fit; where a budget says which model is to be asked
            instead, it is an :class:`~hpp_middleware.core.ceilings.OverBudget`. 409: its idempotency key is in use.
        StoreError: 503: it is not known whether it was placed; it has been given back as far as possible.
    """
    try:
        for renew in (False, True):
            # Where the lease does not hold now, it is renewed in the same step: it is the one after that which covers.
            term = lease.term if lease.holds else None
            result = await lease.answer(operation, renew=renew, within_s=RESERVE_S)
            if result.status != "fenced":
                break  # else we slept past our lease: renewed, we are as good as new, for this is not placed yet
    except StoreError as error:
        await give_back(lease, operation.id)
        raise unavailable() from error
    except BaseException:  # cancelled by force: whether it was placed is not known
        await give_back(lease, operation.id)
        raise
    if result.status == "done":
        if lease.covers(lease.term if term is None else term):
            return result
        await give_back(lease, operation.id)
        raise unavailable()
    if result.status == "finished":
        return result
    raise _refusal(result, scope)


def _refusal(result: Result, scope: Scope | None) -> GatewayError:
    """Why nothing was placed."""
    if result.status == "refused":
        return ceilings.refusal(result.short, scope)
    if result.status in {"running", "mismatch"}:
        return replay.conflict(result.status)
    return unavailable()


async def give_back(lease: Lease, hold_id: str) -> None:
    """Release a hold that was not forwarded; while the store does not answer, it is owed."""
    release = Release(id=hold_id)
    given_back = False
    try:
        with anyio.move_on_after(2, shield=True), suppress(StoreError):
            await lease.apply([release])
            given_back = True
    finally:
        if not given_back:  # cancelled by force meanwhile, too
            lease.owe(release)


async def verified(answer: Awaitable[_T]) -> _T:
    """
    What a backend answers to a read.

    Raises:
        StoreError: It failed in whatever way, or is not there in time.
    """
    try:
        with anyio.fail_after(RESERVE_S):
            return await answer
    except Exception as error:
        raise unavailable() from error
