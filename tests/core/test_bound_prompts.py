"""
No obedient upstream can charge more than the hold: what it bills for the prompt lies within the prompt's bound.

Real texts and tools, OpenAI's own way of counting them, and any prices; by a tokenizer's count, and by strict bytes.
"""

import json
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_tokens import prompt_tokens
from rounds import rounds
from test_bound import draw_usage, prices

from hpp_middleware.catalog.tokens import OpenAITokenizer
from hpp_middleware.core import parse, prompt
from hpp_middleware.core import price as pricing
from hpp_middleware.core.bound import COUNT_VERSION, ESTIMATOR_VERSION, Bound, bound
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

LIMITS = Limits()
PRICE = Price(base=Rates(input=10**9, output=10**10))


@lru_cache
def tokenizer() -> OpenAITokenizer:
    found = OpenAITokenizer()
    found.load(["gpt-4o", "gpt-4"])
    return found


def target(model: str, price: Price = PRICE, *, bytes_per_token: int = 2) -> Target:
    return Target(
        id=f"p/{model}",
        provider_name="p",
        model_name=model,
        provider=Provider(base_url="https://p.test", bytes_per_token=bytes_per_token),
        model=Model(max_output=4000),
        price=price,
    )


FRAGMENTS = (
    *("The quick brown fox ", "jumps over 12 lazy dogs. ", "don't ", "COVID-19 ", "antidisestablishmentarianism"),
    *(
        "Größe für Bücher ",
        "l'été à Orléans ",
        "Съешь ещё этих булок ",
        "敏捷的棕色狐狸。",
        "素早い茶色の狐",
        "빠른 갈색 여우 ",
    ),
    *("الثعلب البني السريع ", "तेज भूरी लोमड़ी ", "สุนัขจิ้งจอก", "😀", "👩‍👩‍👧‍👦", "🇩🇪", "e\u0301\u0323", "\u200b"),
    *("3.14159265", "00000000", "deadbeef-4c1f-", "0x7fff", "$1,299.99 "),
    *("\n", "\r\n", "\n\n    ", "\t", '"', "\\", "\\n", "\x00", "\x0c", "\u2028", "/", "//", " ", "        "),
    *("def f(x):\n    return x\n", '{"a":[1,2]}', "<|endoftext|>", "</div>\n", "=====", "\roaf", "\x08a", "}\n);"),
)
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join) | st.text(
    st.characters(codec="utf-8"), max_size=80
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"])},
        optional={"name": st.sampled_from(["bob", "X1"])},
    ).flatmap(
        lambda head: (texts | texts.map(lambda each: [{"type": "text", "text": each}])).map(
            lambda content: {**head, "content": content}
        )
    ),
    min_size=1,
    max_size=6,
)
words = st.text("abcdefgxyz", min_size=1, max_size=12)
properties = st.dictionaries(
    words,
    st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"description": texts, "enum": st.lists(words | texts, max_size=20)}
    ),
    max_size=4,
)
tools = st.lists(
    st.builds(
        lambda name, described, found: {
            "type": "function",
            "function": {"name": name, **described, "parameters": {"type": "object", "properties": found}},
        },
        words,
        st.fixed_dictionaries({}, optional={"description": texts}),
        properties,
    ),
    min_size=1,
    max_size=4,
)
bodies = st.fixed_dictionaries(
    {"model": st.just("p/gpt-4o") | st.just("p/gpt-4"), "messages": messages, "n": st.integers(1, 4)},
    optional={"max_tokens": st.integers(1, 5000), "tools": tools},
)


def held(body: dict[str, Any], price: Price, *, ascii_only: bool, strict: bool) -> tuple[Request, Bound, int]:
    """The request, its bound, and what OpenAI bills for its prompt."""
    model = body["model"].removeprefix("p/")
    where = target(model, price, bytes_per_token=1 if strict else 2)
    request = parse.completion(json.dumps(body, ensure_ascii=ascii_only).encode(), LIMITS)
    sent = OpenAI().call(request, where, cap=100, request_id="r").body
    text = prompt.text(request, where, sent)
    assert (text is None) == strict
    counted = tokenizer().count(text, model) if text is not None else None
    found = bound(request, where, sent_bytes=len(sent), limits=LIMITS, counted=counted)
    return request, found, prompt_tokens(body, lambda each: tokenizer().count(each, model) or 0)


@pytest.mark.parametrize("strict", [False, True], ids=["counted", "strict"])
@settings(max_examples=rounds(75, soak=300), deadline=None)
@given(body=bodies, price=prices, ascii_only=st.booleans(), data=st.data())
def test_an_upstream_that_obeys_never_charges_more_than_the_hold(
    *, strict: bool, body: dict[str, Any], price: Price, ascii_only: bool, data: st.DataObject
) -> None:
    request, found, billed = held(body, price, ascii_only=ascii_only, strict=strict)
    usage = draw_usage(data, request, billed, request.n * found.cap)
    assert pricing.cost(usage, price) <= found.want


@pytest.mark.parametrize("strict", [False, True], ids=["counted", "strict"])
@settings(max_examples=rounds(75, soak=300), deadline=None)
@given(body=bodies, ascii_only=st.booleans())
def test_what_openai_bills_for_a_prompt_lies_within_its_bound(
    *, strict: bool, body: dict[str, Any], ascii_only: bool
) -> None:
    _, found, billed = held(body, PRICE, ascii_only=ascii_only, strict=strict)
    assert billed <= found.prompt // PRICE.base.input


def test_a_count_is_held_for_with_a_tenth_more_and_estimated_as_it_is() -> None:
    request = parse.completion(b'{"model": "p/m", "messages": [{"role": "user", "content": "hi"}]}', LIMITS)
    found = bound(request, target("m"), sent_bytes=10_000, limits=LIMITS, counted=101)
    assert found.prompt == 112 * PRICE.base.input
    assert found.prompt_estimate == 101
    assert found.estimator_version == COUNT_VERSION
    plain = bound(request, target("m"), sent_bytes=10_000, limits=LIMITS)
    assert (plain.prompt, plain.estimator_version) == (5000 * PRICE.base.input, ESTIMATOR_VERSION)


def test_an_enum_of_short_values_is_held_for_as_openai_writes_it() -> None:
    names = [chr(97 + number % 26) for number in range(200)]
    parameters = {"type": "object", "properties": {"letter": {"type": "string", "enum": names}}}
    body = {
        "model": "p/gpt-4o",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": {"name": "pick", "parameters": parameters}}],
    }
    _, found, billed = held(body, PRICE, ascii_only=False, strict=False)
    assert found.prompt_estimate < billed <= found.prompt // PRICE.base.input
