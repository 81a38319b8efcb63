"""
What the model catalogue says of models: how much they take and give, and what they can do. Never a price.

``models.json`` lies beside this file and is made by :mod:`hpp_middleware.catalog.refresh`. It is read when a model of a
provider is first asked for, and what is kept of it is that provider's section: nothing is read at import.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.provider import Model

__all__ = ["DATE", "FILE", "Catalogue", "Entry", "Source", "VendoredModels", "names"]

FILE = Path(__file__).with_name("models.json")

DATE = re.compile(r"[-@]20\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])$")
"""How a snapshot's name ends: ``-2025-08-07``, ``-20250807`` or ``@20250807``; shorter dates may be anything."""

_REGION = re.compile(r"(?:us|us-gov|eu|apac|au|ca|jp|global)\.(?=\w+\.)")
_REVISION = re.compile(r"(?:-v\d+)?:\d+$")
_MODELS = 1024
_Count = Annotated[int, Meta(ge=1)]


class Entry(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """One model, as the file has it; ``modalities`` is ``text,image>text``, either side empty where it is unknown."""

    name: str | None = None
    context: _Count | None = None
    max_output: _Count | None = None
    image_tokens: Annotated[int, Meta(ge=0)] | None = None
    tool: bool | None = None
    structured: bool | None = None
    knowledge_cutoff: str | None = None
    modalities: str = ""

    def model(self) -> Model:
        """The same as the router has it."""
        into, _, out = self.modalities.partition(">")
        return Model(
            name=self.name,
            context=self.context,
            max_output=self.max_output,
            image_tokens=self.image_tokens,
            tool=self.tool,
            structured=self.structured,
            knowledge_cutoff=self.knowledge_cutoff,
            input_modalities=tuple(into.split(",")) if into else None,
            output_modalities=tuple(out.split(",")) if out else None,
        )


class Source(Struct, frozen=True):
    """A registry that the catalogue was made of."""

    name: str
    version: str
    licence: str
    url: str


class Catalogue(Struct, frozen=True):
    """
    The file.

    Attributes:
        made: The day it was made.
        sources: The registries it was made of, the first winning.
        aliases: Other ids of providers.
        providers: Sections, by the provider's id in genai-prices.
    """

    made: str
    sources: tuple[Source, ...]
    aliases: dict[str, str]
    providers: dict[str, Raw]


class VendoredModels:
    """
    :class:`~hpp_middleware.ports.Capabilities` from a file.

    Args:
        path: A file of the same form, which then is read as a whole at once; by default the one in this package.
    Raises:
        ConfigurationError: The file cannot be read, or has another form.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = Path(path) if path is not None else FILE
        self._sections: dict[str, Mapping[str, Entry]] = {}
        self._ids: Mapping[str, str] | None = None
        # Names come from clients: what was looked up for them is bounded.
        self._lookup = lru_cache(_MODELS)(self._look_up)
        if (
            path is not None
        ):  # whatever becomes of the file, and whatever is wrong with it, nothing of it meets a request
            self._keep(self._read(), None)

    def find(self, provider: str, model: str) -> Model | None:
        """
        What is known of a model.

        Args:
            provider: The provider's id in genai-prices, or another that the file lists.
            model: The model's name at the provider, or one that surely means the same; see :func:`names`.
        Returns:
            None where the file has no such model.
        """
        return self._lookup(provider, model)

    def load(self, providers: Iterable[str]) -> None:
        """Read these providers' sections now, so that no request waits for it; safe to repeat, in any thread."""
        wanted = set(providers)
        if self._ids is not None:
            wanted = {self._ids[each] for each in wanted if each in self._ids} - self._sections.keys()
            if not wanted:
                return
        self._keep(self._read(), wanted)

    def _keep(self, found: Catalogue, wanted: Iterable[str] | None) -> None:
        """Sections of the file: these providers', or all."""
        ids = {name: name for name in found.providers}
        ids |= {alias: name for alias, name in found.aliases.items() if name in ids}
        for name in {ids[each] for each in (ids if wanted is None else wanted) if each in ids} - self._sections.keys():
            self._sections[name] = self._entries(found.providers[name])
        self._ids = ids

    def _look_up(self, provider: str, model: str) -> Model | None:
        self.load((provider,))
        section = self._sections.get((self._ids or {}).get(provider, ""), {})
        found = next((section[name] for name in names(model) if name in section), None)
        return found.model() if found is not None else None

    def _read(self) -> Catalogue:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Catalogue)
        except OSError as error:
            raise self._refused(f"cannot be read ({error.strerror})") from error
        except msgspec.MsgspecError as error:
            raise self._refused(f"is no model catalogue ({error})") from error

    def _entries(self, section: Raw) -> dict[str, Entry]:
        try:
            return msgspec.json.decode(section, type=dict[str, Entry])
        except msgspec.MsgspecError as error:
            raise self._refused(f"is no model catalogue ({error})") from error

    def _refused(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"capabilities.file: {self._path} {why}", param="capabilities.file")


def names(model: str) -> Iterator[str]:
    """
    The names to look a model up by: its own, then those that mean the same model, the nearest first.

    A snapshot without an entry of its own is known by the model it is of (``gpt-5-2025-08-07``), a fine-tuned model by
    its base, and a model of Bedrock without its region and revision. A name that only begins alike never is.
    """
    yield model
    if model.startswith("ft:"):
        base = model.split(":")[1]
        if base:
            yield from names(base)
        return
    near = dict.fromkeys([_REGION.sub("", model, count=1)])
    for ending in (_REVISION, DATE):
        near.update(dict.fromkeys(ending.sub("", name) for name in list(near)))
    near.update(dict.fromkeys(name.removesuffix("-latest") for name in list(near)))
    yield from (name for name in near if name and name != model)
    if not model.endswith("-latest"):
        yield f"{model}-latest"
