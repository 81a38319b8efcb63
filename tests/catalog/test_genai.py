"""genai-prices, as price list: what a usage comes to by ours is what it comes to by theirs."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from time import tzset

import pytest
from genai_prices.types import (
    ClauseEquals,
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.types import Usage as TheirUsage
from listed import MOMENTS, PROVIDERS, THEIRS, at, dollars, found, listing, model

from hpp_middleware.catalog import genai
from hpp_middleware.core.price import cost, rates_for
from hpp_middleware.types.price import Price, Rates, Usage


def reported(usage: Usage) -> TheirUsage:
    """The same usage as genai-prices counts it: parts inside their wholes, and no part that is two things at once."""
    return TheirUsage(
        input_tokens=usage.prompt,
        cache_read_tokens=usage.cache_read + usage.cache_read_audio,
        cache_write_tokens=usage.cache_write,
        input_audio_tokens=usage.input_audio + usage.cache_read_audio,
        cache_audio_read_tokens=usage.cache_read_audio,
        cache_audio_write_tokens=0,
        output_tokens=usage.completion,
        output_reasoning_tokens=usage.reasoning,
        output_audio_tokens=usage.output_audio,
        output_audio_reasoning_tokens=0,
    )


def theirs(info: ModelInfo, provider: Provider, usage: Usage, moment: datetime) -> tuple[int, bool]:
    """Their total in nano-dollars, rounded up, and whether a figure of theirs is finer than an atto-dollar a token."""
    bill = info.calc_price(reported(usage), provider, genai_request_timestamp=moment)
    figures = [
        figure
        for each in vars(bill.model_price).values()
        if each is not None
        for figure in ([each] if isinstance(each, Decimal) else [each.base, *(tier.price for tier in each.tiers)])
    ]
    finer = any(int(figure.as_tuple().exponent) < -12 for figure in figures)
    return int((bill.total_price * 10**9).to_integral_value(ROUND_CEILING)), finer


def usages(price: Price, rng: random.Random) -> Iterator[Usage]:
    """Random usages of each kind that the price can bill, and prompts at, below and above each tier's start."""
    sizes = [rng.randrange(1, 10 ** rng.randrange(1, 7)) for _ in range(3)]
    sizes += [start + step for start, _ in price.tiers for step in (-1, 0, 1)]
    audio_in = all(rates.input_audio is not None for rates in (price.base, *(tier for _, tier in price.tiers)))
    audio_out = all(rates.output_audio is not None for rates in (price.base, *(tier for _, tier in price.tiers)))
    for prompt in sizes:
        output = rng.randrange(100_000)
        yield Usage(input=prompt, output=output)
        read, written = rng.randint(0, prompt // 2), rng.randint(0, prompt // 4)
        heard = rng.randint(0, prompt // 4) if audio_in else 0
        kept = rng.randint(0, heard) if audio_in and price.base.cache_read_audio is not None else 0
        thought = rng.randint(0, output // 2)
        spoken = rng.randint(0, output // 2) if audio_out else 0
        yield Usage(
            input=prompt - read - written - heard,
            cache_read=read,
            cache_write=written,
            input_audio=heard - kept,
            cache_read_audio=kept,
            output=output - thought - spoken,
            reasoning=thought,
            output_audio=spoken,
        )
    yield Usage()


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_price_comes_to_what_genai_prices_itself_calculates(provider: str, moment: datetime) -> None:
    rng = random.Random(f"{provider} {moment}")
    prices = at(moment)
    compared = 0
    for info in THEIRS[provider].models:
        for name in (info.id, *genai._names(info.match)):
            listed = prices.find(provider, name)
            if listed is None:
                continue
            matched = THEIRS[provider].find_model(name)
            assert matched is not None
            for usage in usages(listed[0], rng):
                expected, finer = theirs(matched, THEIRS[provider], usage, moment)
                excess = cost(usage, listed[0]) - expected
                assert excess in ({0, 1} if finer else {0}), (name, usage)
                compared += 1
            break
    assert compared >= 50


def test_the_sample_has_tiers_cached_reads_and_writes_audio_and_hours_of_the_day() -> None:
    prices = at(MOMENTS[1])
    listed = [found(prices, provider, name) for provider in PROVIDERS for name in prices.models(provider)]
    assert len(listed) > 900
    assert sum(len(price.tiers) for price in listed) > 20
    assert sum(len(price.tiers) > 1 for price in listed) >= 2
    for bucket in ("cache_read", "cache_write", "input_audio", "output_audio"):
        assert any(getattr(price.base, bucket) is not None for price in listed), bucket
    assert any(isinstance(info.prices, list) for info in THEIRS["deepseek"].models)


def test_tiers_of_different_fields_become_one_ascending_tuple_that_agrees_at_every_boundary() -> None:
    info = model(
        input_mtok=TieredPrices(dollars("1"), [Tier(200, dollars("3")), Tier(100, dollars("2"))]),
        output_mtok=TieredPrices(dollars("4"), [Tier(150, dollars("8"))]),
        cache_read_mtok=TieredPrices(dollars("0.1"), [Tier(100, dollars("0.2")), Tier(300, dollars("0.3"))]),
        cache_write_mtok=dollars("5"),
    )
    prices = listing(info)
    price = found(prices, "own", "m")
    assert [start for start, _ in price.tiers] == [100, 150, 200, 300]
    for prompt in range(1, 400):
        usage = Usage(input=prompt - prompt // 3, cache_read=prompt // 3, output=7)
        assert cost(usage, price) == theirs(info, THEIRS["openai"], usage, MOMENTS[0])[0], prompt
    assert rates_for(price, 100).input == price.base.input
    assert rates_for(price, 101).input == 2 * price.base.input


def test_dollars_a_million_become_atto_dollars_a_token_exactly() -> None:
    prices = listing(
        model(input_mtok=dollars("0.0375"), output_mtok=dollars("2.5"), output_reasoning_mtok=dollars("3"))
    )
    assert found(prices, "own", "m").base == Rates(input=37_500_000_000, output=2_500_000_000_000, reasoning=3 * 10**12)


def test_a_figure_finer_than_an_atto_dollar_a_token_is_rounded_up() -> None:
    prices = listing(model(input_mtok=dollars("0.08333333333333334"), output_mtok=dollars("1")))
    assert found(prices, "own", "m").base.input == 83_333_333_334


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host nine hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        tzset()
        yield
    tzset()


def test_a_price_follows_the_time_of_day_at_once_wherever_the_host_is(tokyo: None) -> None:
    day = ModelPrice(input_mtok=dollars("2"), output_mtok=dollars("4"))
    night = ModelPrice(input_mtok=dollars("1"), output_mtok=dollars("2"))
    info = ModelInfo(
        id="m",
        match=ClauseEquals("m"),
        prices=[
            ConditionalPrice(prices=night),
            ConditionalPrice(TimeOfDateConstraint(time(8, tzinfo=UTC), time(20, tzinfo=UTC)), prices=day),
        ],
    )
    now = datetime(2026, 11, 1, 7, 59, 59, tzinfo=UTC).timestamp()
    prices = listing(info)
    prices._clock = lambda: now
    assert found(prices, "own", "m").base.input == 10**12
    now += 1
    assert found(prices, "own", "m").base.input == 2 * 10**12
    now += 12 * 3600
    assert found(prices, "own", "m").base.input == 10**12


def test_a_price_changes_on_its_date() -> None:
    info = ModelInfo(
        id="m",
        match=ClauseEquals("m"),
        prices=[
            ConditionalPrice(prices=ModelPrice(input_mtok=dollars("1"), output_mtok=dollars("1"))),
            ConditionalPrice(
                StartDateConstraint(date(2026, 11, 2)),
                prices=ModelPrice(input_mtok=dollars("9"), output_mtok=dollars("9")),
            ),
        ],
    )
    before, after = datetime(2026, 11, 1, 23, 59, 59, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    assert found(listing(info, moment=before), "own", "m").base.input == 10**12
    assert found(listing(info, moment=after), "own", "m").base.input == 9 * 10**12


@pytest.mark.parametrize(
    "units",
    [
        {},
        {"input_mtok": dollars("1")},
        {"output_mtok": dollars("1")},
        {"input_mtok": dollars("1"), "output_mtok": None},
        {"input_mtok": dollars("1"), "output_mtok": dollars("1"), "requests_kcount": dollars("12")},
        {"input_mtok": dollars("1"), "output_mtok": dollars("1"), "cache_image_read_mtok": dollars("3")},
        {"input_mtok": dollars("1"), "output_mtok": dollars("1"), "output_video_mtok": dollars("2")},
        {"input_mtok": dollars("1"), "output_mtok": dollars("1"), "audio_hours": dollars("2")},
        {"input_mtok": dollars("1"), "output_mtok": dollars("1"), "a_unit_of_a_later_version": dollars("1")},
        {"input_mtok": dollars("-1"), "output_mtok": dollars("1")},
        {"input_mtok": dollars("10000000"), "output_mtok": dollars("1")},
    ],
    ids=str,
)
def test_a_bill_that_our_buckets_do_not_cover_is_no_price(units: dict[str, Decimal | None]) -> None:
    prices = listing(model(**units))
    assert prices.find("own", "m") is None
    assert prices.models("own") == []


def test_a_model_without_any_prices_is_unknown() -> None:
    assert listing(ModelInfo(id="m", match=ClauseEquals("m"))).find("own", "m") is None


def test_free_is_a_price_only_where_it_is_written() -> None:
    prices = listing(model(input_mtok=dollars("0"), output_mtok=dollars("0")))
    assert found(prices, "own", "m").base == Rates(input=0, output=0)
    assert at(MOMENTS[1]).find("openrouter", "deepseek/deepseek-r1:free") is None


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "tts-1"),
        ("openai", "whisper-1"),
        ("openai", "gpt-realtime"),
        ("azure", "davinci"),
        ("cloudflare", "@cf/baai/bge-reranker-base"),
        ("perplexity", "pplx-decider-v1.2"),
        ("openai", "gpt-4o-search-preview"),
        ("openai", "gpt-5-search-api"),
        ("openai", "o3-deep-research"),
        ("openai", "gpt-nobody-has-heard-of"),
        ("openai", ""),
        ("perplexity", "sonar-pro"),
        ("openrouter", "perplexity/sonar"),
        ("openrouter", "openai/gpt-4o:online"),
        ("mistral", "mistral-ocr-latest"),
        ("nobody", "gpt-5"),
        ("my-openai-proxy", "gpt-5"),
    ],
)
def test_what_is_no_chat_model_or_bills_more_than_tokens_is_unknown(provider: str, name: str) -> None:
    assert at(MOMENTS[1]).find(provider, name) is None


def test_searches_that_a_request_must_ask_for_do_not_hide_a_price() -> None:
    price = found(at(MOMENTS[1]), "openai", "gpt-5")
    assert price.base == Rates(
        input=1_250_000_000_000, output=10_000_000_000_000, cache_read=125_000_000_000, web_search=10 * 10**15
    )


def test_images_a_cache_that_lasts_an_hour_and_searches_have_rates_of_their_own() -> None:
    units = {"input_mtok": dollars("1"), "output_mtok": dollars("2"), "cache_write_1h_mtok": dollars("2.5")}
    units |= {"input_image_mtok": dollars("3"), "output_image_mtok": dollars("30")}
    base = found(listing(model(**units, web_searches_kcount=dollars("10"))), "own", "m").base
    assert (base.cache_write_1h, base.input_image, base.output_image) == (25 * 10**11, 3 * 10**12, 30 * 10**12)
    assert base.web_search == 10**16


@pytest.mark.parametrize(
    ("provider", "name", "usd"),
    [
        ("openai", "text-embedding-3-small", "0.02"),
        ("openai", "text-embedding-3-large", "0.13"),
        ("mistral", "codestral-embed-2505", "0.15"),
        ("google", "gemini-embedding-2", "0.2"),
        ("cloudflare", "@cf/baai/bge-m3", None),
        ("voyageai", "voyage-3.5", None),
    ],
)
def test_a_model_without_a_price_for_output_embeds_and_does_nothing_else(
    provider: str, name: str, usd: str | None
) -> None:
    listed = at(MOMENTS[1]).find(provider, name)
    assert listed is not None
    price, known = listed
    assert (price.only, price.base.output, known.output_modalities) == ("embeddings", 0, ("embeddings",))
    assert usd is None or price.base.input == int(Decimal(usd) * 10**12)
    assert price.base.input_audio is None


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("gpt-image-1", ("5", "40", "1.25", "10", "40")),
        ("gpt-image-1-mini", ("2", "8", "0.2", "2.5", "8")),
        ("gpt-image-1.5", ("5", "10", "1.25", "8", "32")),
        ("chatgpt-image-latest", ("5", "10", "1.25", "8", "32")),
        ("gpt-image-2", ("5", "30", "1.25", "8", "30")),
    ],
)
def test_what_an_image_model_draws_has_a_rate_of_its_own_or_is_all_of_its_output(
    name: str, rates: tuple[str, ...]
) -> None:
    listed = at(MOMENTS[1]).find("openai", name)
    assert listed is not None
    price, known = listed
    figures = [int(Decimal(figure) * 10**12) for figure in rates]
    names = ("input", "output", "cache_read", "input_image", "output_image")
    assert price.base == Rates(**dict(zip(names, figures, strict=True)))
    assert (price.only, known.output_modalities) == ("images", ("image",))


def test_a_model_that_draws_in_chat_has_a_price_for_both() -> None:
    price = found(at(MOMENTS[1]), "google", "gemini-2.5-flash-image")
    assert (price.only, price.base.output, price.base.output_image) == (None, 25 * 10**11, 30 * 10**12)


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openrouter", "google/gemini-2.5-flash-image"),
        ("openrouter", "google/gemini-3-pro-image-preview"),
        ("openrouter", "google/gemini-nano-banana-2.1"),
        ("openrouter", "openai/gpt-5-image"),
        ("openrouter", "openai/GPT-5-Image-mini"),
        ("openai", "gpt-5-image"),
        ("novita", "ming-image-0.1-design"),
    ],
)
def test_a_model_that_draws_in_chat_at_the_price_of_text_is_unknown(provider: str, name: str) -> None:
    prices = at(MOMENTS[1])
    assert prices.find(provider, name) is None
    assert name not in prices.models(provider)


def test_a_model_that_draws_does_not_get_the_price_of_one_that_does_not() -> None:
    info = ModelInfo(
        id="flash",
        match=ClauseStartsWith("flash"),
        prices=ModelPrice(input_mtok=dollars("1"), output_mtok=dollars("1")),
    )
    assert listing(info).find("own", "flash-2") is not None
    assert listing(info).find("own", "flash-2-image") is None


def test_cached_audio_has_a_rate_of_its_own_and_a_model_that_bills_its_writing_hears_none() -> None:
    units = {"input_mtok": dollars("1"), "output_mtok": dollars("2"), "input_audio_mtok": dollars("10")}
    units |= {"cache_read_mtok": dollars("0.1"), "cache_audio_read_mtok": dollars("5")}
    base = found(listing(model(**units)), "own", "m").base
    assert (base.input_audio, base.cache_read_audio) == (10**13, 5 * 10**12)
    base = found(listing(model(**units, cache_audio_write_mtok=dollars("7"))), "own", "m").base
    assert (base.input_audio, base.cache_read_audio) == (None, None)
