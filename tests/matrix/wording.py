"""What all vendors of the matrix need to say and to check anything."""

import json
from collections.abc import Iterable
from typing import Any

__all__ = ["SSE", "as_json", "exhaust", "halves"]

SSE = "text/event-stream"


def halves(text: str) -> list[str]:
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def exhaust(value: Any) -> None:
    """Have pydantic look at what iterables have, which it does as they are read."""
    if isinstance(value, dict):
        for inner in value.values():
            exhaust(inner)
    elif not isinstance(value, str | bytes) and isinstance(value, Iterable):
        for inner in value:
            exhaust(inner)
