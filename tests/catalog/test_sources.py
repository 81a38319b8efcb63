"""The data that the catalogue is made by: no provider twice, and images at the vendors' own figures."""

from collections import Counter

import pytest

from hpp_middleware.catalog import genai
from hpp_middleware.catalog.refresh import _image_tokens
from hpp_middleware.catalog.sources import ALIASES, IMAGES, SECTIONS
from hpp_middleware.core.bound import IMAGE_TOKENS


def test_sections_have_the_names_of_the_price_list() -> None:
    assert SECTIONS.keys() <= genai._PROVIDERS
    assert set(ALIASES.values()) <= SECTIONS.keys()
    assert not ALIASES.keys() & genai._PROVIDERS


def test_no_registrys_provider_is_in_two_sections() -> None:
    for field in ("models_dev", "litellm"):
        uses = Counter(name for section in SECTIONS.values() for name in getattr(section, field))
        assert set(uses.values()) == {1}


@pytest.mark.parametrize(
    ("section", "model", "tokens"),
    [
        ("openai", "gpt-4o", 1_445),
        ("openai", "gpt-4o-2024-08-06", 1_445),
        ("openai", "gpt-4o-mini", 48_169),
        ("openrouter", "openai/gpt-4o-mini-2024-07-18", 48_169),
        ("openai", "gpt-4.1", 1_536),
        ("openai", "gpt-4.1-mini", 2_489),
        ("openai", "gpt-5", 1_190),
        ("openai", "gpt-5-mini", 2_489),
        ("openai", "gpt-5.4-nano", 3_779),
        ("openai", "gpt-5.4", 12_000),
        ("openai", "gpt-5.1", None),
        ("openai", "gpt-5-pro", None),
        ("openai", "gpt-5.6-sol", 20_000),
        ("openai", "gpt-6.1-sol", 20_000),
        ("openai", "o3", 1_275),
        ("openai", "o4-mini", 2_642),
        ("anthropic", "claude-3-haiku-20240307", 1_600),
        ("anthropic", "claude-opus-4-20250514", 1_600),
        ("anthropic", "claude-sonnet-4-6", 1_600),
        ("anthropic", "claude-opus-4-7", 4_784),
        ("anthropic", "claude-sonnet-4-7", None),
        ("anthropic", "claude-opus-5", None),
        ("openrouter", "anthropic/claude-opus-4.8", 4_784),
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 1_600),
        ("google", "claude-opus-4-5@20251101", 1_600),
        ("google", "gemini-3-pro-preview", 2_240),
        ("google", "gemini-2.5-pro", None),
        ("together", "meta-llama/Llama-4", 6_404),
        ("groq", "openai/gpt-4o", None),
        ("mistral", "pixtral-large-latest", None),
    ],
)
def test_an_image_costs_at_most_what_the_vendor_says(section: str, model: str, tokens: int | None) -> None:
    assert _image_tokens(section, model) == tokens


def test_models_without_a_figure_keep_a_bound_above_those_of_their_kind() -> None:
    assert all(each.tokens < IMAGE_TOKENS for each in IMAGES if "anthropic" in each.sections)
