"""Which path is which API's; ``/v1/...`` is an alias, so that a base URL of ``http://host/v1`` works for any client."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

from hpp_middleware.apis.chat import CHAT
from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.apis.images import IMAGES
from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.ports import API

__all__ = [
    "APIS",
    "COUNTS",
    "ID_HEADERS",
    "MODELS",
    "ROUTES",
    "UNMETERED",
    "is_anthropics",
    "meant",
    "plain",
    "spoken_at",
    "whole",
]

_PREFIXES = ("/llm/v1", "/v1")

APIS: Mapping[str, API] = {
    f"{prefix}{path}": api
    for path, api in (
        ("/chat/completions", CHAT),
        ("/messages", MESSAGES),
        ("/responses", RESPONSES),
        ("/embeddings", EMBEDDINGS),
        ("/images/generations", IMAGES),
    )
    for prefix in _PREFIXES
}
"""What a ``POST`` there is written in, and every answer and error."""

COUNTS = tuple(f"{prefix}/messages/count_tokens" for prefix in _PREFIXES)
"""Where tokens are counted, and nothing is charged."""

_MEANT: Mapping[str, str] = {
    **{path.removeprefix("/v1"): path for path in (*APIS, *COUNTS, "/v1/models") if path.startswith("/v1/")},
    "/completions": "/v1/chat/completions",
}
"""By how a path ends, the path that there is; the longer of two endings first."""

UNMETERED = ("/v1/completions", "/completions", "/invocations", "/generate", "/v1/audio/speech")
"""
Where servers of models (vLLM's, SGLang's, llama.cpp's) answer what has no API here: whoever asks there would not pay.
"""

ROUTES = tuple(f"{prefix}/route" for prefix in _PREFIXES)
"""Where a client asks which model it would be given, and why."""

MODELS = ("/llm/v1/models", "/v1/models")

ID_HEADERS: Mapping[str, bytes] = {"messages": b"request-id"}
"""The header in which an API's clients look for a request's id, besides ``x-request-id``."""


def spoken_at(path: str, headers: Iterable[tuple[bytes, bytes]]) -> API | None:
    """What errors are written in at a path where nothing is asked of a model."""
    below = any(path.startswith(f"{prefix}/messages/") for prefix in _PREFIXES)
    return MESSAGES if below or (path.startswith(MODELS) and is_anthropics(headers)) else None


def whole(scope: Mapping[str, Any]) -> str:
    """
    A request's path with all of ``root_path`` in it, as ASGI has it.

    Behind a proxy that cuts off what it serves under, ``FastAPI(root_path=...)`` knows of that, and the path does not:
    then the host's own routes are found, and nothing that is mounted is.
    """
    path: str = scope["path"]
    root, outside = scope.get("root_path", ""), scope.get("app_root_path", "")
    if not outside or path.startswith(root) or not root.startswith(outside):
        return path
    return outside + path if path.startswith(root[len(outside) :]) else path


def plain(path: str) -> str:
    """
    A path as the most lenient router reads it: slashes that are doubled or last, dots, escapes, the case of letters and
    matrix parameters tell nothing apart.
    """
    parts: list[str] = []
    for segment in unquote(unquote(path)).replace("\\", "/").casefold().split("/"):
        part = segment.partition(";")[0].strip()
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    return "/" + "/".join(parts)


def meant(path: str) -> str | None:
    """
    Where that is which a client has looked for under another base URL, or under its older name; None for what is
    nowhere.

    To leave ``/v1`` out, or to write it twice, is what goes wrong most often: some clients add it themselves.
    """
    return next((found for ending, found in _MEANT.items() if path.endswith(ending)), None)


def is_anthropics(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a client is one of Anthropic's API, whose models stand at the same path as OpenAI's."""
    return any(name == b"anthropic-version" for name, _ in headers)
