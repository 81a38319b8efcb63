"""Prices of genai-prices, as the real list has them, or as a test makes them."""

from datetime import UTC, datetime
from decimal import Decimal

from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ModelInfo,
    ModelPrice,
    Provider,
    TieredPrices,
)

from hpp_middleware.catalog.genai import GenaiPrices
from hpp_middleware.types.price import Price

PROVIDERS = ("openai", "moonshotai", "mistral", "groq", "deepseek", "x-ai", "openrouter", "together", "fireworks")
MOMENTS = (
    datetime(2026, 1, 15, 3, 30, tzinfo=UTC),
    datetime(2026, 11, 1, 0, 29, 59, tzinfo=UTC),
    datetime(2026, 11, 1, 0, 30, tzinfo=UTC),
    datetime(2026, 11, 1, 7, 0, tzinfo=UTC),
    datetime(2026, 11, 1, 16, 30, tzinfo=UTC),
    datetime(2027, 6, 1, 23, 0, tzinfo=UTC),
)
THEIRS = {provider.id: provider for provider in providers}


def at(moment: datetime) -> GenaiPrices:
    return GenaiPrices(clock=moment.timestamp)


def listing(*models: ModelInfo, moment: datetime = MOMENTS[1], fallback: str | None = None) -> GenaiPrices:
    """A price list of these models, under the provider ``own``."""
    prices = at(moment)
    own = Provider(
        id="own",
        name="Own",
        api_pattern="",
        models=list(models),
        fallback_model_providers=[fallback] if fallback else None,
    )
    prices._providers = {**THEIRS, "own": own}
    return prices


def model(name: str = "m", /, **units: Decimal | TieredPrices | None) -> ModelInfo:
    return ModelInfo(id=name, match=ClauseEquals(name), prices=ModelPrice(**units))


def dollars(figure: str) -> Decimal:
    return Decimal(figure)


def found(prices: GenaiPrices, provider: str, name: str) -> Price:
    listed = prices.find(provider, name)
    assert listed is not None
    return listed[0]
