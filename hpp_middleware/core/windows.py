"""
Token buckets, in whole numbers: the specification that every limit store agrees with.

A window holds ``room`` units and gets ``refill`` of them back each microsecond; one request, or one token, is ``each``
units. What is kept of it is how many units it lacked at a moment. So nothing is ever rounded: over any span of time no
more is admitted than the room, and what came back meanwhile. A correction may put a window into debt; nothing is
admitted before that is paid.

Nothing here awaits, reads a clock, or knows a store.
"""

from collections.abc import Mapping
from math import gcd

from msgspec import Struct

from hpp_middleware.types.limits import Ask, Draw, Standing

__all__ = [
    "LONGEST_US",
    "MICRO",
    "MOST_UNITS",
    "Kept",
    "Level",
    "Size",
    "drained",
    "idle_at",
    "live",
    "put",
    "size",
    "take",
    "wait_us",
]

MICRO = 10**6

MOST_UNITS = 2**53 - 1
"""Lua counts in doubles, which are exact up to here; a debt as deep as that is as deep as it gets."""

MOST_ROOM = 2**50

LONGEST_US = 600 * MICRO
"""Longer than anybody has a place without extending it."""


class Level(Struct, frozen=True, gc=False):
    """
    What is kept of a window; one that nothing is kept of is full.

    Attributes:
        used: Units that it lacked.
        at: When, in microseconds.
    """

    used: int = 0
    at: int = 0


class Size(Struct, frozen=True, gc=False):
    """Units that one costs, that come back each microsecond, and that there are when it is full."""

    each: int
    refill: int
    room: int


def size(figure: int, window_s: int, burst: int | None = None) -> Size | None:
    """
    The units of a window.

    They are those in which nothing has to be rounded, where such are small enough to be counted in; else ones in which
    the rate is a little lower than asked, by less than one part in a hundred thousand.

    Args:
        figure: How many a window.
        window_s: Its length.
        burst: How many at once; as many as in a window by default.
    Returns:
        None where no such window can be counted.
    """
    window_us = window_s * MICRO
    most = figure if burst is None else burst
    common = gcd(figure, window_us)
    each, refill = window_us // common, figure // common
    if most * each > MOST_ROOM:
        refill = MOST_ROOM * figure // (window_us * most)
        if refill < 1:
            return None
        each = -(-refill * window_us // figure)
    return Size(each, refill, most * each)


def drained(level: Level | None, draw: Draw, now: int) -> Level:
    """
    A window as it is now.

    Args:
        level: As it was; None where nothing is kept of it.
        draw: For its refill and room.
        now: Microseconds. A clock that is set back gives nothing back; but one that is set back by more than an empty
            window takes to fill begins anew: who would wait for so long?
    """
    if level is None or level.at - now > draw.room // draw.refill:
        return Level(0, now)
    return Level(max(0, level.used - max(0, now - level.at) * draw.refill), max(level.at, now))


class Kept(Struct, frozen=True, gc=False):
    """
    What is kept of all that one request asks for.

    Attributes:
        levels: Of its windows, in the order of the draws; None for a full one.
        holders: Of its places, in the order of the slots: until when each holder has one, in microseconds.
    """

    levels: tuple[Level | None, ...]
    holders: tuple[Mapping[str, int], ...]


def take(kept: Kept, ask: Ask, *, now: int) -> tuple[Standing, Kept]:
    """
    Draw from every window and take every place, or nothing.

    Args:
        kept: What is kept of them.
        ask: What is wanted.
        now: Microseconds.
    Returns:
        How it stands then, and what to keep; that is to be kept only where it was admitted.
    """
    there = [drained(level, draw, now) for level, draw in zip(kept.levels, ask.draws, strict=True)]
    after = [put(level, draw.amount) for level, draw in zip(there, ask.draws, strict=True)]
    held = [live(holders, now=now) for holders in kept.holders]
    until = now + round(ask.ttl_s * MICRO)
    taken = [{**holders, slot.holder: until} for holders, slot in zip(held, ask.slots, strict=True)]
    fits = all(level.used <= draw.room for level, draw in zip(after, ask.draws, strict=True))
    free = all(len(holders) <= slot.most for holders, slot in zip(taken, ask.slots, strict=True))
    if not (fits and free):
        after, taken = there, held
    standing = Standing(fits and free, tuple(level.used for level in after), tuple(map(len, taken)))
    return standing, Kept(tuple(after), tuple(taken))


def put(level: Level, amount: int) -> Level:
    """A window that was drained, with so many units more used; less, where they are put back."""
    return Level(min(max(0, level.used + amount), MOST_UNITS), level.at)


def live(holders: Mapping[str, int], *, now: int) -> dict[str, int]:
    """
    Those of the holders of places whose time, in microseconds, is not over.

    Nor is it when it lasts for longer than any: then the clock was set back, and, as with windows, who would wait for
    so long? Whoever still has such a place extends it.
    """
    return {holder: until for holder, until in holders.items() if now < until <= now + LONGEST_US}


def wait_us(used: int, draw: Draw) -> int:
    """Microseconds until a draw fits that did not, if nobody else draws; 0 where it fits now."""
    lacking = min(used + draw.amount, MOST_UNITS) - draw.room
    return -(-lacking // draw.refill) if lacking > 0 else 0


def idle_at(level: Level, draw: Draw) -> int:
    """When the window is full again, in microseconds: from then on nothing need be kept of it."""
    return level.at + -(-level.used // draw.refill)
