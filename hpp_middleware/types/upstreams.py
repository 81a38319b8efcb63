"""One of several upstreams of a provider: another key, region or deployment for the same models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from hpp_middleware.errors import ConfigurationError

__all__ = ["Choice", "Upstream"]

Choice = Literal["weighted", "least_busy", "latency", "cheapest"]
"""Which of a provider's upstreams is asked first: see :mod:`hpp_middleware.core.balance`."""

MOST_FACTOR = 1000
MOST_PLACES = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """
    One of several; what it leaves out is the provider's.

    Attributes:
        name: In the ledger, logs and events, and never told to clients: letters, digits, ``-`` and ``_``.
        base_url: Where it is.
        api_key: The operator's key there.
        headers: Extra request headers, besides the provider's, and over them.
        options: What its dialect needs (a region, a deployment), besides the provider's, and over them.
        weight: Its share of the requests, against the others'.
        price_factor: What its tokens cost, times the model's price: exact, as it is held for and billed.
    """

    name: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    weight: float = 1.0
    price_factor: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").replace("_", "").isalnum() or not self.name.isascii() or len(self.name) > 64:
            raise ConfigurationError("name must be 1 to 64 letters, digits, - and _", param="name")
        if not 0 < self.weight <= 1e9:
            raise ConfigurationError("weight must be above 0", param="weight")
        factor = self.price_factor
        if not factor.is_finite() or not 0 <= factor <= MOST_FACTOR:
            raise ConfigurationError(f"price_factor must be from 0 to {MOST_FACTOR}", param="price_factor")
        if -int(factor.as_tuple().exponent) > MOST_PLACES:
            raise ConfigurationError(f"price_factor has more than {MOST_PLACES} decimal places", param="price_factor")
