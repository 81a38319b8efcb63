"""
Prices from the ``genai-prices`` package: its bundled data only, never the network.

A model whose bill could hold anything that our buckets do not price is unknown here, and so refused: better no price
than one that is too low. Importing this module costs nothing; the data (2 MB) is read on the first use.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hpp_middleware.core.price import rates_from_usd
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model

if TYPE_CHECKING:
    from genai_prices.types import MatchLogic, ModelInfo, ModelPrice, Provider, TieredPrices

__all__ = ["GenaiPrices", "available"]

_BUCKETS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cache_read_audio",
    "output_audio_mtok": "output_audio",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_image_mtok": "input_image",
    "output_image_mtok": "output_image",
    "web_searches_kcount": "web_search",
}
"""The units that our buckets price; what both sides call tokens of one kind."""

_ON_REQUEST = frozenset(
    {
        "social_searches_kcount",
        "storage_searches_kcount",
        "code_executions_kcount",
    }
)
"""Units of what a request must ask for by name, in fields that are refused."""

_WRITTEN_AUDIO = "cache_audio_write_mtok"
"""With this, audio that is written to a cache has a rate that no bucket has: such models hear no audio here."""

_AUDIO_IN = frozenset({_WRITTEN_AUDIO, "input_audio_mtok", "cache_audio_read_mtok"})

_DRAW_BY_OUTPUT = ("gpt-image-*", "chatgpt-image-*")
"""Models that draw, and do nothing else: without a rate of their own their images cost what ``output_mtok`` says."""

_DRAW_IN_CHAT = ("*image*", "*banana*")
"""Models that draw in a chat completion: without a rate of their own for it, their images would cost as text does."""

_EMBED = ("*embed*", "*bge-[!r]*", "*gte-*", "voyage-*")
"""Models that give vectors; others without ``output_mtok`` may give text, which then has no price."""

_READ_BY_EMBEDDING = frozenset({"input_mtok", "cache_read_mtok"})
"""Of their units those of text: nothing else is embedded here."""

_SEARCHES_UNASKED = ("*search-preview*", "*search-api*", "*deep-research*", "*sonar*", "*online")
"""Models that search the web at every call and bill it by the search, which the data does not always say."""

_PROVIDERS = frozenset(
    """
    anthropic arcee avian aws azure baseten cerebras cloudflare cohere cursor databricks deepseek doubleword
    elevenlabs fireworks github-copilot google groq huggingface_cerebras huggingface_fireworks-ai huggingface_groq
    huggingface_hyperbolic huggingface_nebius huggingface_novita huggingface_nscale huggingface_ovhcloud
    huggingface_publicai huggingface_sambanova huggingface_together meta minimax mistral modal moonshotai novita
    openai openai-decisions openrouter ovhcloud perplexity quicksilverpro together typesafe voyageai x-ai zai
    zhipuai
    """.split()  # noqa: SIM905  # a list of so many lines is not read
)
"""The providers in the data of the release below."""

_OF_RELEASE = "0.2.3"

_FINEST = Decimal(1).scaleb(-12)
_NAMES = 8192


def available() -> bool:
    """Whether the package is installed."""
    return find_spec("genai_prices") is not None


class GenaiPrices:
    """
    A :class:`~hpp_middleware.ports.PriceList` of some 2,000 models; see the extra ``prices``.

    Args:
        clock: Seconds since the epoch, for prices that change by date or by the time of day.
    Raises:
        ConfigurationError: The package is not installed.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        if not available():
            raise ConfigurationError(
                "genai-prices is not installed: pip install 'hpp_middleware[prices]'", param="prices"
            )
        self._clock = clock
        self._providers: dict[str, Provider] | None = None
        self._source = ""
        self._is_known: bool | None = None
        # Names come from clients: what was looked up for them is bounded.
        self._lookup = lru_cache(_NAMES)(self._look_up)
        # By id(): the bundled data lives as long as the process, and is as many entries at most.
        self._converted: dict[int, Price | None] = {}

    def lists(self, provider: str) -> bool:
        """Whether a provider may be in the data, which is not read for one that is not; a later one may have more."""
        if self._providers is not None:
            return provider in self._providers
        if provider in _PROVIDERS:
            return True
        if self._is_known is None:
            self._is_known = version("genai-prices") == _OF_RELEASE
        return not self._is_known

    def load(self) -> None:
        """Read the data now (0.2 to 0.7 s), so that no request waits for it; safe to repeat, in any thread."""
        self._loaded()

    def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
        """
        The price of a model now, and what else the list knows of it.

        Args:
            provider: An id of genai-prices, exactly.
            model: Any name that genai-prices knows it by.
        Returns:
            None where the model is unknown, or has no price that covers all of its bill.
        """
        info = self._lookup(provider, model)
        if info is None:
            return None
        price = self._price(info)
        if price is None:
            return None
        out = {"embeddings": ("embeddings",), "images": ("image",)}.get(price.only or "")
        return price, Model(
            name=info.name, description=info.description, context=info.context_window, output_modalities=out
        )

    def models(self, provider: str) -> Sequence[str]:
        """The names of the provider's models that have a price now and are not deprecated."""
        known = self._loaded().get(provider) if self.lists(provider) else None
        if known is None:
            return []
        live = (info for info in known.models if not info.deprecated and self._price(info) is not None)
        names = (self._name(provider, info) for info in live)
        return list(dict.fromkeys(name for name in names if name is not None))

    def called(self, provider: str, model: str) -> str | None:
        """What the list itself calls a model, of the many names that its patterns take; None where it has none."""
        info = self._lookup(provider, model)
        return info.id if info is not None else None

    def _loaded(self) -> "dict[str, Provider]":
        if self._providers is None:
            from genai_prices.data import providers

            self._source = f"genai-prices {version('genai-prices')}"
            self._providers = {provider.id: provider for provider in providers}
        return self._providers

    def _look_up(self, provider: str, model: str) -> "ModelInfo | None":
        providers = self._loaded() if self.lists(provider) else {}
        if provider not in providers:
            return None
        info = providers[provider].find_model(model, all_providers=list(providers.values()))
        if info is None or _searches(model) or _searches(info.id):
            return None
        is_another = _is_one(model, _DRAW_IN_CHAT) and not _is_one(info.id, _DRAW_IN_CHAT)
        return None if is_another else info

    def _name(self, provider: str, info: "ModelInfo") -> str | None:
        """What to call a model upstream: its id, or else a name that the list knows it by, if that leads back to it."""
        return next((name for name in (info.id, *_names(info.match)) if self._lookup(provider, name) is info), None)

    def _price(self, info: "ModelInfo") -> Price | None:
        if not info.prices:
            return None
        prices = info.get_prices(datetime.fromtimestamp(self._clock(), tz=UTC))
        if id(prices) not in self._converted:
            self._converted[id(prices)] = _price(prices, info.id, self._source)
        return self._converted[id(prices)]


def _searches(name: str) -> bool:
    return _is_one(name, _SEARCHES_UNASKED)


def _names(match: "MatchLogic") -> Iterator[str]:
    """The names that a match clause spells out."""
    from genai_prices.types import ClauseEquals, ClauseOr

    if isinstance(match, ClauseEquals):
        yield match.equals
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _names(clause)


def _price(prices: "ModelPrice", model: str, source: str) -> Price | None:
    """Our form of a price, or None where it has none."""
    units = {unit: usd for unit, usd in vars(prices).items() if usd is not None and unit not in _ON_REQUEST}
    if _WRITTEN_AUDIO in units:
        units = {unit: usd for unit, usd in units.items() if unit not in _AUDIO_IN}
    only = _only(units, model)
    if only == "embeddings":
        units = {unit: usd for unit, usd in units.items() if unit in _READ_BY_EMBEDDING}
        units["output_mtok"] = Decimal(0)  # there is none, and nothing else may be asked
    elif only == "images":
        units.pop("cache_image_read_mtok", None)  # no image goes in where images are generated
        if "output_mtok" in units:
            units.setdefault("output_image_mtok", units["output_mtok"])
    if only is None and _is_one(model, _DRAW_IN_CHAT) and "output_image_mtok" not in units:
        return None
    if not units.keys() <= _BUCKETS.keys() or not {"input_mtok", "output_mtok"} <= units.keys():
        return None
    starts = sorted({tier.start for usd in units.values() for tier in getattr(usd, "tiers", ())})
    try:
        return Price(
            base=_rates(units, None),
            tiers=tuple((start, _rates(units, start)) for start in starts),
            source=source,
            only=only,
        )
    except ConfigurationError:
        return None


def _only(units: "dict[str, Decimal | TieredPrices]", model: str) -> str | None:
    """The one API that a model is for; None for chat completions, and what can be said by them."""
    if "output_mtok" not in units:
        return "embeddings" if _is_one(model, _EMBED) else None
    return "images" if _is_one(model, _DRAW_BY_OUTPUT) else None


def _is_one(model: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(model.lower(), pattern) for pattern in patterns)


def _rates(units: "dict[str, Decimal | TieredPrices]", start: int | None) -> Rates:
    """
    The rates of a prompt longer than ``start`` tokens, or of the shortest one.

    A figure finer than an atto-dollar a token (the data has some, such as 0.08333333333333334) is rounded up to one.
    """
    usd = {bucket: _at(units[unit], start) for unit, bucket in _BUCKETS.items() if unit in units}
    return rates_from_usd({name: each.quantize(_FINEST, ROUND_CEILING) for name, each in usd.items()}, "prices")


def _at(usd: "Decimal | TieredPrices", start: int | None) -> Decimal:
    """Both sides take a tier for a prompt of *more* than its start, so that starts carry over as they are."""
    if isinstance(usd, Decimal):
        return usd
    reached = [tier.price for tier in usd.tiers if start is not None and tier.start <= start]
    return reached[-1] if reached else usd.base
