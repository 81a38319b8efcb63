"""The ledger as text: JSON lines for machines that check, CSV for spreadsheets that sum."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, TextIO

import msgspec

from hpp_middleware.audit import Audited
from hpp_middleware.core import ledger
from hpp_middleware.core import price as pricing
from hpp_middleware.types.auto import Routed
from hpp_middleware.types.price import Usage
from hpp_middleware.types.quota import Entry, Seal

__all__ = ["COLUMNS", "Export"]

PAGE = 1000
COLUMNS = (
    *("id", "account", "seq", "class", "created", "consumer", "key_id", "model", "requested_model", "outcome"),
    *("estimated", *Usage.__struct_fields__, "amount_usd", "client_request_id"),
    *("basket", "rule", "tier", "rules_version", "score", "reason"),
)
"""A later release adds columns at the end only."""


class Export:
    """
    Writes lines out.

    Args:
        store: Whose.
        file: Where to.
        form: ``jsonl``: ``{"line": ..., "seal": ...}``, the line in its canonical bytes, so that the chain can be
            computed again from the file; ``csv``: the columns above.
    """

    def __init__(self, store: Audited, file: TextIO, form: Literal["jsonl", "csv"]) -> None:
        self._store = store
        self._file = file
        self._csv = csv.writer(file, lineterminator="\n") if form == "csv" else None

    async def run(self, accounts: Sequence[str], after: int) -> None:
        """Write the lines of these accounts with a number above ``after``."""
        if self._csv is not None:
            self._csv.writerow(COLUMNS)
        for account in accounts:
            await self._account(account, after)

    async def _account(self, account: str, after: int) -> None:
        while page := await self._store.lines(account, after, PAGE):
            last = max(after + len(page), page[-1].seq)
            if self._csv is not None:
                self._csv.writerows(map(_row, page))
            else:
                seals = {seal.seq: seal for seal in await self._store.seals(account, after, PAGE) if seal.seq <= last}
                self._file.writelines(_json(entry, seals.get(entry.seq)) for entry in page)
            after = last


def _json(entry: Entry, seal: Seal | None) -> str:
    sealed = "" if seal is None else ',"seal":' + msgspec.json.encode({"key": seal.key, "mac": seal.mac}).decode()
    return f'{{"line":{ledger.canonical(entry).decode()}{sealed}}}\n'


def _row(entry: Entry) -> list[str]:
    draft, report = entry.draft, entry.report
    return [
        _text(entry.id),
        _text(entry.account),
        str(entry.seq),
        entry.line,
        datetime.fromtimestamp(entry.created, UTC).isoformat(),
        _text(draft.consumer),
        _text(draft.key_id or ""),
        _text(draft.model),
        _text(draft.requested_model),
        report.outcome,
        str(report.estimated).lower(),
        *(str(getattr(report.usage, name)) for name in Usage.__struct_fields__),
        pricing.dollars(entry.amount),
        _text(draft.client_request_id or ""),
        *_routed(draft.routed),
    ]


def _routed(routed: Routed | None) -> list[str]:
    if routed is None:
        return [""] * 6
    score = "" if routed.score is None else repr(routed.score)
    told = (routed.basket, routed.rule, routed.tier or "", routed.version)
    return [*map(_text, told), score, _text(routed.reason)]


def _text(value: str) -> str:
    """What a spreadsheet would take for a formula gets an apostrophe in front: clients choose some of these texts."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
