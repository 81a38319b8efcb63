"""Where something foreign was raised: what a log may say of it, since its text may hold anything."""

from collections.abc import Iterator
from types import CodeType, TracebackType

__all__ = ["place", "root"]

DEEPEST = 20

_OURS = "hpp_middleware"


def place(error: BaseException) -> str:
    """
    Where an error was raised, and, where that lies deeper, which function of a host's was called: by file, line, name.

    Empty for an error that was never raised.
    """
    frames = list(_frames(error.__traceback__))
    if not frames:
        return ""
    found = f" at {_where(*frames[-1][:2])}"
    theirs = next((n + 1 for n in reversed(range(len(frames))) if frames[n][2]), 0)  # behind the last frame of ours
    if theirs < len(frames) - 1:
        found += f", called from {_where(*frames[theirs][:2])}"
    return found


def root(error: BaseException) -> BaseException:
    """What an error was raised from, in the first place."""
    for _ in range(DEEPEST):  # a host may have raised one from itself
        if error.__cause__ is None:
            break
        error = error.__cause__
    return error


def _frames(trace: TracebackType | None) -> Iterator[tuple[CodeType, int, bool]]:
    """Code, line, and whether it is this package's, from where it was caught inwards."""
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        yield trace.tb_frame.f_code, trace.tb_lineno, module.partition(".")[0] == _OURS
        trace = trace.tb_next


def _where(code: CodeType, line: int) -> str:
    file = code.co_filename.replace("\\", "/").rpartition("/")[2]
    return f"{file}:{line} ({code.co_qualname})"
