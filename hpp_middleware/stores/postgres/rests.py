"""Upstreams that are left alone: a row each, by the server's clock."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hpp_middleware.types.health import Rest

__all__ = ["share"]

# The rows in an order, so that two workers that write the same ones do not wait for each other for ever.
_TELL = """
    INSERT INTO hpp_rest
        SELECT t.key, t.model, t.for_s + coalesce($4::float8, extract(epoch FROM clock_timestamp()))
        FROM unnest($1::text[], $2::text[], $3::float8[]) AS t (key, model, for_s) ORDER BY t.key, t.model
        ON CONFLICT (key, model) DO UPDATE SET until = excluded.until
"""
_FORGET = """
    DELETE FROM hpp_rest WHERE (key, model) IN (
        SELECT key, model FROM hpp_rest
        WHERE until < coalesce($1::float8, extract(epoch FROM clock_timestamp())) FOR UPDATE SKIP LOCKED)
"""
_ASK = """
    SELECT key, model, until - coalesce($1::float8, extract(epoch FROM clock_timestamp())) AS for_s FROM hpp_rest
    WHERE until > coalesce($1::float8, extract(epoch FROM clock_timestamp()))
"""


async def share(fetch: Callable[..., Awaitable[Sequence[Any]]], now: float | None, rests: Sequence[Rest]) -> list[Rest]:
    """
    Tell, and be told.

    Args:
        fetch: Runs a statement.
        now: Seconds since the epoch; None for the server's own clock.
        rests: What there is to tell.
    """
    if rests:
        await fetch(_FORGET, now)
        await fetch(_TELL, [each.key for each in rests], [each.model for each in rests], [e.for_s for e in rests], now)
    return [Rest(row["key"], row["model"], for_s=float(row["for_s"])) for row in await fetch(_ASK, now)]
