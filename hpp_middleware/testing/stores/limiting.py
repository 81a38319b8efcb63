"""What a limit store promises: windows, places for requests at once, and time."""

import random
from typing import Any

import anyio

from hpp_middleware.core import windows
from hpp_middleware.ports import LimitStore
from hpp_middleware.testing.stores.bench import Bench, Promise, promise
from hpp_middleware.types.limits import Ask, Draw, Slot, Standing

__all__ = ["EACH", "PROMISES", "ask", "draw", "slot"]

EACH = 125_000
"""Units that one costs here: with a refill of 1, one comes back in an eighth of a second."""

EIGHTH_S = 0.125


def draw(amount: int, most: int = 10, *, key: str = "w", refill: int = 1, each: int = EACH) -> Draw:
    """So many from a window of ten."""
    return Draw(key, amount * each, refill, most * each)


def slot(holder: str, most: int = 2, *, key: str = "p") -> Slot:
    """One of two places."""
    return Slot(key, most, holder)


def ask(*wanted: Draw | Slot, home: str = "alice", ttl_s: float = 60.0) -> Ask:
    """What one request asks."""
    draws = tuple(each for each in wanted if isinstance(each, Draw))
    return Ask(home, draws, tuple(each for each in wanted if isinstance(each, Slot)), ttl_s)


async def _admitted(store: LimitStore, *wanted: Draw | Slot, **more: Any) -> bool:
    return (await store.take(ask(*wanted, **more))).admitted


@promise
async def a_window_is_full_at_first_and_gives_what_it_has(bench: Bench[Any]) -> None:
    slow = draw(4, each=10**10)
    first = await bench.store.take(ask(slow))
    assert first == Standing(admitted=True, used=(slow.amount,), busy=()), "a new window lacks what is drawn"
    second = await bench.store.take(ask(draw(6, each=10**10)))
    assert second.admitted, "all that a window has can be drawn"
    third = await bench.store.take(ask(draw(1, each=10**10)))
    assert not third.admitted, "and no more"
    assert 9 * 10**10 < third.used[0] <= 10 * 10**10, "a refusal tells what the window lacks, and draws nothing"
    larger = await bench.store.take(ask(draw(11, each=10**10, key="another")))
    assert (larger.admitted, larger.used) == (False, (0,)), "more than a window holds is never there"


@promise
async def what_is_asked_together_is_taken_together_or_not_at_all(bench: Bench[Any]) -> None:
    wide, narrow = draw(1, 100, key="wide", each=10**10), draw(1, 1, key="narrow", each=10**10)
    assert await _admitted(bench.store, wide, narrow, slot("a")), "what fits everywhere is taken"
    refused = await bench.store.take(ask(wide, narrow, slot("b")))
    assert not refused.admitted, "what does not fit in one of the windows is refused"
    assert refused.busy == (1,), "and then it has no place"
    assert await _admitted(bench.store, slot("b")), "which another may have"
    full = await bench.store.take(ask(wide, slot("c")))
    assert (full.admitted, full.busy) == (False, (2,)), "nor is anything taken where no place is free"
    after = await bench.store.take(ask(wide))
    assert 10**10 < after.used[0] <= 2 * 10**10, "a refusal has drawn from no window"


@promise
async def a_window_fills_again_steadily(bench: Bench[Any]) -> None:
    assert await _admitted(bench.store, draw(10)), "a new window is full"
    await bench.wait(3 * EIGHTH_S)
    assert await _admitted(bench.store, draw(3)), "what is drawn comes back by the store's own time"
    if bench.has_clock:
        assert not await _admitted(bench.store, draw(1)), "and no sooner"
        await bench.wait(EIGHTH_S - 0.00002)
        assert not await _admitted(bench.store, draw(1)), "and no sooner"
    await bench.wait(11 * EIGHTH_S)
    standing = await bench.store.take(ask(draw(10)))
    assert standing == Standing(admitted=True, used=(10 * EACH,), busy=()), "up to what the window holds"
    assert not bench.has_clock or not await _admitted(bench.store, draw(1)), "and never more"


@promise
async def a_correction_is_drawn_and_put_back_whatever_there_is(bench: Bench[Any]) -> None:
    each = 10**10
    assert await _admitted(bench.store, draw(5, each=each)), "a new window is full"
    await bench.store.correct(ask(draw(-4, each=each)))
    standing = await bench.store.take(ask(draw(9, each=each)))
    assert standing.admitted, "what is put back can be drawn again"
    assert 10 * each - 10**9 < standing.used[0] <= 10 * each, "and no more than that"
    await bench.store.correct(ask(draw(20, each=each)))
    refused = await bench.store.take(ask(draw(0, each=each)))
    assert not refused.admitted, "a window in debt admits nothing"
    assert 30 * each - 10**9 < refused.used[0] <= 30 * each, "a correction draws more than there is"
    await bench.store.correct(ask(draw(-1000, each=each)))
    standing = await bench.store.take(ask(draw(10, each=each)))
    assert standing == Standing(admitted=True, used=(10 * each,), busy=()), "a window is never fuller than full"
    await bench.store.correct(ask(draw(3, key="new", each=each)))
    standing = await bench.store.take(ask(draw(1, key="new", each=each)))
    assert 4 * each - 10**9 < standing.used[0] <= 4 * each, "a window that nothing is kept of is corrected, too"


@promise
async def places_are_given_to_as_many_as_there_are(bench: Bench[Any]) -> None:
    taken = [await bench.store.take(ask(slot(holder))) for holder in "abac"]
    assert [standing.admitted for standing in taken] == [True, True, True, False], "a holder has one place, not two"
    assert [standing.busy for standing in taken] == [(1,), (2,), (2,), (2,)], "it is told how many are taken"
    await bench.store.correct(ask(slot("a")))
    await bench.store.correct(ask(slot("a"), slot("nobody")))
    assert await _admitted(bench.store, slot("c")), "a place that was given back is free"
    assert not await _admitted(bench.store, slot("d")), "once, however often it is given back"
    assert await _admitted(bench.store, slot("d", 3)), "how many there are is for the ask to say"


@promise
async def a_place_comes_back_when_its_time_is_over(bench: Bench[Any]) -> None:
    assert await _admitted(bench.store, slot("a", 1), ttl_s=0.5), "a free place is taken"
    assert not await _admitted(bench.store, slot("b", 1), ttl_s=0.5), "and is taken then"
    await bench.wait(0.3)
    await bench.store.extend([ask(slot("a", 1), ttl_s=0.8), ask(slot("b", 1), home="bob", ttl_s=0.8)])
    await bench.wait(0.3)
    assert not await _admitted(bench.store, slot("b", 1), ttl_s=0.5), "one that is extended is held for longer"
    assert await _admitted(bench.store, slot("c", 1), home="bob"), "what nobody holds is not taken by being extended"
    await bench.wait(0.6)
    assert await _admitted(bench.store, slot("b", 1), ttl_s=60), "one whose time is over is free"
    await bench.store.correct(ask(slot("b", 1)))
    await bench.store.extend([ask(slot("b", 1))])
    assert await _admitted(bench.store, slot("d", 1)), "one that was given back is not taken by being extended"
    await bench.store.extend([])


@promise
async def homes_and_keys_are_kept_apart(bench: Bench[Any]) -> None:
    homes = [
        "alice",
        "alice:w",
        "al",
        "",
        "{alice}",
        "a}lice",
        "a\N{LATIN SMALL LETTER E WITH ACUTE}'\"\\%_*",
        "x" * 900,
    ]
    for home in homes:
        for key in ("w", "w:w", "{w}", "w\nkey"):
            wanted = (draw(1, 1, key=key, each=10**10), slot("h", 1, key=f"p{key}"))
            assert await _admitted(bench.store, *wanted, home=home), "each home has each window, and place, of its own"
            assert not await _admitted(bench.store, wanted[0], home=home), "and its own alone"
            assert not await _admitted(bench.store, slot("i", 1, key=f"p{key}"), home=home), "and its own alone"


@promise
async def large_figures_are_exact(bench: Bench[Any]) -> None:
    room = 2**50
    wanted = Draw("large", room - 1, 1, room)
    if not bench.has_clock:
        return  # it fills while we look
    assert (await bench.store.take(ask(wanted))).used == (room - 1,), "units are counted one by one"
    assert not (await bench.store.take(ask(Draw("large", 2, 1, room)))).admitted, "units are counted one by one"
    assert (await bench.store.take(ask(Draw("large", 1, 1, room)))).used == (room,), "units are counted one by one"
    await bench.store.correct(ask(Draw("large", windows.MOST_UNITS - 1, 1, room)))
    deep = await bench.store.take(ask(Draw("large", 0, 1, room)))
    assert deep.used == (windows.MOST_UNITS,), "a debt stops where doubles stop being exact"
    await bench.wait(10**7)
    paid = await bench.store.take(ask(Draw("large", 0, 1, room)))
    assert paid.used == (windows.MOST_UNITS - 10**13,), "units are counted one by one"
    fast = Draw("fast", 2**40, 2**40, 2**50)
    assert (await bench.store.take(ask(fast))).admitted, "a window that fills in a moment can be counted"
    await bench.wait(10**8)
    assert (await bench.store.take(ask(fast))).used == (2**40,), "and after a long time"


@promise
async def many_at_once_get_no_more_than_there_is(bench: Bench[Any]) -> None:
    admitted: list[bool] = []

    async def one(number: int) -> None:
        wanted = (draw(1, 10, key="race", each=10**12), slot(f"h{number}", 30))
        admitted.append(await _admitted(bench.store, *wanted))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(one, number)
    assert sum(admitted) == 10, "requests that race get no more than there is"


@promise
async def a_clock_that_is_set_back_gives_nothing(bench: Bench[Any]) -> None:
    if not bench.has_clock:
        return
    assert await _admitted(bench.store, draw(10)), "a new window is full"
    await bench.wait(-5 * EIGHTH_S)
    assert not await _admitted(bench.store, draw(1)), "a clock that is set back gives nothing back"
    await bench.wait(5 * EIGHTH_S)
    assert not await _admitted(bench.store, draw(1)), "nor does it when it is where it was"
    await bench.wait(-3600)
    assert await _admitted(bench.store, draw(10)), "one that is set back by more than a window begins anew"
    assert not await _admitted(bench.store, draw(1)), "with what it has then"
    await bench.wait(EIGHTH_S)
    assert await _admitted(bench.store, draw(1)), "and goes on from there"


@promise
async def a_place_outlasts_no_clock_that_is_set_back(bench: Bench[Any]) -> None:
    if not bench.has_clock:
        return
    for holder in ("died", "lives"):
        assert await _admitted(bench.store, slot(holder)), "a free place is taken"
    await bench.wait(-50)
    assert not await _admitted(bench.store, slot("a")), "a clock that is set back a little frees no place"
    await bench.wait(50 - 3600)
    await bench.store.extend([ask(slot("lives"))])
    assert await _admitted(bench.store, slot("a")), "one that is set back by much frees the places of the dead"
    assert not await _admitted(bench.store, slot("b")), "but not those that are extended"


@promise
async def every_answer_is_the_specifications(bench: Bench[Any]) -> None:
    if not bench.has_clock:
        return
    chance = random.Random(7521983)  # the same program each time
    kept: dict[str, windows.Level | None] = {}
    holders: dict[str, dict[str, int]] = {}
    seconds = 1_750_000_000.0
    sizes = {"a": (1, 10**6), "b": (7, 10**6 + 1), "c": (1000, 10**9)}
    for _ in range(150):
        pause = chance.choice([0, 0, 2**-17, 2**-10, 0.125, 3])  # which floats add up exactly
        await bench.wait(pause)
        seconds += pause
        now = int(seconds * windows.MICRO)
        keys = chance.sample(sorted(sizes), chance.randint(0, 3))
        wanted = [Draw(key, chance.randint(0, sizes[key][1] // 3), *sizes[key]) for key in keys]
        places = [Slot(key, 3, chance.choice("wxyz")) for key in chance.sample("pq", chance.randint(0, 2))]
        asked = Ask("alice", tuple(wanted), tuple(places), chance.choice([0.001, 1.0]))
        before = windows.Kept(
            tuple(kept.get(each.key) for each in wanted), tuple(holders.get(place.key, {}) for place in places)
        )
        if chance.random() < 0.6:
            standing, after = windows.take(before, asked, now=now)
            assert await bench.store.take(asked) == standing, "a store decides as core.windows does"
            if standing.admitted:
                kept.update(zip(keys, after.levels, strict=True))
                holders.update((place.key, dict(there)) for place, there in zip(places, after.holders, strict=True))
            continue
        for each in wanted:
            kept[each.key] = windows.put(windows.drained(kept.get(each.key), each, now), -each.amount // 2)
        for place in places:
            holders.get(place.key, {}).pop(place.holder, None)
        changes = tuple(Draw(each.key, -each.amount // 2, each.refill, each.room) for each in wanted)
        await bench.store.correct(Ask("alice", changes, tuple(places), 1.0))


PROMISES: tuple[Promise, ...] = (
    a_window_is_full_at_first_and_gives_what_it_has,
    what_is_asked_together_is_taken_together_or_not_at_all,
    a_window_fills_again_steadily,
    a_correction_is_drawn_and_put_back_whatever_there_is,
    places_are_given_to_as_many_as_there_are,
    a_place_comes_back_when_its_time_is_over,
    homes_and_keys_are_kept_apart,
    large_figures_are_exact,
    many_at_once_get_no_more_than_there_is,
    a_clock_that_is_set_back_gives_nothing,
    a_place_outlasts_no_clock_that_is_set_back,
    every_answer_is_the_specifications,
)
