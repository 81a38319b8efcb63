"""How much a request can cost at most: no usage within its bounds costs more than its hold."""

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core import price as pricing
from hpp_middleware.core.bound import IMAGE_TOKENS, Bound, bound, cap_within, default_cap, own_cap
from hpp_middleware.core.quota import granted
from hpp_middleware.types.completion import Drawing, Images, Request, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

LIMITS = Limits()
DOLLAR = 10**12
PRICE = Price(base=Rates(input=DOLLAR, output=10 * DOLLAR))


def target(price: Price = PRICE, *, name: str = "m", bytes_per_token: int = 2, **model: Any) -> Target:
    return Target(
        id=f"p/{name}",
        provider_name="p",
        model_name=name,
        provider=Provider(base_url="https://p.test", bytes_per_token=bytes_per_token),
        model=Model(**model),
        price=price,
    )


def asked(**fields: Any) -> Request:
    return Request(fields={}, model="p/m", **fields)


def held(request: Request, where: Target, sent_bytes: int = 1000, limits: Limits = LIMITS, **more: Any) -> Bound:
    return bound(request, where, sent_bytes=sent_bytes, limits=limits, **more)


def test_a_hold_is_the_prompts_bytes_over_two_and_n_times_the_cap() -> None:
    found = held(asked(n=3, cap=100), target(), 1001)
    assert found.want == found.floor == (501 * DOLLAR + 3 * 100 * 10 * DOLLAR) // 10**9
    assert (found.cap, found.n, found.ours) == (100, 3, False)
    assert held(asked(cap=1), target(bytes_per_token=1), 1001).prompt == 1001 * DOLLAR


@pytest.mark.parametrize(
    ("model", "limits", "cap"),
    [
        ({}, LIMITS, 16_384),
        ({"max_output": 4096}, LIMITS, 4096),
        ({"max_output": 100_000}, LIMITS, 16_384),
        ({"default_cap": 500}, LIMITS, 500),
        ({"default_cap": 50_000, "max_output": 8192}, LIMITS, 8192),
        ({"default_cap": 50_000}, LIMITS, 50_000),
        ({}, Limits(default_cap=99), 99),
    ],
)
def test_without_a_cap_ours_is_the_smaller_of_the_models_maximum_and_the_setting(
    model: dict[str, Any], limits: Limits, cap: int
) -> None:
    where = target(**model)
    assert default_cap(where, limits) == cap
    found = held(asked(), where, limits=limits)
    assert (found.cap, found.ours) == (cap, True)


def test_no_lower_grant_is_taken_than_a_call_can_do_with() -> None:
    plain, drawing = held(asked(), target()), held(asked(), target(), least_cap=2_520)
    assert plain.want == drawing.want
    assert (drawing.floor - plain.floor) * 10**9 == (2_520 - LIMITS.cap_floor) * 10 * DOLLAR
    assert cap_within(drawing, drawing.floor) >= 2_520
    small = held(asked(), target(max_output=100), least_cap=2_520)
    assert small.floor == small.want


def test_a_clients_cap_is_held_for_up_to_what_the_model_can_do() -> None:
    assert held(asked(cap=999_999_999), target(max_output=4096)).cap == 4096
    assert held(asked(cap=999_999_999), target()).cap == 999_999_999
    assert held(asked(cap=10), target(max_output=4096, default_cap=20)).cap == 10


@pytest.mark.parametrize("cap", [1, 4095, 4096, 4097, 999_999_999])
@pytest.mark.parametrize("n", [1, 3])
def test_a_maximum_that_a_catalogue_tells_makes_no_hold_smaller(cap: int, n: int) -> None:
    """The model may do more by now: what the client may get is what is held."""
    presumed = msgspec.structs.replace(target(max_output=4096), vouched=False)
    assert held(asked(cap=cap, n=n), presumed) == held(asked(cap=cap, n=n), target())


def test_a_cap_of_ours_goes_by_a_catalogues_maximum_unless_the_operator_has_set_one() -> None:
    presumed = msgspec.structs.replace(target(max_output=4096), vouched=False)
    assert default_cap(presumed, LIMITS) == held(asked(), presumed).cap == 4096
    assert default_cap(msgspec.structs.replace(target(max_output=100_000), vouched=False), LIMITS) == 16_384
    own = msgspec.structs.replace(target(max_output=4096, default_cap=8192), vouched=False)
    assert default_cap(own, LIMITS) == held(asked(), own).cap == 8192


def test_a_cap_of_ours_can_be_lowered_to_256_tokens_and_a_clients_cannot() -> None:
    ours = held(asked(n=2), target())
    assert ours.floor == (500 * DOLLAR + 2 * 256 * 10 * DOLLAR) // 10**9
    assert cap_within(ours, ours.floor) == 256
    assert cap_within(ours, ours.want) == ours.cap
    theirs = held(asked(n=2, cap=1000), target())
    assert theirs.floor == theirs.want
    small = held(asked(), target(max_output=100))
    assert small.floor == small.want


def test_inline_images_are_held_for_by_count_and_not_by_their_bytes() -> None:
    plain = held(asked(cap=1), target(), 1000)
    inline = held(asked(cap=1, images=Images(2, 1_000_000)), target(), 1_001_000)
    linked = held(asked(cap=1, images=Images(2, 0)), target(), 1000)
    assert inline == linked
    assert inline.prompt - plain.prompt == 2 * IMAGE_TOKENS * DOLLAR
    assert inline.prompt_estimate == 250 + 2 * IMAGE_TOKENS


@pytest.mark.parametrize(
    ("name", "model", "tokens"),
    [
        ("m", {}, IMAGE_TOKENS),
        ("m", {"image_tokens": 700}, 700),
        ("m", {"image_tokens": 0}, 0),
        ("gpt-4o-mini", {}, 48_169),
        ("gpt-4o-mini-2024-07-18", {}, 48_169),
        ("openai/gpt-4o-mini", {}, 48_169),
        ("OpenAI/GPT-4o-mini", {}, 48_169),
        ("gpt-4o", {}, IMAGE_TOKENS),
        ("gpt-4o-mini", {"image_tokens": 700}, 700),
    ],
)
def test_an_image_is_held_for_at_the_models_maximum(name: str, model: dict[str, Any], tokens: int) -> None:
    found = held(asked(cap=1, images=Images(1, 0)), target(name=name, **model), 0)
    assert found.prompt == tokens * DOLLAR


def test_a_long_prompt_is_held_for_at_the_dearest_tier_it_can_reach() -> None:
    tiered = Price(base=PRICE.base, tiers=((1000, Rates(input=2 * DOLLAR, output=15 * DOLLAR)),))
    below, above = held(asked(cap=1), target(tiered), 2000), held(asked(cap=1), target(tiered), 2001)
    assert (below.prompt, below.out_rate) == (1000 * DOLLAR, 10 * DOLLAR)
    assert (above.prompt, above.out_rate) == (1001 * 2 * DOLLAR, 15 * DOLLAR)


def test_cache_writes_reasoning_and_audio_count_where_they_are_dearer() -> None:
    rates = Rates(input=1, output=2, cache_write=5, reasoning=7, input_audio=11, output_audio=13)
    where = target(Price(base=rates))
    text = held(asked(cap=1), where, 2)
    heard = held(asked(cap=1, audio_input=True, output_modalities=frozenset({"audio"})), where, 2)
    assert (text.prompt, text.out_rate) == (5, 7)
    assert (heard.prompt, heard.out_rate) == (11, 13)


def test_a_free_model_holds_nothing() -> None:
    found = held(asked(), target(Price(base=Rates(input=0, output=0))))
    assert (found.want, found.floor, found.orphan_amount, cap_within(found, 0)) == (0, 0, 0, 16_384)


def test_an_orphan_is_charged_by_its_policy_and_never_more_than_the_hold() -> None:
    assert held(asked(cap=10), target(), orphan="estimate").orphan_amount == 250 * DOLLAR // 10**9
    found = held(asked(cap=10), target(), orphan="hold")
    assert found.orphan_amount == found.want
    assert held(asked(cap=10), target(), orphan="free").orphan_amount == 0
    low = held(asked(cap=1), target(bytes_per_token=400), orphan="estimate")
    assert low.orphan_amount == low.want


rate = st.integers(0, 10**14)
own_rate = st.none() | rate
rates = st.builds(
    Rates,
    input=rate,
    output=rate,
    cache_read=own_rate,
    cache_write=own_rate,
    reasoning=own_rate,
    input_audio=rate,
    output_audio=rate,
)
tiers = st.dictionaries(st.integers(0, 5000), rates, max_size=3).map(lambda found: tuple(sorted(found.items())))
prices = st.builds(Price, base=rates, tiers=tiers)
requests = st.builds(
    asked,
    n=st.integers(1, 16),
    cap=st.none() | st.integers(1, 5000),
    images=st.builds(Images, st.integers(0, 3), st.just(0)),
    audio_input=st.booleans(),
    output_modalities=st.sampled_from([frozenset(), frozenset({"audio"})]),
)


def draw_usage(data: st.DataObject, request: Request, prompt: int, output: int) -> Usage:
    """Any usage of at most so many tokens each way, in any buckets."""
    into: dict[str, int] = {}
    for name in ("cache_read", "cache_write", *(("input_audio",) if request.audio_input else ()), "input"):
        into[name] = data.draw(st.integers(0, prompt), label=name)
        prompt -= into[name]
    for name in ("reasoning", *(("output_audio",) if request.output_modalities else ()), "output"):
        into[name] = data.draw(st.integers(0, output) | st.just(output), label=name)
        output -= into[name]
    return Usage(**into)


@settings(max_examples=rounds(150, soak=400), deadline=None)
@given(requests, prices, st.integers(0, 20_000), st.integers(1, 4), st.data())
def test_no_usage_within_the_bounds_costs_more_than_the_hold(
    request: Request, price: Price, sent_bytes: int, bytes_per_token: int, data: st.DataObject
) -> None:
    where = target(price, bytes_per_token=bytes_per_token, image_tokens=700, max_output=4000)
    found = held(request, where, sent_bytes)
    assert 0 <= found.orphan_amount <= found.want
    assert 0 <= found.floor <= found.want
    most_prompt = -(-sent_bytes // bytes_per_token) + 700 * request.images.count
    usage = draw_usage(data, request, most_prompt, request.n * found.cap)
    assert pricing.cost(usage, price) <= found.want


@settings(max_examples=rounds(150, soak=400), deadline=None)
@given(requests, prices, st.integers(0, 20_000), st.integers(0, 10**11), st.data())
def test_no_usage_within_a_lowered_cap_costs_more_than_what_was_granted(
    request: Request, price: Price, sent_bytes: int, available: int, data: st.DataObject
) -> None:
    found = held(request, target(price, image_tokens=700), sent_bytes)
    amount = granted(found.want, found.floor, available)
    assume(amount is not None)
    assert amount is not None
    cap = cap_within(found, amount)
    assert 1 <= cap <= found.cap
    assert cap == found.cap or (found.ours and cap >= min(found.cap, LIMITS.cap_floor))
    most_prompt = -(-sent_bytes // 2) + 700 * request.images.count
    usage = draw_usage(data, request, most_prompt, request.n * cap)
    assert pricing.cost(usage, price) <= amount


def test_a_prompt_that_comes_as_tokens_is_as_many_and_no_cap_is_added_to_it() -> None:
    request = asked(api="embeddings", cap=0, inputs=2, tokens=7)
    found = held(request, target(max_output=4096, default_cap=100), 1_000_000)
    assert found.want == found.floor == found.orphan_amount == 7 * DOLLAR // 10**9
    assert (found.cap, found.ours, found.prompt_estimate) == (0, False, 7)
    assert own_cap(request, target(), LIMITS) is None


def test_texts_that_are_embedded_are_held_for_by_their_bytes_alone() -> None:
    found = held(asked(api="embeddings", cap=0, inputs=2), target(), 1001, more_tokens=4)
    assert (found.want, found.ours) == ((501 + 4) * DOLLAR // 10**9, False)


@pytest.mark.parametrize("n", [1, 4])
def test_images_that_are_drawn_have_their_models_maximum_in_the_caps_place(n: int) -> None:
    price = Price(base=Rates(input=DOLLAR, output=10 * DOLLAR, output_image=40 * DOLLAR))
    drawing = {"n": n, "drawing": Drawing("1024x1024", "low"), "output_modalities": frozenset({"image"})}
    request = asked(api="images", **drawing)
    found = held(request, target(price, name="gpt-image-1", max_output=5, default_cap=5), 1000)
    assert found.want == found.floor == (500 * DOLLAR + n * 272 * 40 * DOLLAR) // 10**9
    assert (found.cap, found.ours) == (272, False)
    assert own_cap(request, target(), LIMITS) is None
