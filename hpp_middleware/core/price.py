"""
What tokens cost: exact, summed first and rounded once, up to a nano-dollar.

Amount = a pure function of usage and price snapshot; it can be computed again from the ledger row alone.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.price import Price, Rates, Usage

__all__ = [
    "ATTO_PER_NANO",
    "RATES",
    "cost",
    "dearest",
    "dollars",
    "lacks_rate",
    "nano_from_usd",
    "per_million",
    "per_token",
    "prompt_cost",
    "rates_for",
    "rates_from_usd",
    "scaled",
    "token_dollars",
]

ATTO_PER_NANO = 10**9
NANO_PER_USD = 10**9
ATTO_PER_TOKEN = 10**12
"""One dollar a million tokens, in atto-dollars a token."""

RATES = (
    "input",
    "output",
    "cache_read",
    "cache_read_audio",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "input_audio",
    "input_image",
    "tool_prompt",
    "output_audio",
    "output_image",
    "web_search",
)


def rates_for(price: Price, prompt_tokens: int) -> Rates:
    """The rates of a prompt of this size: the last tier that it is longer than."""
    rates = price.base
    for start, tier in price.tiers:
        if prompt_tokens > start:
            rates = tier
    return rates


def scaled(price: Price, factor: Decimal) -> Price:
    """A price times a factor: each rate exactly, and only what is finer than an atto-dollar rounded, up."""
    if factor == 1:
        return price
    over, under = factor.as_integer_ratio()

    def each(rates: Rates) -> Rates:
        said = {name: getattr(rates, name) for name in RATES}
        return Rates(**{name: -(-rate * over // under) for name, rate in said.items() if rate is not None})

    return Price(
        base=each(price.base),
        tiers=tuple((start, each(rates)) for start, rates in price.tiers),
        source=f"{price.source} x {factor}",
        only=price.only,
    )


def cost(usage: Usage, price: Price) -> int:
    """
    What this usage costs, in nano-dollars.

    Each bucket is priced once; the sum is rounded once, up.
    """
    rates = rates_for(price, usage.prompt) if price.tiers else price.base
    into, out = rates.input, rates.output
    atto = usage.input * into + usage.output * out
    if usage.cache_read:
        atto += usage.cache_read * _or(rates.cache_read, into)
    if usage.cache_write:
        atto += usage.cache_write * _or(rates.cache_write, into)
    if usage.input_audio or usage.cache_read_audio:
        heard = _or(rates.input_audio, into)
        atto += usage.input_audio * heard + usage.cache_read_audio * _or(rates.cache_read_audio, heard)
    if usage.reasoning:
        atto += usage.reasoning * _or(rates.reasoning, out)
    if usage.output_audio:
        atto += usage.output_audio * _or(rates.output_audio, out)
    if usage.cache_write_1h or usage.input_image or usage.tool_prompt or usage.output_image or usage.web_searches:
        atto += _seldom(usage, rates)
    return -(-atto // ATTO_PER_NANO)


def lacks_rate(usage: Usage, price: Price) -> bool:
    """Whether there are tokens of a kind that cannot be priced, and cost what text does, or searches, which cost 0."""
    rates = rates_for(price, usage.prompt)
    return bool(
        (rates.input_audio is None and (usage.input_audio or usage.cache_read_audio))
        or (rates.output_audio is None and usage.output_audio)
        or (rates.output_image is None and usage.output_image)
        or (rates.web_search is None and usage.web_searches)
    )


def prompt_cost(tokens: int, price: Price) -> int:
    """What a prompt of so many plain tokens costs, without an answer, in nano-dollars."""
    rates = rates_for(price, tokens) if price.tiers else price.base
    return -(-tokens * rates.input // ATTO_PER_NANO)


def _seldom(usage: Usage, rates: Rates) -> int:
    """What the buckets cost that few exchanges have."""
    return (
        usage.cache_write_1h * _or(rates.cache_write_1h, 2 * rates.input)
        + usage.input_image * _or(rates.input_image, rates.input)
        + usage.tool_prompt * _or(rates.tool_prompt, rates.input)
        + usage.output_image * _or(rates.output_image, rates.output)
        + usage.web_searches * (rates.web_search or 0)
    )


def dearest(
    price: Price,
    prompt_tokens: int,
    *,
    audio_input: bool = False,
    image_input: bool = False,
    long_cache: bool = False,
    tool_prompt: bool = False,
    output: frozenset[str] = frozenset(),
) -> tuple[int, int]:
    """
    The dearest input and output rates, atto-dollars a token, that a prompt of at most this size can be billed at.

    Args:
        price: The model's.
        prompt_tokens: A tier that so many tokens do not reach does not count.
        audio_input: Whether audio takes part.
        image_input: Whether images do.
        long_cache: Whether some of the prompt may be written to a cache that lasts an hour.
        tool_prompt: Whether the provider's own tools may put something into it.
        output: What may come out besides text: ``audio``. Images do of every model that has a price for them.
    """
    rates = price.base
    if not (price.tiers or audio_input or image_input or long_cache or tool_prompt or output or rates.output_image):
        return max(rates.input, rates.cache_read or 0, rates.cache_write or 0), max(rates.output, rates.reasoning or 0)
    into = out = 0
    for start, rates in ((-1, price.base), *price.tiers):
        if prompt_tokens > start:
            heard = max(rates.input_audio or 0, rates.cache_read_audio or 0) if audio_input else 0
            seen = (rates.input_image if image_input else None) or 0
            kept = _or(rates.cache_write_1h, 2 * rates.input) if long_cache else 0
            used = (rates.tool_prompt if tool_prompt else None) or 0
            into = max(into, rates.input, rates.cache_read or 0, rates.cache_write or 0, heard, seen, kept, used)
            spoken = (rates.output_audio if "audio" in output else None) or 0
            out = max(out, rates.output, rates.reasoning or 0, spoken, rates.output_image or 0)
    return into, out


def rates_from_usd(rates: Mapping[str, Decimal | str | int | None], where: str) -> Rates:
    """
    Rates from dollars a million tokens.

    Args:
        rates: ``input`` and ``output``, and any other of :data:`RATES`: USD per million tokens; ``web_search``: USD per
            thousand searches.
        where: What to call them in an error.
    Raises:
        ConfigurationError: A rate is missing, negative, no number, or finer than 10^-12 dollars a million.
    """
    unknown = sorted(set(rates) - set(RATES))
    if unknown:
        raise ConfigurationError(f"{where}.{unknown[0]} is not a rate", param=f"{where}.{unknown[0]}")
    found = {name: per_token(value, f"{where}.{name}") for name, value in rates.items() if value is not None}
    if "web_search" in found:
        found["web_search"] *= 1000  # by the thousand, not by the million
    for name in ("input", "output"):
        if name not in found:
            raise ConfigurationError(f'{where}.{name} is missing (free is written as "0")', param=f"{where}.{name}")
    return Rates(**found)


def per_token(usd_per_million: Decimal | str | int, where: str) -> int:
    """
    Atto-dollars a token from dollars a million tokens, exactly.

    Raises:
        ConfigurationError: It is negative, no number, or has more than 12 decimal places.
    """
    rate = _shifted(_decimal(usd_per_million, where), 12)
    if rate is None:
        raise ConfigurationError(f"{where} has more than 12 decimal places", param=where)
    return rate


def per_million(rate: int) -> str:
    """Dollars a million tokens, as an exact decimal string, from atto-dollars a token."""
    return _plain(rate, 12)


def nano_from_usd(usd: Decimal | str | int, where: str = "amount") -> int:
    """
    Nano-dollars from dollars, exactly.

    Raises:
        ConfigurationError: It is negative, no number, finer than a nano-dollar, or above the largest quota.
    """
    nano = _shifted(_decimal(usd, where), 9)
    if nano is None:
        raise ConfigurationError(f"{where} is finer than a nano-dollar (9 decimal places)", param=where)
    return nano


def dollars(nano: int) -> str:
    """Dollars as an exact decimal number, which is JSON as it stands."""
    return _plain(nano, 9)


def token_dollars(rate: int) -> str:
    """Dollars a token as an exact decimal number, from atto-dollars a token."""
    return _plain(rate, 18)


def _decimal(value: Decimal | str | int, where: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (Decimal, str, int)):
        raise ConfigurationError(f'{where} must be written as a string, such as "2.50"', param=where)
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ConfigurationError(f"{where} is not a decimal number", param=where) from None
    if not number.is_finite() or number < 0:
        raise ConfigurationError(f"{where} must be a number of at least 0", param=where)
    if number > 9_000_000:
        raise ConfigurationError(f"{where} must not be above 9000000", param=where)
    return number


def _or(rate: int | None, base: int) -> int:
    return base if rate is None else rate


def _shifted(number: Decimal, places: int) -> int | None:
    """
    The number times 10^places if that is whole, else None.

    By integers alone: Decimal's own arithmetic rounds to whatever precision the host program has set.
    """
    if number and number.adjusted() < -places:
        return None
    numerator, denominator = number.as_integer_ratio()
    whole, rest = divmod(numerator * 10**places, denominator)
    return None if rest else whole


def _plain(number: int, places: int) -> str:
    """The number over 10^places as a decimal, exactly."""
    if number < 0:
        return f"-{_plain(-number, places)}"
    whole, fraction = divmod(number, 10**places)
    return f"{whole}.{fraction:0{places}}".rstrip("0") if fraction else str(whole)
