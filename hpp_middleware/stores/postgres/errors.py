"""What PostgreSQL and its driver say, and what that means for a caller."""

import asyncpg

from hpp_middleware.errors import StoreError

__all__ = ["AGAIN", "DATA", "LOST", "UNDONE", "UNUSABLE", "unavailable"]

AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
"""Undone by the server because somebody else was quicker: the same again, at once."""

LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.ReadOnlySQLTransactionError,  # a session stays what it began as, though its server was made a primary
)
"""The connection is no good any more; on a new one it may well go. What is sent here may be sent twice."""

UNDONE = (asyncpg.InvalidCachedStatementError, asyncpg.ReadOnlySQLTransactionError)
"""Of these the server has said that it has not done it."""

DATA = (
    ValueError,  # no UTF-8, or a value that the driver cannot encode
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)
"""This cannot be kept, and nothing of it was; the database is well."""

UNUSABLE = (*LOST, asyncpg.PostgresError, TimeoutError)
"""All else that the driver raises."""


def unavailable() -> StoreError:
    """Nothing is known; what the server said stays in the exception's cause."""
    return StoreError("The database cannot be used at the moment.")
