"""
The text of a prompt, as a tokenizer is to count it: all of the JSON that is sent, its strings as the model reads them.

The JSON's own marks and names stay in: they cover what a provider puts around messages and tools.
"""

import json
import re

from hpp_middleware.types.completion import Request, Target

__all__ = ["COUNTED_BYTES", "SCHEMA_TOKENS", "schema_marks", "text"]

COUNTED_BYTES = 32 * 1024
"""
The longest body that is counted, so that no request keeps an event loop for long: with tiktoken 0.7 ms of English, and
5 to 15 ms of the worst that can be sent. Past it the prompt is bounded by its bytes.
"""

SCHEMA_TOKENS = 2
"""
Tokens more for each comma in the tools: OpenAI writes them anew for the model, and an enum's short values, which are a
token and a mark each in JSON (``"a","b"``), become four (``"a" | "b"``).
"""

_HALVES = re.compile("[\ud800-\udfff]")  # a surrogate without its other half, which everybody reads otherwise
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.")
_PLAIN = {r"\"": '"', r"\\": "\\", r"\/": "/", r"\b": "\b", r"\f": "\f", r"\n": "\n", r"\r": "\r", r"\t": "\t"}


def text(request: Request, target: Target, body: bytes) -> str | None:
    """
    What to count; None where the bytes are the better bound: where they are strict, where there are too many, where
    some of them are no text, and where it is many texts, whose ends a count of all of them does not see.

    Args:
        request: What is asked.
        target: The resolved model.
        body: The JSON body for the upstream.
    """
    if target.provider.bytes_per_token == 1 or len(body) > COUNTED_BYTES or request.audio_input or request.inputs:
        return None
    found = body.decode("utf-8")
    if "\\" in found:
        found = _ESCAPES.sub(_unescaped, found)
    if not found.isascii() and _HALVES.search(found) is not None:
        return None
    folded = found.casefold()
    return None if ";base64," in folded or '"file_data"' in folded else found


def schema_marks(request: Request) -> int:
    """How many values the request's tools have, at most."""
    return sum(bytes(request.fields[name]).count(b",") for name in ("tools", "functions") if name in request.fields)


def _unescaped(found: re.Match[str]) -> str:
    escape = found[0]
    plain = _PLAIN.get(escape)
    return plain if plain is not None else str(json.loads(f'"{escape}"'))
