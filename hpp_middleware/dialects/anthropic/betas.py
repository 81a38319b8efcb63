"""
Beta features that clients ask for by ``anthropic-beta``, or ``betas``: those that pass, and what needs one to be taken.

A beta can change what a request costs, so that only those pass that are known here to cost the tokens which are held
for, and no more. Not among them are a larger context and output than the model's price is for (``context-1m-...``,
``output-300k-...``), a faster mode, compaction, which is billed besides, and all that runs at the provider.

Names: https://platform.claude.com/docs/en/api/beta-headers and the types of Anthropic's Python SDK 2.14.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.errors import RequestError

__all__ = ["ALLOWED", "asked"]

ALLOWED = frozenset(
    {
        "cache-diagnosis-2026-04-07",
        "context-management-2025-06-27",
        "dev-full-thinking-2025-05-14",
        "effort-2025-11-24",
        "extended-cache-ttl-2025-04-11",
        "fine-grained-tool-streaming-2025-05-14",
        "interleaved-thinking-2025-05-14",
        "model-context-window-exceeded-2025-08-26",
        "pdfs-2024-09-25",
        "prompt-caching-2024-07-31",
        "prompt-caching-scope-2026-01-05",
        "structured-outputs-2025-11-13",
        "thinking-display-updates-2026-08-18",
        "thinking-token-count-2026-05-13",
        "token-counting-2024-11-01",
        "token-efficient-tools-2025-02-19",
    }
)

_CLEARING = "context-management-2025-06-27"
"""Without it the API refuses ``context_management``, and the SDK's plain methods send none."""

_NULL = Raw(b"null")
_names = msgspec.json.Decoder(list[str])


class _Edit(Struct):
    type: str


class _Management(Struct):
    edits: list[_Edit] = []


_management = msgspec.json.Decoder(_Management)


def asked(fields: dict[str, Raw], *, at_anthropic: bool) -> tuple[list[str], tuple[str, ...]]:
    """
    The betas to send, and the fields that are left out.

    What is only cleared out of a prompt makes it shorter, and is passed on; a server that is not Anthropic's has no use
    for either, and gets neither.

    Args:
        fields: The request's; what is not to be sent is taken out.
        at_anthropic: Whether the provider speaks Anthropic's API as its own.
    Raises:
        RequestError: 400: a field is not valid, or a context is to be compacted, which is billed besides.
    """
    given = fields.pop("betas", _NULL)
    names = dict.fromkeys(_read(_names, given, "betas") if given != _NULL else ())
    found = [name for name in names if at_anthropic and name in ALLOWED]
    dropped = ["betas"] if len(found) < len(names) else []
    if fields.get("context_management", _NULL) == _NULL:
        fields.pop("context_management", None)
    elif not at_anthropic:
        del fields["context_management"]
        dropped.append("context_management")
    else:
        for number, edit in enumerate(_read(_management, fields["context_management"], "context_management").edits):
            if not edit.type.startswith("clear_"):
                where = f"context_management.edits[{number}].type"
                raise RequestError(f"{where} is not accepted: only clearing costs nothing besides.", param=where)
        found += [] if _CLEARING in names else [_CLEARING]
    return found, tuple(dropped)


def _read(decoder: Any, raw: Raw, name: str) -> Any:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{name} is not valid: {error}.", param=name) from None
