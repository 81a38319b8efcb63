"""
Whether an answer is good enough to be given, by what it says of itself. Nothing is asked of a model for it.

An answer is found wanting where it is empty, refused, cut off under a cap that is ours, no JSON or not of the schema
where JSON was asked for, or unsure by its own words. What calls a tool is an answer.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from hpp_middleware.core.auto.said import form, said
from hpp_middleware.types.completion import Request

__all__ = ["fault"]

LOOKED_AT = 400
"""So many characters, of the beginning, are searched for a refusal or for doubts."""

_NOT = r"(?:can(?:no|')?t|can\u2019t|am (?:not able|unable))"
_REFUSAL = re.compile(
    r"\A\W*(?:"
    rf"(?:i(?:'|\u2019)?m|i am) (?:really |very |so )?sorry,? (?:but )?i {_NOT}"
    rf"|(?:sorry|unfortunately),? (?:but )?i {_NOT}"
    r"|i (?:can(?:no|')?t|can\u2019t) (?:help|assist|comply|fulfill|provide|do that|answer)"
    r"|(?:i(?:'|\u2019)?m|i am) (?:not able|unable) to"
    r"|as an ai(?: language)?(?: model)?,? i (?:can|am|do))",
    re.IGNORECASE,
)
_NO = r"(?:don(?:'|\u2019)t|do not)"
_DOUBT = re.compile(
    r"\b(?:i(?:'|\u2019)?m|i am) not (?:entirely |completely |really |quite )?(?:sure|certain)\b"
    rf"|\bi {_NO} (?:really )?know\b"
    rf"|\bi {_NO} have enough (?:information|context)\b"
    r"|\bi (?:can(?:'|\u2019)t|cannot) (?:determine|be (?:sure|certain))\b",
    re.IGNORECASE,
)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "number": (int, float),
    "integer": (int,),
}
_any = msgspec.json.Decoder()


def fault(body: bytes, request: Request) -> str | None:
    """
    What is wrong with an answer, in a word or two; None where it can be given.

    Args:
        body: A whole answer, as JSON, in the words of the request's API.
        request: What was asked, as the client has written it.
    """
    found = said(body, request.api)
    if found.calls:
        return None
    if found.refused or _REFUSAL.match(found.text):
        return "refused"
    if found.full or (found.cut and request.cap is None):
        return "cut off"
    if not found.text.strip():
        return "empty"
    wanted = form(request)
    if wanted is not None:
        return _broken(found.text, wanted)
    return "unsure" if _DOUBT.search(found.text[:LOOKED_AT]) else None


MOST_STEPS = 20_000
"""A step is one value held against one part of a schema, or against one entry of a list in it."""

CHARACTERS = 100
"""So many of a reference are read in the time of a step."""


def _broken(text: str, schema: dict[str, Any]) -> str | None:
    try:
        found = _any.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        return "no JSON"
    return None if _Judge(schema).fits(found, schema, 0) else "not of the schema"


class _Judge:
    """
    Whether a value has the types and members that a schema asks for; what else it asks for is not looked at.

    A schema is a client's: it may refer to itself in many ways at once, and have lists and references as long as a body
    may be, which every value of an answer is held against. So only so many steps are taken, and what they do not find
    wanting is taken to be right.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._steps = MOST_STEPS

    def fits(self, value: Any, schema: Any, depth: int) -> bool:
        self._steps -= 1
        if not isinstance(schema, dict) or depth > 32 or not self._affords(value, schema):
            return True
        if isinstance(schema.get("$ref"), str):
            return self.fits(value, _referred(schema["$ref"], self._root), depth + 1)
        for name, needed in (("anyOf", any), ("oneOf", any), ("allOf", all)):
            options = schema.get(name)
            if isinstance(options, list) and not needed(self.fits(value, each, depth + 1) for each in options):
                return False
        if not _is_of(value, schema.get("type")):
            return False
        if isinstance(schema.get("enum"), list) and not isinstance(value, list | dict) and value not in schema["enum"]:
            return False
        if isinstance(value, list):
            return all(self.fits(each, schema.get("items"), depth + 1) for each in value)
        return not isinstance(value, dict) or self._has_members(value, schema, depth)

    def _affords(self, value: Any, schema: dict[str, Any]) -> bool:
        """Take the steps for what is gone through at once, if there are so many left."""
        reference = schema.get("$ref")
        if isinstance(reference, str):
            self._steps -= len(reference) // CHARACTERS
        for name in ("type", "enum", "required"):
            listed = schema.get(name)
            self._steps -= len(listed) if isinstance(listed, list) else 0
        if isinstance(value, dict):
            self._steps -= len(value)
        return self._steps >= 0

    def _has_members(self, value: dict[str, Any], schema: dict[str, Any], depth: int) -> bool:
        properties, required = schema.get("properties"), schema.get("required")
        known = properties if isinstance(properties, dict) else {}
        names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        if not value.keys() >= set(names):
            return False
        if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
            return False
        return all(self.fits(each, known.get(name), depth + 1) for name, each in value.items())


def _is_of(value: Any, kinds: Any) -> bool:
    names = kinds if isinstance(kinds, list) else [kinds]
    known = [_TYPES[name] for name in names if isinstance(name, str) and name in _TYPES]
    if not known or len(known) < len(names):
        return True  # a kind that nobody knows is not judged
    if isinstance(value, bool):
        return (bool,) in known
    whole = isinstance(value, float) and value.is_integer() and (int,) in known
    return whole or any(isinstance(value, each) for each in known)


def _referred(reference: str, root: dict[str, Any]) -> Any:
    node: Any = root
    for name in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        node = node.get(name) if isinstance(node, dict) else None
    return node
