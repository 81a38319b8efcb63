"""
What is owed to a store that did not answer: settlements, on the disk before anything else, and releases, in memory.

A settlement is written down at the first try that fails, and struck out when the store has answered it for good; what a
process leaves behind is taken over by the next one. That each is carried out once is the operations' own promise: they
are idempotent by id. :mod:`hpp_middleware.stages.reserve.lease` replays them; without a directory all is in memory.
"""

import errno
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.stages.settle.debt import Debt
from hpp_middleware.stages.settle.records import Record, fitted, slim
from hpp_middleware.stages.settle.slotfile import NewerFileError, SlotFile, abandoned, claim, free
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import Release, Resize, Settle

__all__ = ["SLOTS", "Journal", "JournalError"]

_T = TypeVar("_T")
SLOTS = 1024
MOST_RELEASES = 10_000
"""Where so many holds are to be given back, a few megabytes, nothing more is held until some are."""

MOST_TOGETHER = 32
MEND_AFTER_S = 1.0
LOOK_AFTER_S = 60.0
POISON_S, MOST_POISON_S = 5.0, 300.0
HOPELESS = 3
"""After so many misses, while others are answered, a settlement keeps no reader waiting any more."""


class JournalError(StoreError):
    """The journal is full, or cannot be written: nothing more is admitted."""


class Journal:
    """
    What one worker owes to its store.

    Args:
        directory: Where the files are; None keeps all in memory.
        slots: How many settlements it can take; no more requests than that are in flight at once.
        alarm: Told what an operator should look at.
        clock: Monotonic seconds.

    Attributes:
        writable: Whether the last attempt to write succeeded.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        slots: int = SLOTS,
        alarm: Callable[[Alarm], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slots = slots
        self.alarm = alarm
        self.writable = True
        self._directory = directory
        self._clock = clock
        self._debts: dict[str, Debt] = {}
        self._file: SlotFile | None = None
        self._others: list[SlotFile] = []
        self._free: list[int] = []
        self._struck: list[tuple[SlotFile, int]] = []
        self._together = MOST_TOGETHER
        self._mend_after = float("-inf")
        self._look_after = float("inf")
        self._refused: set[Path] = set()
        self._lock = anyio.Lock()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is owed, nor to be mended, nor to be looked for."""
        return self.is_quiet_at(self._clock())

    def is_quiet_at(self, now: float) -> bool:
        """The same, where one has looked at the clock."""
        return self.writable and not self._debts and now < self._look_after

    @property
    def owed(self) -> int:
        """How many operations wait for the store, releases among them."""
        return len(self._debts)

    @property
    def pending(self) -> int:
        """How many settlements wait for the store."""
        return sum([debt.lasting for debt in list(self._debts.values())]) if self._debts else 0

    def has_room(self, in_flight: int) -> bool:
        """Whether one more request, besides those in flight, would have a slot to fall back on, or be given back."""
        taken = self.pending
        if self._debts and len(self._debts) - taken + in_flight >= MOST_RELEASES:
            return False
        if self._file is not None:
            taken = max(taken, self.slots - len(self._free))
        return self.writable and taken + in_flight < self.slots

    def check(self) -> None:
        """
        Raise if nothing can be admitted.

        Raises:
            JournalError: It is full, or cannot be written.
        """
        if not self.has_room(0):
            raise JournalError("The settlement journal is full, or cannot be written.", headers={"Retry-After": "1"})

    async def open(self) -> None:
        """
        Take a file, and take over what processes that are gone have left; once.

        Raises:
            StoreError: There can be no file.
            ConfigurationError: A later release has left one, which only that can read.
        """
        directory = self._directory
        if directory is None or self._file is not None:
            return
        with anyio.CancelScope(shield=True):
            try:
                self._file = await _in_thread(lambda: claim(directory, self.slots))
                self._others = await self._abandoned(directory)
                for each in [self._file, *self._others]:
                    self._take_over(each, *await _in_thread(each.read))
                await self._tidy()
            except OSError as error:
                self._tell(f"cannot be opened: {_reason(error)}")
                self.close()
                raise StoreError("The settlement journal cannot be opened.") from error
            except NewerFileError as error:
                self._tell(f"cannot be opened: {error}")
                self.close()
                raise ConfigurationError(f"The settlement journal cannot be opened: {error}.") from error
        self._look_after = self._clock() + LOOK_AFTER_S
        self._free = self._unused(self._file)

    def close(self) -> None:
        """Give the files up, with what they hold."""
        for each in [self._file, *self._others]:
            if each is not None:
                each.close()
        self._file, self._others = None, []
        self._look_after = float("inf")
        self._debts = {hold_id: debt for hold_id, debt in self._debts.items() if not debt.places}

    async def keep(self, operation: Settle | Release, account: str, amends: Resize | None = None) -> None:
        """
        Write an operation down, unless it is; on return it is on the disk, or the alarm was raised.

        It is the caller's to try until :meth:`leave` or :meth:`strike`.
        """
        debt = self._debts.get(operation.id)
        if debt is None:
            debt = self._debts[operation.id] = Debt(slim(operation), account, lasting=True, amends=amends)
        debt.busy = True
        if not debt.written:
            await self.write()

    def leave(self, hold_id: str) -> None:
        """The caller of :meth:`keep` tries no more: it is replayed."""
        if hold_id in self._debts:
            self._debts[hold_id].busy = False

    def owe(self, operation: Settle | Release, account: str = "", amends: Resize | None = None) -> None:
        """
        Remember an operation without waiting.

        A settlement is written down with the next one; a release stays in memory until :meth:`leave_all`. None is left
        to the sweeper, who would charge it: admission stops before there are too many.
        """
        lasting = isinstance(operation, Settle)
        if operation.id not in self._debts:
            self._debts[operation.id] = Debt(slim(operation), account, lasting=lasting, amends=amends)

    def owes(self, account: str) -> bool:
        """Whether something is owed that an account's figures lack; what was missed again and again does not count."""
        return any(debt.account == account and debt.misses < HOPELESS for debt in self._debts.values())

    def due(self, account: str | None = None) -> list[Debt]:
        """
        What to replay next: a bounded number, or one alone that failed alone before.

        Args:
            account: All that is owed for it, instead, though somebody is trying it.
        """
        if account is not None:
            return [debt for debt in self._debts.values() if debt.account == account and debt.misses < HOPELESS]
        now = self._clock()
        ready = [debt for debt in self._debts.values() if not debt.busy and debt.after <= now]
        return [debt for debt in ready if not debt.misses][: self._together] or ready[:1]

    def blame(self, debts: Sequence[Debt]) -> None:
        """The store answers, but not to these: fewer the next time; one that is alone is put off for longer."""
        self._together = max(1, min(self._together, len(debts)) // 2)
        debt = debts[0]
        if len(debts) == 1 and debt.after <= self._clock():
            debt.after = self._clock() + min(POISON_S * 2**debt.misses, MOST_POISON_S)
            debt.misses += 1
            if debt.misses == 1:
                detail = "the store answers, but not to this one; it is tried again from time to time"
                self.alarm(Alarm(kind="settle_failed", request_id=debt.operation.id, detail=detail))

    def praise(self) -> None:
        """The store has answered to a replay: more the next time."""
        self._together = min(MOST_TOGETHER, self._together * 2)

    async def strike(self, hold_ids: Iterable[str]) -> None:
        """Strike out what the store has answered for good."""
        debts = [self._debts.pop(hold_id) for hold_id in hold_ids if hold_id in self._debts]
        if not any(debt.places for debt in debts):
            return
        with anyio.CancelScope(shield=True):
            async with self._lock:
                self._struck += [place for debt in debts for place in debt.places]
                try:
                    await self._clear()
                except OSError as error:
                    self._failed(error)

    async def write(self) -> None:
        """Write down what is not on the disk; where that fails, the alarm is raised and admission stops."""
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if waiting := self._unwritten():
                    await self._write(waiting)

    async def leave_all(self) -> None:
        """Write down all that is owed, for whoever comes next: releases too, as far as there are slots."""
        for debt in self._debts.values():
            debt.lasting = True
        await self.write()

    async def _clear(self) -> None:
        """Free the places of what was struck out; those that the disk refuses stay taken, until it takes that too."""
        if places := list(self._struck):
            await _in_thread(lambda: free(places))
            self._struck.clear()
            self._free += [n for place, n in places if place is self._file and n < self.slots]
            await self._tidy()

    async def mend(self) -> None:
        """Where writing has failed, see from time to time whether it works again."""
        if self.writable or self._clock() < self._mend_after:
            return
        self._mend_after = self._clock() + MEND_AFTER_S
        with anyio.CancelScope(shield=True):
            async with self._lock:
                await self._write(self._unwritten())

    async def look(self) -> None:
        """From time to time, take over what processes have left that died since this one began."""
        directory = self._directory
        if directory is None or self._clock() < self._look_after:
            return
        self._look_after = self._clock() + LOOK_AFTER_S
        with anyio.CancelScope(shield=True), suppress(OSError):
            async with self._lock:
                if await self._lost():
                    await self._write(self._unwritten())
                self._others += await self._abandoned(directory)
                known = {place for debt in self._debts.values() for place, _ in debt.places}
                for each in [other for other in self._others if other not in known]:
                    await self._adopt(each)
                await self._tidy()

    async def _adopt(self, file: SlotFile) -> None:
        try:
            self._take_over(file, *await _in_thread(file.read))
        except (OSError, NewerFileError) as error:
            self._others.remove(file)
            file.close()
            self._passed_over(file.path, error)

    async def _abandoned(self, directory: Path) -> list[SlotFile]:
        """The files of the dead; of those that are not ours to open, another user's, somebody is to hear."""
        refused: dict[Path, OSError] = {}
        found = await _in_thread(lambda: list(abandoned(directory, refused.__setitem__)))
        for why in refused.items():
            self._passed_over(*why)
        return found

    def _passed_over(self, path: Path, error: Exception) -> None:
        if path not in self._refused:
            self._tell(f"{path.name} cannot be taken over: {_reason(error)}")
        self._refused.add(path)

    async def _lost(self) -> list[SlotFile]:
        """The files that somebody has removed: what is in them nobody would find."""
        files = [*self._others, self._file]
        return await _in_thread(lambda: [each for each in files if each is not None and each.is_lost()])

    async def _replace(self, directory: Path, lost: SlotFile) -> None:
        """Do without a file that was removed; what was in it is to be written down anew."""
        if lost is self._file:
            own = await _in_thread(lambda: claim(directory, self.slots))
            try:
                self._take_over(own, *await _in_thread(own.read))
            except (NewerFileError, OSError) as error:
                own.close()
                raise OSError(errno.EBUSY, str(error)) from error
            self._file, self._free = own, self._unused(own)
        else:
            self._others.remove(lost)
        self._struck = [place for place in self._struck if place[0] is not lost]
        for debt in self._debts.values():
            debt.leave(lost)
        lost.close()
        self._tell(f"{lost.path.name} was removed; what it held is written down anew")

    def _tell(self, detail: str) -> None:
        self.alarm(Alarm(kind="journal", request_id="", detail=detail))

    def _unwritten(self) -> list[Debt]:
        return [debt for debt in self._debts.values() if debt.lasting and not debt.written]

    def _unused(self, file: SlotFile | None) -> list[int]:
        used = {number for debt in self._debts.values() for place, number in debt.places if place is file}
        return [number for number in range(self.slots) if number not in used]

    async def _write(self, waiting: Sequence[Debt]) -> None:
        try:
            if self._directory is not None:
                for lost in await self._lost():
                    await self._replace(self._directory, lost)
                    waiting = self._unwritten()
                await self._clear()
                await self._write_down(self._file, waiting)
            for debt in waiting:
                debt.written = True
            self.writable = True
        except OSError as error:
            self._failed(error)

    async def _write_down(self, file: SlotFile | None, waiting: Sequence[Debt]) -> None:
        if file is None:
            raise OSError(errno.EBADF, "the journal is closed")
        for debt in waiting:
            if not debt.places and self._free:
                debt.places = [(file, self._free.pop(0))]
        placed = [debt for debt in waiting if debt.places]
        bodies = {debt.places[0][1]: fitted(Record(debt.account, debt.operation, debt.amends)) for debt in placed}
        if bodies:
            await _in_thread(lambda: file.write(bodies))
        else:  # only to see whether it works
            await _in_thread(lambda: file.clear(self._free[:1], sync=True))
        for debt in placed:
            debt.written = True
        if len(placed) < len(waiting):
            raise OSError(errno.ENOSPC, "there is no free slot")

    def _failed(self, error: OSError) -> None:
        if self.writable:
            self._tell(f"cannot be written: {_reason(error)}")
        self.writable = False
        self._mend_after = self._clock() + MEND_AFTER_S

    def _take_over(self, file: SlotFile, bodies: dict[int, bytes], torn: list[int]) -> None:
        for number, body in bodies.items():
            try:
                record = msgspec.json.decode(body, type=Record)
            except msgspec.MsgspecError:
                torn.append(number)
                continue
            owed = Debt(record.operation, record.account, lasting=True, amends=record.amends)
            debt = self._debts.setdefault(record.operation.id, owed)
            debt.written = True
            debt.places.append((file, number))
        for number in torn:
            self._tell(f"{file.path.name}: slot {number} is torn")

    async def _tidy(self) -> None:
        """Remove the files that were taken over and hold nothing any more."""
        in_use = {place.path for debt in self._debts.values() for place, _ in debt.places}
        for each in [other for other in self._others if other.path not in in_use]:
            self._others.remove(each)
            await _in_thread(each.remove)


async def _in_thread(work: Callable[[], _T]) -> _T:
    # With a limiter of its own: a host may keep all the threads of the common one busy.
    return await anyio.to_thread.run_sync(work, limiter=anyio.CapacityLimiter(1))


def _reason(error: Exception) -> str:
    return str(error) if not isinstance(error, OSError) else errno.errorcode.get(error.errno or 0, type(error).__name__)
