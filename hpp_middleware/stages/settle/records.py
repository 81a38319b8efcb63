"""What a slot of the journal holds: one operation, cut down to what is charged where it does not fit."""

from collections.abc import Iterator

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from hpp_middleware.stages.settle.slotfile import BODY_BYTES
from hpp_middleware.types.operations import Release, Resize, Settle

__all__ = ["Record", "fitted", "slim"]


class Record(Struct, frozen=True, omit_defaults=True):
    """
    What a slot holds.

    Attributes:
        amends: What may have to be done before the operation.
    """

    account: str
    operation: Settle | Release
    amends: Resize | None = None


def fitted(record: Record, most: int = BODY_BYTES) -> bytes:
    """A record as it stands in a slot, without what is the least needed if it does not fit with it."""
    bodies = (msgspec.json.encode(each) for each in _lesser(record))
    return next(body for body in bodies if len(body) <= most)


def _lesser(record: Record) -> Iterator[Record]:
    yield record
    operation = record.operation
    if isinstance(operation, Settle):
        report = operation.report
        for less in (
            report,  # without the kept answer
            replace(report, usage_raw=Raw(b"null")),
            replace(report, usage_raw=Raw(b"null"), attempts=report.attempts[-1:]),
            replace(report, usage_raw=Raw(b"null"), attempts=()),
        ):
            operation = replace(operation, kept=None, report=less)
            yield replace(record, operation=operation)
    yield Record("", operation)


def slim(operation: Settle | Release) -> Settle | Release:
    """What is kept for long: an answer may be large, and is no part of what is charged."""
    if isinstance(operation, Settle) and operation.kept is not None and len(operation.kept.body) > BODY_BYTES // 2:
        return replace(operation, kept=None)
    return operation
