"""``[models]``: exact prices, and what is known of a model."""

from pathlib import Path

import pytest
from reading import LOCAL, read, refusal

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.price import Price, Rates


def test_prices_are_exact_dollars_per_million_tokens(tmp_path: Path) -> None:
    text = (
        '[models."local/m"]\ninput = "1.25"\noutput = "10"\ncache_read = "0.0375"\ncache_write = "0"\n'
        'reasoning = "12"\ninput_audio = "40"\noutput_audio = "80"\n'
    )
    model = read(tmp_path, LOCAL + text).models["local/m"]
    assert model.price == Price(
        base=Rates(
            input=1_250_000_000_000,
            output=10_000_000_000_000,
            cache_read=37_500_000_000,
            cache_write=0,
            reasoning=12_000_000_000_000,
            input_audio=40_000_000_000_000,
            output_audio=80_000_000_000_000,
        )
    )


def test_a_model_carries_what_is_known_of_it(tmp_path: Path) -> None:
    text = (
        '[models."local/a/b:c"]\nname = "M"\ndescription = "d"\ncontext = 4096\nmax_output = 512\ndefault_cap = 256\n'
        "image_tokens = 100\ntool = true\nstructured = false\nreasoning_model = true\n"
        'knowledge_cutoff = "2026-01"\ninput_modalities = ["text", "image"]\noutput_modalities = ["text"]\n'
    )
    model = read(tmp_path, LOCAL + text).models["local/a/b:c"]
    assert model.price is None
    assert (model.name, model.description, model.knowledge_cutoff) == ("M", "d", "2026-01")
    assert (model.context, model.max_output, model.default_cap, model.image_tokens) == (4096, 512, 256, 100)
    assert (model.tool, model.structured, model.reasoning) == (True, False, True)
    assert (model.input_modalities, model.output_modalities) == (("text", "image"), ("text",))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("1.25", 'must be in quotes, which keep it exact: "1.25"'),
        ("1", 'must be in quotes, which keep it exact: "1"'),
        ("true", 'must be a string, such as "2.50"'),
        ('"-1"', "must be a number of at least 0"),
        ('"nan"', "must be a number of at least 0"),
        ('"one"', "is not a decimal number"),
        ('"0.0000000000001"', "has more than 12 decimal places"),
    ],
)
def test_a_price_that_is_no_exact_decimal_in_quotes_is_refused(tmp_path: Path, value: str, problem: str) -> None:
    problems = refusal(tmp_path, LOCAL + f'[models."local/m"]\ninput = {value}\noutput = "1"')
    assert problems == [f'models."local/m".input: {problem}']


@pytest.mark.parametrize(
    ("given", "missing"),
    [('input = "1"', ["output"]), ('output = "1"', ["input"]), ('cache_read = "1"', ["input", "output"])],
)
def test_half_a_price_is_refused(tmp_path: Path, given: str, missing: list[str]) -> None:
    problems = refusal(tmp_path, LOCAL + f'[models."local/m"]\n{given}')
    assert problems == [f'models."local/m".{name}: is missing; free is written "0"' for name in missing]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[models."nowhere/m"]\ninput = "1"\noutput = "1"', "nowhere"),
        ('[models."local"]\ninput = "1"\noutput = "1"', "provider/model"),
        ('[aliases]\nfast = "local/none"', "aliases.fast"),
    ],
)
def test_a_model_or_alias_of_something_that_is_not_there_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read(tmp_path, LOCAL + text).gateway()
