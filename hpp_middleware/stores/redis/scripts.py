"""The Lua scripts: read once from the package, called by their digests."""

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = ["Script", "scripts"]

_ALONE = {"open", "wipe"}
"""These come before there is an epoch to check; all others begin with the common part."""


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
    whole = {name: text if name in _ALONE else f"{common}\n{text}" for name, text in texts.items()}
    return {
        name: Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        for name, text in whole.items()
    }
