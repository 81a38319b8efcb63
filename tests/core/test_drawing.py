"""How many tokens an image can cost that a model draws: OpenAI's published figures, and never less."""

from typing import Any

import pytest

from hpp_middleware.core.drawing import QUALITIES, SIZES, UNKNOWN, most_tokens
from hpp_middleware.types.completion import Drawing, Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model, Provider

PUBLISHED = {
    ("low", "1024x1024"): 272,
    ("low", "1024x1536"): 408,
    ("low", "1536x1024"): 400,
    ("medium", "1024x1024"): 1056,
    ("medium", "1024x1536"): 1584,
    ("medium", "1536x1024"): 1568,
    ("high", "1024x1024"): 4160,
    ("high", "1024x1536"): 6240,
    ("high", "1536x1024"): 6208,
}
DOLLARS_AN_IMAGE = {  # of the models' pages, in the order of SIZES, and the dollars a million tokens they come of
    "gpt-image-2": (30, {"low": (0.006, 0.005, 0.005), "medium": (0.053, 0.041, 0.041), "high": (0.211, 0.165, 0.165)}),
    "gpt-image-1-mini": (
        8,
        {"low": (0.005, 0.006, 0.006), "medium": (0.011, 0.015, 0.015), "high": (0.036, 0.052, 0.052)},
    ),
}


def most(name: str, size: str | None = None, quality: str | None = None, **model: Any) -> int:
    target = Target(
        id=f"p/{name}",
        provider_name="p",
        model_name=name,
        provider=Provider(base_url="https://p.test"),
        model=Model(**model),
        price=Price(base=Rates(input=1, output=1)),
    )
    return most_tokens(target, Drawing(size, quality))


def test_gpt_image_1_costs_what_is_published() -> None:
    found = {(quality, size): most("gpt-image-1", size, quality) for quality in QUALITIES for size in SIZES}
    assert found == PUBLISHED


def test_what_is_left_to_the_model_is_the_most_that_it_may_choose() -> None:
    assert most("gpt-image-1", None, "low") == 408
    assert most("gpt-image-1", "1024x1024", None) == 4160
    assert most("gpt-image-1") == 6240


@pytest.mark.parametrize("name", DOLLARS_AN_IMAGE)
def test_models_whose_dollars_an_image_are_published_never_cost_more_than_is_held_for(name: str) -> None:
    dollars, table = DOLLARS_AN_IMAGE[name]
    for quality, figures in table.items():
        for size, figure in zip(SIZES, figures, strict=True):
            assert most(name, size, quality) * dollars / 10**6 >= figure


def test_text_that_a_model_writes_besides_is_held_for() -> None:
    assert most("gpt-image-1.5", "1024x1024", "low") >= 272 + 209  # as was reported
    assert most("gpt-image-1.5-2025-12-16", "1024x1024", "low") == most("gpt-image-1.5", "1024x1024", "low")


def test_a_model_that_is_not_known_costs_the_largest_figure_whatever_is_asked() -> None:
    known = max(most(name) for name in ("gpt-image-1", "gpt-image-1.5", "gpt-image-2", "gemini-2.5-flash-image"))
    assert known == UNKNOWN
    assert most("flux", "1024x1024", "low") == most("gpt-image-20", "1024x1024", "low") == UNKNOWN


def test_a_provider_of_many_makers_names_the_maker_before_it() -> None:
    assert most("openai/gpt-image-1", "1024x1024", "low") == 272


def test_what_is_configured_wins() -> None:
    assert most("gpt-image-1", "1024x1024", "low", image_output_tokens=77) == 77
    assert most("flux", image_output_tokens=0) == 0
