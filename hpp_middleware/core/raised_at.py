"""Where a foreign error was raised: what a log may say of it, since its text may hold anything."""

from collections.abc import Iterator
from itertools import takewhile
from types import TracebackType

__all__ = ["raised_at", "root"]

DEEPEST = 20

_OURS = "hpp_middleware"


def raised_at(error: BaseException) -> str:
    """
    Where an error was raised, and, where that lies deeper, which function of a host's was called: by file, line, name.

    Empty for an error that was never raised.
    """
    frames = list(_frames(error.__traceback__))
    if not frames:
        return ""
    theirs = list(takewhile(_is_foreign, reversed(frames)))  # the deepest first, up to the last one of ours
    called = f", called from {_where(theirs[-1])}" if len(theirs) > 1 else ""
    return f" at {_where(frames[-1])}{called}"


def root(error: BaseException) -> BaseException:
    """What an error was raised from, in the first place."""
    for _ in range(DEEPEST):  # a host may have raised one from itself
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    """From where it was caught inwards."""
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_foreign(trace: TracebackType) -> bool:
    module = str(trace.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] != _OURS


def _where(trace: TracebackType) -> str:
    code = trace.tb_frame.f_code
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{trace.tb_lineno} ({code.co_qualname})"
