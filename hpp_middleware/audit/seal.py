"""
The sealer: outside the settling transaction, it chains the lines that were written since its last pass.

What is found wrong on the way is not sealed, so that no seal ever covers up for an altered line.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import anyio
import msgspec
from msgspec import Struct

from hpp_middleware.audit.heads import Heads
from hpp_middleware.core import ledger
from hpp_middleware.core.ledger import Finding
from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.ports import Audit, Ledger
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.quota import Entry, Seal

__all__ = ["Audited", "Sealed", "Sealer", "Sealing", "unreadable"]

PAGE = 200
"""Lines read in one go: their HMACs take a few milliseconds, in which nothing else runs in this event loop."""


@runtime_checkable
class Audited(Ledger, Audit, Protocol):
    """A store whose ledger can be read, sealed and checked."""


class Sealing(Struct, frozen=True, kw_only=True):
    """
    How a ledger is sealed.

    Attributes:
        key: What seals are made with; at least 32 bytes, and not kept in the database.
        previous: Keys that older seals were made with.
        heads: The file that the chains' heads are written to; None for none.
        every_s: How often a gateway that a lifespan has opened makes a pass.
    """

    key: bytes
    previous: tuple[bytes, ...] = ()
    heads: Path | None = None
    every_s: float = 60.0

    def __post_init__(self) -> None:
        for name, key in (("seal_key", self.key), *(("previous_seal_keys", key) for key in self.previous)):
            if len(key) < ledger.SHORTEST_KEY:
                text = f"ledger.{name} must have at least {ledger.SHORTEST_KEY} bytes"
                raise ConfigurationError(text, param=f"ledger.{name}")
        if not self.every_s > 0:
            raise ConfigurationError("ledger.seal_every_s must be above 0", param="ledger.seal_every_s")

    @property
    def keys(self) -> dict[str, bytes]:
        """All keys by their ids."""
        return {ledger.key_id(key): key for key in (*self.previous, self.key)}

    def __repr__(self) -> str:
        return f"Sealing(heads={self.heads!r}, every_s={self.every_s!r})"  # keys are never shown


class Sealed(NamedTuple):
    """What a pass has done: how many accounts it sealed, and what kept it from others."""

    seals: int
    findings: tuple[Finding, ...]


class Sealer:
    """
    Seals one ledger.

    Args:
        store: Whose lines are sealed, and where seals are kept.
        sealing: With what.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: Audited, sealing: Sealing, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._key = sealing.key
        self._id = ledger.key_id(sealing.key)
        self._keys: Mapping[str, bytes] = sealing.keys
        self._every_s = sealing.every_s
        self._heads = Heads(sealing.heads) if sealing.heads is not None else None
        self._last: dict[str, Seal] = {}

    async def keep(self, alarm: Callable[[Alarm], None]) -> None:
        """Make passes until cancelled; what goes wrong is told, and tried again at the next turn."""
        while True:
            await anyio.sleep(self._every_s)
            try:
                done = await self.seal(wait=False)
            except Exception as error:  # noqa: BLE001  # a pass that fails must not take the gateway with it
                ours = error.message if isinstance(error, StoreError) else type(error).__name__
                alarm(Alarm(kind="seal_failed", request_id="", detail=ours))
                continue
            for finding in done.findings:
                told = f"{finding.account}: {finding.kind}: {finding.detail}"
                alarm(Alarm(kind="ledger", request_id="", detail=told))

    async def seal(self, *, wait: bool = True) -> Sealed:
        """
        One pass over all accounts.

        Args:
            wait: Wait while another process of this host makes a pass; else leave it to that one.
        Raises:
            StoreError: The store, or the heads file, failed; the next pass goes on from there.
        """
        if self._heads is None:
            return await self._pass()
        async with self._heads.claimed(wait=wait) as mine:
            if not mine:
                return Sealed(0, ())
            done = await self._pass()
            known = self._heads.known.heads
            news = [seal for seal in self._last.values() if known.get(seal.account, {}).get(seal.key) != seal]
            if news:
                await self._heads.append(news, created=self._clock())
            return done

    async def _pass(self) -> Sealed:
        count, after = 0, ""
        findings: list[Finding] = []
        exported = dict(self._heads.known.heads) if self._heads is not None else {}
        while accounts := await self._store.accounts(after):
            made: list[Seal] = []
            for account in accounts:
                try:
                    found = await self._sealed(account, _furthest(exported.pop(account, {})))
                except StoreError as error:
                    found = unreadable(account, error)
                if isinstance(found, Finding):
                    findings.append(found)
                elif found is not None:
                    made.append(found)
            added, refused = await self._add(made)
            count += added
            findings += refused
            after = accounts[-1]
        gone = [(name, head) for name, heads in exported.items() if (head := _furthest(heads)) is not None]
        findings += [_lost(name, 0, head) for name, head in gone]
        return Sealed(count, tuple(findings))

    async def _sealed(self, account: str, head: Seal | None = None) -> Seal | Finding | None:
        """
        The account's next seal; None where there are no new lines.

        Args:
            account: Whose lines.
            head: The furthest that was exported of it.
        """
        mine = self._last.get(account)
        last = mine or await self._latest(account)
        after = last.seq if last is not None else 0
        page = await self._store.lines(
            account, max(after - 1, 0), 2
        )  # the last that was sealed, and the first that is new
        is_new = bool(page) and page[-1].seq > after
        if mine is None or is_new or not page:
            set_back = await self._set_back(account, last, mine or head)
            if set_back is not None:
                return set_back
        if last is not None:
            self._last[account] = last
        if not is_new:
            return None
        if last is None or last.key == self._id:
            begin = bytes.fromhex(last.mac) if last is not None else ledger.start(self._key, account)
            return await self._chained(account, last.seq if last is not None else 0, begin)
        # The key has changed: its chain begins at the first line, and what was sealed before must be as it was.
        if last.key not in self._keys:
            return Finding(account, "key", f"line {last.seq} is sealed by {last.key}, a key that is not configured")
        return await self._chained(account, 0, ledger.start(self._key, account), older=last)

    async def _chained(self, account: str, seq: int, mac: bytes, *, older: Seal | None = None) -> Seal | Finding:
        check = ledger.start(self._keys[older.key], account) if older is not None else b""
        while page := await self._store.lines(account, seq, PAGE):
            for entry in page:
                line = _line(entry, account, seq + 1)
                if isinstance(line, Finding):
                    return line
                mac, seq = ledger.extend(self._key, mac, line), entry.seq
                if older is not None and seq <= older.seq:
                    check = ledger.extend(self._keys[older.key], check, line)
                    if seq == older.seq and check.hex() != older.mac:
                        return Finding(account, "seal", f"lines 1 to {seq} are not what was sealed at line {seq}")
        return Seal(account=account, seq=seq, mac=mac.hex(), key=self._id, created=self._clock())

    async def _set_back(self, account: str, last: Seal | None, head: Seal | None) -> Finding | None:
        """
        That the ledger is an older copy than one that was here before; None where it is not.

        To seal on would hide that: the new chain would soon be longer than the one that was exported.
        """
        if head is None:
            return None
        if last is None or last.seq < head.seq:
            return _lost(account, last.seq if last is not None else 0, head)
        found = await self._store.seals(account, head.seq - 1, 1)
        if found and (found[0].seq, found[0].mac) == (head.seq, head.mac):
            return None
        return _lost(account, head.seq - 1, head)

    async def _latest(self, account: str) -> Seal | None:
        """The account's last seal, in steps that double and halve: there may be very many."""
        last: Seal | None = None
        step = 0
        while True:
            found = await self._store.seals(account, (last.seq if last is not None else 0) + step, 1)
            if found:
                last, step = found[0], step * 2 + 1
            elif step:
                step //= 2
            else:
                return last

    async def _add(self, made: Sequence[Seal]) -> tuple[int, list[Finding]]:
        """Keep the seals; another host may have sealed the same lines with another key meanwhile, again and again."""
        findings: list[Finding] = []
        while True:
            try:
                await self._store.add_seals(made)
            except StoreError:
                others = [(seal, other) for seal in made if (other := await self._other(seal)) is not None]
                if not others:
                    raise
            else:
                self._last.update((seal.account, seal) for seal in made)
                return len(made), findings
            for seal, other in others:
                self._last.pop(seal.account, None)
                if other.key == seal.key:
                    findings.append(Finding(seal.account, "seal", f"line {seal.seq} is sealed otherwise"))
            taken = [seal for seal, _ in others]
            made = [seal for seal in made if seal not in taken]

    async def _other(self, seal: Seal) -> Seal | None:
        """Another seal at this place."""
        found = await self._store.seals(seal.account, seal.seq - 1, 1)
        return found[0] if found and found[0].seq == seal.seq and found[0].mac != seal.mac else None


def unreadable(account: str, error: StoreError) -> Finding:
    """
    That the lines or holds of an account cannot be read, which is no other account's affair.

    Raises:
        StoreError: It is something else.
    """
    if not isinstance(error.__cause__, msgspec.DecodeError):
        raise error
    return Finding(account, "unreadable", "something in its lines or holds is none")


def _furthest(heads: Mapping[str, Seal]) -> Seal | None:
    """Of an account's exported heads, one for each key."""
    return max(heads.values(), key=lambda head: head.seq, default=None)


def _lost(account: str, seq: int, head: Seal) -> Finding:
    lines = f"line {head.seq} was" if head.seq == seq + 1 else f"lines {seq + 1} to {head.seq} were"
    return Finding(account, "head", f"{lines} sealed, and that seal is gone: these are older books; nothing is sealed")


def _line(entry: Entry, account: str, due: int) -> bytes | Finding:
    if (entry.account, entry.seq) != (account, due):
        return Finding(account, "missing", f"line {due}; line {entry.seq} stands there")
    try:
        return ledger.canonical(entry)
    except ValueError as error:
        return Finding(account, "version", f"line {entry.seq}: {error}")
