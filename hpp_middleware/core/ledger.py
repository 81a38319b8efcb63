"""
The ledger's arithmetic: a line's canonical bytes, the chain over them, and what makes a line right.

An account's chain begins with its name and goes on over every line; whoever has the key can compute it again from the
lines alone. Each key has a chain of its own from the first line on, so that a change of keys is no break.
"""

import hmac
import json
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import price
from hpp_middleware.types.quota import Entry, Statement

__all__ = [
    "OVERDUE_S",
    "ROW_VERSION",
    "SHORTEST_KEY",
    "Finding",
    "Walk",
    "canonical",
    "compared",
    "extend",
    "key_id",
    "recomputed",
    "start",
]

ROW_VERSION = 1
"""What lines are written as; a line of a later version cannot be judged by this one."""

SHORTEST_KEY = 32
"""A seal's key has at least this many bytes."""


OVERDUE_S = 60.0
"""For so long a live hold may outlast its deadline; whoever reads or reserves sweeps every five seconds."""


class Finding(NamedTuple):
    """
    Something that is wrong with an account's books.

    Attributes:
        account: Whose.
        kind: One word for what; see the documentation.
        detail: Numbers of lines, ids and amounts.
    """

    account: str
    kind: str
    detail: str


def canonical(entry: Entry) -> bytes:
    """
    A line as bytes: the same wherever it was kept, whatever the order in which its members were written.

    Compact JSON with sorted keys. What has its default is left out, so that a member which a later release adds leaves
    older lines as they were. Amounts are integers, and a float is the string that Python's ``repr`` gives.

    Raises:
        ValueError: The line is of a later version.
    """
    if not 1 <= entry.draft.row_version <= ROW_VERSION:
        raise ValueError(f"row version {entry.draft.row_version}")
    members = _members(entry) | {"created": repr(float(entry.created))}
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def start(key: bytes, account: str) -> bytes:
    """The chain of an account that has no lines."""
    return hmac.digest(key, b"hpp-ledger-1\0" + account.encode("utf-8", "surrogatepass"), "sha256")


def extend(key: bytes, mac: bytes, line: bytes) -> bytes:
    """The chain with one more line, in canonical bytes."""
    return hmac.digest(key, mac + len(line).to_bytes(8, "big") + line, "sha256")


def key_id(key: bytes) -> str:
    """What a seal calls its key: enough to tell keys apart, and nothing to guess one by."""
    return hmac.digest(key, b"hpp-ledger-key", "sha256")[:8].hex()


def recomputed(entry: Entry) -> int | None:
    """
    What the whole request costs by this line alone: its usage at its prices.

    None where the amount is an estimate: then it lies between nothing and what was held, or what was reported so far.
    """
    if entry.report.estimated:
        return None
    if _several(entry):
        return _reported(entry)
    return price.cost(entry.report.usage, entry.draft.price)


class Walk:
    """
    An account's lines, fed in order: what is wrong with them, and what they add up to.

    Args:
        account: Whose.
    """

    def __init__(self, account: str) -> None:
        self.seq = 0
        self.lines = 0
        self.charged = 0
        self.resolutions = 0
        self.tokens = 0
        self._account = account
        self._seen: set[str] = set()
        self._orphans: dict[str, int] = {}  # what the sweeper charged, until a correction speaks
        self._resolved: Entry | None = None  # the line before, where it is a resolution
        self._exceeded = False  # whether its overage must come next

    def feed(self, entry: Entry) -> list[Finding]:
        """What is wrong with the next line."""
        found = [*self._place(entry), *self._name(entry), *self._amount(entry)]
        self.lines += 1
        self.charged += entry.amount
        self.resolutions += entry.line == "resolution"
        self.tokens += entry.report.usage.total if entry.line != "overage" else 0
        self.seq = max(self.seq, entry.seq)
        return [Finding(self._account, kind, detail) for kind, detail in found]

    def close(self) -> list[Finding]:
        """What is wrong in that no line follows."""
        return [Finding(self._account, kind, detail) for kind, detail in self._overdue()]

    def _place(self, entry: Entry) -> list[tuple[str, str]]:
        due = self.seq + 1
        if entry.account != self._account:
            return [("misplaced", f"line {due} belongs to another account")]
        if entry.seq > due:
            return [("missing", f"{_range(due, entry.seq - 1)}")]
        if entry.seq < due:
            return [("order", f"line {entry.seq} stands where line {due} was due")]
        return []

    def _name(self, entry: Entry) -> list[tuple[str, str]]:
        found = []
        if entry.id != (entry.hold if entry.line == "resolution" else f"{entry.hold}:{entry.line}"):
            found.append(("id", f"line {entry.seq} is called {entry.id}, but is the {entry.line} of {entry.hold}"))
        if entry.id in self._seen:
            found.append(("twice", f"line {entry.seq} charges {entry.id} once more"))
        if not 1 <= entry.draft.row_version <= ROW_VERSION:
            found.append(("version", f"line {entry.seq} is of row version {entry.draft.row_version}"))
        self._seen.add(entry.id)
        return found

    def _amount(self, entry: Entry) -> list[tuple[str, str]]:
        check = {"resolution": self._resolution, "overage": self._overage, "correction": self._correction}
        found = [] if entry.line == "overage" else self._overdue()
        return [*found, *(("amount", f"line {entry.seq} {said}") for said in check[entry.line](entry))]

    def _resolution(self, entry: Entry) -> list[str]:
        cost = recomputed(entry)
        if entry.report.outcome == "orphaned":
            self._orphans[entry.hold] = entry.amount
        self._resolved = entry
        if cost is None:
            return _within(entry.amount, entry.held)
        self._exceeded = cost > entry.held
        return _is(entry.amount, min(cost, entry.held))

    def _overage(self, entry: Entry) -> list[str]:
        before, self._resolved, self._exceeded = self._resolved, None, False
        if before is None or (before.hold, before.held, before.amount) != (entry.hold, entry.held, entry.held):
            return [f"is an overage of {entry.amount}, which no resolution before it calls for"]
        cost = recomputed(entry)
        if cost is None:
            return _within(entry.held + entry.amount, _most(entry))
        return _is(entry.amount, cost - entry.held)

    def _correction(self, entry: Entry) -> list[str]:
        before = self._orphans.pop(entry.hold, None)
        if before is None:
            return [f"corrects {entry.hold}, which no sweeper has charged"]
        cost = recomputed(entry)
        return _within(before + entry.amount, _most(entry)) if cost is None else _is(before + entry.amount, cost)

    def _overdue(self) -> list[tuple[str, str]]:
        """A resolution that comes to more than its hold, and whose overage should have been next."""
        before, self._resolved = self._resolved, None
        exceeded, self._exceeded = self._exceeded, False
        if before is None or not exceeded:
            return []
        return [("overage", f"line {before.seq} exceeds its hold, and no overage follows")]


def compared(statement: Statement, walk: Walk) -> list[Finding]:
    """Where an account, the sums of its rows, and its lines read one by one, do not agree."""
    account = statement.account
    pairs: list[tuple[str, int, str, int, str]] = [
        ("quota", account.quota, "the account's", statement.granted + account.declared, "granted and declared"),
        ("held", account.held, "the account's", statement.held, "in live holds"),
        ("settled", account.settled, "the account's", statement.charged, "in the ledger"),
        ("charged", statement.charged, "in the ledger's sum", walk.charged, "in its lines"),
        ("seq", account.seq, "the account's", statement.seq, "the last line's"),
        ("lines", statement.seq, "the last line's number", statement.lines, "lines"),
        ("lines", statement.lines, "lines counted", walk.lines, "lines read"),
        ("requests", account.requests, "the account's", statement.resolutions, "resolutions"),
        ("requests", statement.resolutions, "resolutions counted", walk.resolutions, "resolutions read"),
        ("tokens", account.tokens, "the account's", walk.tokens, "in its lines"),
    ]
    found = [
        Finding(account.id, kind, f"{one} {what}, {other} {where}")
        for kind, one, what, other, where in pairs
        if one != other
    ]
    if statement.overdue:
        said = f"{statement.overdue} live holds should have expired more than {OVERDUE_S:.0f} s ago"
        found.append(Finding(account.id, "overdue", said))
    return found


def _range(first: int, last: int) -> str:
    return f"line {first}" if first == last else f"lines {first} to {last}"


def _is(amount: int, due: int) -> list[str]:
    return [] if amount == due else [f"comes to {amount} nano-dollars; by its usage and prices it is {due}"]


def _within(amount: int, most: int) -> list[str]:
    return [] if 0 <= amount <= most else [f"comes to {amount} nano-dollars, an estimate; at most it is {most}"]


def _most(entry: Entry) -> int:
    """
    What an estimate is never above: the hold, or what had been reported of an answer that was then cut short. Of
    several calls, each has its own price: a report may exceed the hold of its own call only.
    """
    if _several(entry):
        return entry.held + _reported(entry)
    return max(entry.held, price.cost(entry.report.usage, entry.draft.price))


def _several(entry: Entry) -> bool:
    """Whether there were several calls, each of which has its own price."""
    return any(each.price is not None for each in entry.report.attempts)


def _reported(entry: Entry) -> int:
    """What the reports of several calls come to, each rounded by itself."""
    return sum(price.cost(each.usage, each.price) for each in entry.report.attempts if each.usage and each.price)


def _members(value: Struct) -> dict[str, Any]:
    """What differs from its default."""
    found = ((name, getattr(value, name), default) for name, default in _defaults(type(value)))
    return {name: _plain(given) for name, given, default in found if given != default}


@cache
def _defaults(kind: type[Struct]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.default) for field in msgspec.structs.fields(kind))


def _plain(value: Any) -> Any:
    if isinstance(value, Struct):
        return _members(value)
    if isinstance(value, Raw):
        return _parsed(bytes(value))
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return repr(value) if isinstance(value, float) else value


def _parsed(raw: bytes) -> Any:
    """JSON whose fractions stay as they were written; or the text of what is none."""
    try:
        return json.loads(raw, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError):
        return raw.decode("utf-8", "backslashreplace")


def _number(text: str) -> dict[str, str]:
    return {"number": text}
