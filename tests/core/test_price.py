"""What tokens cost: exact, summed first, rounded once and up."""

import ast
import decimal
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rounds import rounds

import hpp_middleware.core
from hpp_middleware.core import price as pricing
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.price import Price, Rates, Usage

FALLBACK = {
    "input": "input",
    "cache_read": "input",
    "cache_read_audio": "input_audio",
    "cache_write": "input",
    "cache_write_1h": "input",
    "input_audio": "input",
    "input_image": "input",
    "tool_prompt": "input",
    "output": "output",
    "reasoning": "output",
    "output_audio": "output",
    "output_image": "output",
}
TWICE = {"cache_write_1h"}
BUCKETS = tuple(FALLBACK)

ASKED_FOR = {"input_audio", "input_image", "cache_write_1h", "tool_prompt", "output_audio"}
"""Buckets that only a request that asks for them can fill."""

rate = st.integers(0, 10**15)
rates = st.builds(
    Rates, **{name: rate if name in {"input", "output"} else st.none() | rate for name in (*BUCKETS, "web_search")}
)
tiers = st.dictionaries(st.integers(0, 10**6), rates, max_size=3).map(lambda found: tuple(sorted(found.items())))
prices = st.builds(Price, base=rates, tiers=tiers)
count = st.integers(0, 2 * 10**6)
usages = st.builds(Usage, **dict.fromkeys((*BUCKETS, "web_searches"), count))


def exactly(usage: Usage, price: Price) -> Fraction:
    """The cost in nano-dollars, by fractions."""
    applied = price.base
    for start, tier in price.tiers:
        if usage.prompt > start:
            applied = tier
    total = Fraction(usage.web_searches * (applied.web_search or 0), 10**9)
    for bucket in BUCKETS:
        total += getattr(usage, bucket) * Fraction(_rate(applied, bucket), 10**9)
    return total


def _rate(rates: Rates, bucket: str) -> int:
    own: int | None = getattr(rates, bucket)
    return _rate(rates, FALLBACK[bucket]) * (2 if bucket in TWICE else 1) if own is None else own


def test_every_bucket_is_in_these_tests_and_has_a_rate() -> None:
    assert {*BUCKETS, "web_searches"} == set(Usage.__struct_fields__)
    assert {*BUCKETS, "web_search"} == set(Rates.__struct_fields__) == set(pricing.RATES)


@settings(max_examples=rounds(1_000, soak=10_000), deadline=None)
@given(
    st.lists(rate, min_size=len(BUCKETS), max_size=len(BUCKETS)),
    st.lists(count, min_size=len(BUCKETS), max_size=len(BUCKETS)),
)
def test_cost_is_the_exact_sum_rounded_up_once(rate_of: list[int], count_of: list[int]) -> None:
    usage = Usage(**dict(zip(BUCKETS, count_of, strict=True)))
    price = Price(base=Rates(**dict(zip(BUCKETS, rate_of, strict=True))))
    assert pricing.cost(usage, price) == ceil(exactly(usage, price))


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
@given(usages, prices)
def test_so_it_is_with_tiers_and_rates_left_out(usage: Usage, price: Price) -> None:
    assert pricing.cost(usage, price) == ceil(exactly(usage, price))


def test_a_fraction_of_a_nano_dollar_costs_one() -> None:
    one_atto = Price(base=Rates(input=1, output=1))
    assert pricing.cost(Usage(input=1), one_atto) == 1
    assert pricing.cost(Usage(input=10**9), one_atto) == 1
    assert pricing.cost(Usage(input=10**9, output=1), one_atto) == 2
    assert pricing.cost(Usage(), one_atto) == 0


def test_rounding_is_once_a_request_and_not_once_a_token() -> None:
    price = Price(base=pricing.rates_from_usd({"input": "0.0375", "output": "0"}, "m"))
    assert price.base.input == 37_500_000_000
    assert pricing.cost(Usage(input=3), price) == 113  # 112.5, and not 3 x 38


def test_a_prompt_past_a_tier_is_billed_wholly_at_it() -> None:
    base, long, longest = (Rates(input=n * 10**9, output=n * 10**9) for n in (1, 2, 5))
    price = Price(base=base, tiers=((1000, long), (2000, longest)))
    assert pricing.cost(Usage(input=1000, output=1), price) == 1001
    assert pricing.cost(Usage(input=1001, output=1), price) == 2004
    assert pricing.cost(Usage(input=500, cache_read=500, output=1), price) == 1001
    assert pricing.cost(Usage(input=500, cache_read=501, output=1), price) == 2004
    assert pricing.cost(Usage(input=2001), price) == 10_005
    assert pricing.cost(Usage(input=1, output=10**6), price) == 10**6 + 1  # the output is no reason


def test_a_rate_of_its_own_wins_even_if_it_is_zero() -> None:
    price = Price(base=Rates(input=10**9, output=10**9, cache_read=0, reasoning=0))
    assert pricing.cost(Usage(input=1, cache_read=100, reasoning=100), price) == 1
    assert pricing.cost(Usage(cache_write=100), price) == 100


@settings(max_examples=rounds(200, soak=500), deadline=None)
@given(usage=usages, price=prices, parts=st.sets(st.sampled_from(sorted(ASKED_FOR))))
def test_no_usage_is_dearer_than_the_dearest_rates(usage: Usage, price: Price, parts: set[str]) -> None:
    usage = replace(usage, **dict.fromkeys(ASKED_FOR - parts, 0), web_searches=0)
    if "input_audio" not in parts:
        usage = replace(usage, cache_read_audio=0)
    if all(rates.output_image is None for rates in (price.base, *(tier for _, tier in price.tiers))):
        usage = replace(usage, output_image=0)  # such a model draws nothing
    into, out = pricing.dearest(
        price,
        usage.prompt,
        audio_input="input_audio" in parts,
        image_input="input_image" in parts,
        long_cache="cache_write_1h" in parts,
        tool_prompt="tool_prompt" in parts,
        output=frozenset({"audio"} if "output_audio" in parts else ()),
    )
    assert exactly(usage, price) * 10**9 <= usage.prompt * into + usage.completion * out


def test_a_tier_that_the_prompt_cannot_reach_is_not_held_for() -> None:
    price = Price(base=Rates(input=1, output=2), tiers=((1000, Rates(input=10, output=20)),))
    assert pricing.dearest(price, 1000) == (1, 2)
    assert pricing.dearest(price, 1001) == (10, 20)


decimals = st.builds(
    lambda whole, fraction: f"{whole}.{fraction}" if fraction else str(whole),
    st.integers(0, 8_999_999),
    st.text("0123456789", max_size=12),
)


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
@given(decimals)
def test_a_rate_of_up_to_twelve_decimals_is_exact(text: str) -> None:
    found = pricing.per_token(text, "rate")
    assert found == Fraction(text) * 10**12
    assert Fraction(pricing.per_million(found)) == Fraction(text)
    assert Fraction(pricing.token_dollars(found)) == Fraction(text) / 10**6
    assert pricing.per_token(pricing.per_million(found), "rate") == found


@given(st.integers(-(10**16), 10**16))
def test_dollars_are_exact_json_numbers_and_come_back(nano: int) -> None:
    text = pricing.dollars(nano)
    assert Fraction(text) == Fraction(nano, 10**9)
    assert "e" not in text.lower()
    if 0 <= nano <= 9 * 10**15:
        assert pricing.nano_from_usd(text) == nano


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (10**9, "1"),
        (12_500_000_000, "12.5"),
        (-1, "-0.000000001"),
        (-1_500_000_000, "-1.5"),
    ],
)
def test_dollars_have_no_needless_zeros(nano: int, text: str) -> None:
    assert pricing.dollars(nano) == text


@pytest.mark.parametrize("precision", [1, 6, 50])
def test_the_hosts_decimal_context_changes_no_price(precision: int) -> None:
    with decimal.localcontext() as context:
        context.prec = precision
        context.rounding = decimal.ROUND_UP
        context.traps[decimal.Inexact] = True
        assert pricing.per_token("1234567.123456789012", "rate") == 1_234_567_123_456_789_012
        assert pricing.nano_from_usd(Decimal("8999999.123456789")) == 8_999_999_123_456_789
        assert pricing.dollars(8_999_999_123_456_789) == "8999999.123456789"
        assert pricing.per_million(1_234_567_123_456_789_012) == "1234567.123456789012"


BAD = [
    "",
    "abc",
    "-1",
    "-0.000000001",
    "NaN",
    "sNaN",
    "Infinity",
    "-inf",
    "1,5",
    "$5",
    "0x10",
    "9000000.01",
    "1e7",
    "1" * 400,
]


@pytest.mark.parametrize(
    "text", [*BAD, "0.0000000000001", "1." + "0" * 30 + "1", "1e-13", "1e-999999", "1e-999999999999"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        pricing.per_token(text, "models.x.input")
    assert caught.value.param == "models.x.input"


@pytest.mark.parametrize("text", [*BAD, "0.0000000001", "1." + "0" * 30 + "1", "1e-10"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        pricing.nano_from_usd(text)


@pytest.mark.parametrize("value", [1.5, 0.1, True, False, None, b"1", [1]])
def test_a_rate_that_is_no_string_or_whole_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="string"):
        pricing.per_token(value, "rate")  # type: ignore[arg-type]  # what a file may hold


@pytest.mark.parametrize(
    ("text", "nano"), [("5.00", 5 * 10**9), ("9000000", 9 * 10**15), ("1." + "0" * 40, 10**9), ("-0", 0)]
)
def test_amounts_read_as_written(text: str, nano: int) -> None:
    assert pricing.nano_from_usd(text) == nano


def test_rates_name_what_is_missing_or_unknown() -> None:
    with pytest.raises(ConfigurationError, match=r"m\.output is missing"):
        pricing.rates_from_usd({"input": "1"}, "m")
    with pytest.raises(ConfigurationError, match=r"m\.output is missing"):
        pricing.rates_from_usd({"input": "1", "output": None}, "m")
    with pytest.raises(ConfigurationError, match=r"m\.outptu is not a rate"):
        pricing.rates_from_usd({"input": "1", "outptu": "1"}, "m")
    free = pricing.rates_from_usd({"input": "0", "output": 0, "cache_read": None}, "m")
    assert free == Rates(input=0, output=0)


MONEY = ("price", "quota", "settlement", "bound", "usage")
FORBIDDEN = {"time", "datetime", "random", "secrets", "uuid", "math", "statistics"}


@pytest.mark.parametrize("module", MONEY)
def test_no_float_clock_or_chance_is_in_a_money_module(module: str) -> None:
    source = Path(hpp_middleware.core.__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    faults = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=float()) if not (module == "quota" and node.value == 0.0):  # a tombstone's deadline
                faults.append(f"line {node.lineno}: {node.value!r}")
            case ast.Call(func=ast.Name(id="float" | "round" as name)):
                faults.append(f"line {node.lineno}: {name}()")
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                faults.append(f"line {node.lineno}: /")
            case ast.Import(names=names):
                faults += [each.name for each in names if each.name.partition(".")[0] in FORBIDDEN]
            case ast.ImportFrom(module=str(name)) if name.partition(".")[0] in FORBIDDEN:
                faults.append(name)
            case _:
                pass
    assert faults == []


@given(
    rates=st.builds(Rates, input=st.integers(0, 10**15), output=st.integers(0, 10**15), cache_read=st.integers(0, 9)),
    factor=st.decimals(0, 1000, places=9),
)
def test_a_scaled_price_is_exact_and_rounded_up_by_less_than_an_atto_dollar(rates: Rates, factor: Decimal) -> None:
    price = Price(base=rates, tiers=((10, Rates(input=7, output=3)),), only="embeddings")
    found = pricing.scaled(price, factor)
    for name in ("input", "output", "cache_read"):
        exact = Fraction(getattr(rates, name)) * Fraction(factor)
        assert exact <= getattr(found.base, name) < exact + 1
    assert (found.base.cache_write, found.only, found.tiers[0][0]) == (None, "embeddings", 10)
    assert found.tiers[0][1].input == ceil(7 * Fraction(factor))


def test_a_factor_of_one_changes_nothing_and_any_other_stands_in_the_source() -> None:
    price = Price(base=Rates(input=10, output=20))
    assert pricing.scaled(price, Decimal("1.0")) is price
    assert pricing.scaled(price, Decimal("1.1")).source == "configuration x 1.1"
    assert pricing.scaled(price, Decimal("1.1")).base == Rates(input=11, output=22)


@given(st.integers(0, 10**7), prices)
def test_a_prompt_alone_costs_what_its_usage_does(tokens: int, price: Price) -> None:
    assert pricing.prompt_cost(tokens, price) == pricing.cost(Usage(input=tokens), price)
