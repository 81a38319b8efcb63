"""The Lua scripts: read once from the package, called by their digests."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["Script", "scripts"]

_ALONE = {"open", "wipe"}
"""These come before there is an epoch to check; all others begin with the common part."""

_LIMITS = {"take", "correct", "extend"}
"""But for these, which are not about the books."""


class Script(NamedTuple):
    """A script's text, and the digest that a server knows it by."""

    text: str
    digest: str


@cache
def scripts() -> Mapping[str, Script]:
    """Every script by its name."""
    folder = resources.files("hpp_middleware.stores.redis") / "scripts"
    texts = {item.name.removesuffix(".lua"): item.read_text("utf-8") for item in folder.iterdir()}
    common = texts.pop("common")
    window = texts.pop("window")
    before = {
        **dict.fromkeys(texts, f"{common}\n"),
        **dict.fromkeys(_LIMITS, f"{window}\n"),
        **dict.fromkeys(_ALONE, ""),
    }
    whole = {name: before[name] + text for name, text in texts.items()}
    return {
        name: Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        for name, text in whole.items()
    }
