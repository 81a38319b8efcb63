"""Bodies and answers that are nearly right: a valid one, with something in it that nobody expects there."""

import json
from random import Random
from typing import Any

__all__ = ["ODD", "Written", "mutated", "scratched", "thinned", "written"]


class Written:
    """JSON as it stands, for what Python would not write."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __deepcopy__(self, memo: object) -> "Written":
        return self


ODD = [
    *("1e400", "-1e400", "1" * 400, "-1", "0", "1.5", "true", "null", "9223372036854775808", "10000000000", "-5"),
    *(r'"\ud800"', r'"\udc00x"', r'"\u0000"', '""', '"5"', "{}", "[]", "[[]]", "[null]", '{"":null}', "[{}]"),
    *('"data:image/png;base64,"', '"data:;base64,@@"', '"https://"', '{"a":1e999}', '{"type":"text"}', '{"x":1}'),
    *(f'"{word}"' for word in ("1h", "auto", "required", "enabled", "disabled", "none", "stop", "error", "message")),
    *(f'"{word}"' for word in ("url", "file", "content", "document", "image", "tool_result", "text", "input_file")),
    "[" * 50 + "]" * 50,
    json.dumps('{"a":1e999}'),
    json.dumps(r'{"a":"\ud800"}'),
    json.dumps("[" * 2000 + "]" * 2000),
    json.dumps('{"a":' * 3000 + "1" + "}" * 3000),
    json.dumps('{"a":' + "1" * 5000 + "}"),
]
"""Values, as JSON."""


def written(value: Any) -> str:
    """The JSON of a value with :class:`Written` in it."""
    if isinstance(value, Written):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def mutated(value: Any, random: Random, *, most: int = 2) -> Any:
    """A copy with up to so many things replaced, left out, repeated, or put where others were."""
    found = json.loads(json.dumps(value))
    for _ in range(random.randint(0, most)):
        places = list(_places(found))
        if not places:
            break
        within, at = random.choice(places)
        kind = random.random()
        if kind < 0.6:
            within[at] = Written(random.choice(ODD))
        elif kind < 0.75:
            other, there = random.choice(places)
            within[at] = json.loads(json.dumps(other[there])) if _is_plain(other[there]) else Written("{}")
        elif kind < 0.9:
            del within[at]
        elif isinstance(within, list):
            within.insert(at, within[at])
        else:
            within[at.upper()] = within.pop(at)
    return found


def scratched(data: bytes, random: Random, *, most: int = 3) -> bytes:
    """Bytes of which some are others."""
    found = bytearray(data)
    for _ in range(random.randint(0, most) if data else 0):
        found[random.randrange(len(found))] = random.randrange(256)
    return bytes(found)


def thinned(value: Any, random: Random, *, kept: frozenset[str]) -> Any:
    """A copy without some of its optional members, and of the entries of its lists."""
    if isinstance(value, dict):
        return {
            name: thinned(inner, random, kept=kept)
            for name, inner in value.items()
            if name in kept or random.random() < 0.6
        }
    if isinstance(value, list):
        some = [inner for inner in value if random.random() < 0.6] or value[:1]
        return [thinned(inner, random, kept=kept) for inner in some]
    return value


def _places(value: Any) -> Any:
    """Where something stands: what it is in, and at which key or index."""
    if isinstance(value, dict | list):
        for at in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, at
            yield from _places(value[at])


def _is_plain(value: Any) -> bool:
    if isinstance(value, Written):
        return False
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(_is_plain, inner))
