"""
The conformance suites of the store ports: what a backend of your own can be held to.

Plain asserts, so that any runner can use them; each message is the promise that it checks. ::

    async def make(*, clock=time.time):
        return MyStore(new_place(), clock=clock)

    await check_quota_store(make)

``make`` returns a fresh and empty store each time; ``open()`` and ``aclose()`` are called where it has them. Where it
takes ``clock``, a function that returns seconds since the epoch, the store goes by it, and nothing waits for leases to
run out; without, the suite waits some seconds in all. The ``*_PROMISES`` name every promise by itself, to be run one by
one: ``await promise(make)``.
"""

from hpp_middleware.testing.stores import (
    auditing,
    budgeting,
    claiming,
    credentials,
    expiring,
    granting,
    ledger,
    limiting,
    reserving,
    resizing,
    settling,
    telling,
)
from hpp_middleware.testing.stores.bench import Make, Promise
from hpp_middleware.testing.stores.limit_processes import check_shared_limits
from hpp_middleware.testing.stores.processes import check_crashes, check_shared_store

__all__ = [
    "AUDIT_PROMISES",
    "CREDENTIAL_PROMISES",
    "LEDGER_PROMISES",
    "LIMIT_PROMISES",
    "QUOTA_PROMISES",
    "STORE_PROMISES",
    "Make",
    "Promise",
    "check_audit",
    "check_crashes",
    "check_credential_store",
    "check_ledger",
    "check_limits",
    "check_quota_store",
    "check_shared_limits",
    "check_shared_store",
    "check_store",
]

QUOTA_PROMISES = (
    *reserving.PROMISES,
    *resizing.PROMISES,
    *budgeting.PROMISES,
    *settling.PROMISES,
    *telling.PROMISES,
    *claiming.PROMISES,
    *granting.PROMISES,
    *expiring.PROMISES,
)
AUDIT_PROMISES = auditing.PROMISES
LEDGER_PROMISES = ledger.PROMISES
LIMIT_PROMISES = limiting.PROMISES
CREDENTIAL_PROMISES = credentials.PROMISES
STORE_PROMISES = (*QUOTA_PROMISES, *LEDGER_PROMISES, *CREDENTIAL_PROMISES)


async def check_quota_store(make: Make) -> None:
    """Hold a :class:`~hpp_middleware.ports.QuotaStore` to every promise."""
    for promise in QUOTA_PROMISES:
        await promise(make)


async def check_ledger(make: Make) -> None:
    """Hold a :class:`~hpp_middleware.ports.Ledger`, which is its own quota store, to every promise."""
    for promise in LEDGER_PROMISES:
        await promise(make)


async def check_credential_store(make: Make) -> None:
    """Hold a :class:`~hpp_middleware.ports.CredentialStore` to every promise."""
    for promise in CREDENTIAL_PROMISES:
        await promise(make)


async def check_limits(make: Make) -> None:
    """Hold a :class:`~hpp_middleware.ports.LimitStore` to every promise."""
    for promise in LIMIT_PROMISES:
        await promise(make)


async def check_audit(make: Make) -> None:
    """Hold an :class:`~hpp_middleware.ports.Audit`, which is a quota store too, to every promise."""
    for promise in AUDIT_PROMISES:
        await promise(make)


async def check_store(make: Make) -> None:
    """Hold a :class:`~hpp_middleware.ports.Store` to every promise of the three."""
    for promise in STORE_PROMISES:
        await promise(make)
