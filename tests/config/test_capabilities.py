"""``[capabilities]``: the catalogue that comes with the router, another file, or none."""

from pathlib import Path

import pytest
from reading import LOCAL, read, refusal

OPENAI = LOCAL + '[providers.openai]\napi_key = "x"\n[models."openai/gpt-5"]\ninput = "1"\noutput = "1"\n'
OWN = '{"made":"2026-11-29","sources":[],"aliases":{},"providers":{"openai":{"gpt-5":{"context":7}}}}'


@pytest.mark.parametrize(
    ("section", "context"),
    [
        ("", 400_000),
        ("[capabilities]", 400_000),
        ('[capabilities]\nuse = "auto"', 400_000),
        ('[capabilities]\nuse = "off"', None),
        ('[capabilities]\nfile = "own.json"', 7),
        ('[capabilities]\nuse = "off"\nfile = "own.json"', None),
        ('[capabilities]\n[models."openai/gpt-5"]\ncontext = 3', 3),
    ],
)
def test_what_is_known_of_a_model_comes_from_where_the_file_says(
    tmp_path: Path, section: str, context: int | None
) -> None:
    (tmp_path / "own.json").write_text(OWN, "utf-8")
    text = OPENAI.replace('output = "1"\n', 'output = "1"\ncontext = 3\n') if "[models" in section else OPENAI
    settings = read(tmp_path, text + section.partition("[models")[0])
    target = settings.gateway().catalog.find("openai/gpt-5")
    assert target is not None
    assert target.model.context == context


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('file = "none.json"', "cannot be read"),
        ('file = "router.toml"', "is no model catalogue"),
        ('use = "no"', "capabilities.use: must be 'auto' or 'off'"),
        ("use = false", "capabilities.use"),
        ('files = "x"', "capabilities.files: unknown key"),
    ],
)
def test_a_catalogue_that_is_none_is_refused_with_its_key(tmp_path: Path, line: str, problem: str) -> None:
    (said,) = refusal(tmp_path, f"{OPENAI}[capabilities]\n{line}")
    assert said.startswith("capabilities.")
    assert problem in said
