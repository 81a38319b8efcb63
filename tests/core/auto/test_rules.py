"""tool, simple, complex, in this order; up and never down; and a conversation keeps its model."""

from typing import Any

import pytest
from deciding import MODELS, POLICY, candidates, decide, read, target
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.auto import AutoPolicy, Learned, Tier
from hpp_middleware.core.auto.rules import RULES
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.auto import Asked, Decision
from hpp_middleware.types.price import Price, Rates

DEAR = Price(base=Rates(input=10**13, output=2 * 10**13))
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
LONG = "word " * 300
"""375 tokens."""


def told(decision: Decision | None) -> tuple[str, str, str, str | None]:
    assert decision is not None
    return decision.model, decision.basket, decision.rule, decision.tier


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (read(tools=[TOOL]), ("fake/tool", "tool", "tool", None)),
        (read(tool_choice="none"), ("fake/tool", "tool", "tool", None)),
        (read("translate this", tools=[TOOL]), ("fake/tool", "tool", "tool", None)),
        (read(tools=[], tool_choice=None), ("fake/small", "simple", "simple-tokens", None)),
        (read(), ("fake/small", "simple", "simple-tokens", None)),
        (read(LONG + "Translate."), ("fake/small", "simple", "simple-keyword", None)),
        (read(LONG + "in \n SHORT"), ("fake/small", "simple", "simple-keyword", None)),
        (read(LONG + "translated"), ("fake/t1", "complex", "complex-T1", "T1")),
        (read(LONG + "_translate"), ("fake/t1", "complex", "complex-T1", "T1")),
        (read(LONG), ("fake/t1", "complex", "complex-T1", "T1")),
        (read(LONG * 2), ("fake/t2", "complex", "complex-T2", "T2")),
        (read(LONG * 20), ("fake/t3", "complex", "complex-T3", "T3")),
    ],
)
def test_rules_are_asked_in_their_order(asked: Asked, expected: tuple[Any, ...]) -> None:
    assert told(decide(asked)) == expected


@pytest.mark.parametrize(("tokens", "tier"), [(454, "T1"), (455, "T2"), (3636, "T2"), (3637, "T3")])
def test_a_band_is_up_to_and_including_its_bound_after_the_margin(tokens: int, tier: str) -> None:
    assert told(decide(read("x" * (4 * tokens))))[3] == tier


@given(st.integers(1, 5000), st.integers(1, 3999))
def test_a_margin_is_exact_as_it_is_written(tokens: int, hundredths: int) -> None:
    """Floats make 50 x 1.1 more than 55."""
    bound = -(-tokens * hundredths // 100)  # the least that it fits in
    tiers = {"T1": Tier(models=("fake/t1",), max_tokens=bound), "T3": Tier(models=("fake/t3",))}
    lower = {**tiers, "T1": Tier(models=("fake/t1",), max_tokens=bound - 1)}
    policy: dict[str, Any] = {"simple": (), "margin": hundredths / 100}
    asked = Asked(text_tokens=tokens)
    assert told(decide(asked, tiers=tiers, **policy))[3] == "T1"
    if bound > 1:
        assert told(decide(asked, tiers=lower, **policy))[3] == "T3"


@pytest.mark.parametrize(("tokens", "basket"), [(60, "simple"), (61, "complex")])
def test_the_threshold_of_simple_knows_no_margin(tokens: int, basket: str) -> None:
    assert told(decide(read("x" * (4 * tokens))))[1] == basket


def test_only_the_last_user_message_is_searched_for_keywords() -> None:
    before = [{"role": "user", "content": "translate"}, {"role": "assistant", "content": "summarize " * 60}]
    assert told(decide(read(messages=[*before, {"role": "user", "content": "Why?"}])))[1] == "complex"
    parts = [{"type": "text", "text": LONG}, {"type": "text", "text": "Summarize!"}]
    after = {"role": "assistant", "content": "Yes?"}
    assert told(decide(read(messages=[{"role": "user", "content": parts}, after])))[2] == "simple-keyword"


@pytest.mark.parametrize("keyword", ["c++", "straße", "İstanbul", "?", "a.b"])
def test_a_keyword_of_any_characters_is_found_as_it_is_and_nowhere_else(keyword: str) -> None:
    words = (keyword,)
    assert told(decide(read(f"{LONG} {keyword} {LONG}"), simple_keywords=words))[1] == "simple"
    assert told(decide(read(f"{LONG} {keyword.upper()} {LONG}"), simple_keywords=(keyword.upper(),)))[1] == "simple"
    assert told(decide(read(f"{LONG} axb {LONG}"), simple_keywords=words))[1] == "complex"


def test_tools_count_in_the_estimate() -> None:
    many = [TOOL | {"function": {"name": f"f{number}", "description": LONG}} for number in range(3)]
    assert told(decide(read(tools=many), tool=()))[3] == "T2"


def test_an_image_counts_by_the_models_own_figure() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://i.test/a.png"}}
    asked = read(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}])
    assert told(decide(asked))[3] == "T3"
    cheap: dict[str, Any] = {"fake/t1": target("fake/t1", image_tokens=85)}
    assert told(decide(asked, cheap))[3] == "T1"


def test_a_list_answers_by_its_first_model_that_can() -> None:
    known: dict[str, Any] = {"fake/tool": target("fake/tool", tool=False)}
    found = decide(read(tools=[TOOL]), known, tool=("fake/tool", "fake/t2", "fake/t3"))
    assert told(found) == ("fake/t2", "tool", "tool", None)
    assert found is not None
    assert found.fallbacks == ("fake/t3",)


def test_what_a_basket_cannot_answer_goes_up_and_never_down() -> None:
    blind = {name: target(name, input_modalities=("text",)) for name in ("fake/small", "fake/t1")}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    asked = read(messages=[{"role": "user", "content": [{"type": "text", "text": "Translate"}, image]}])
    assert told(decide(asked, dict(blind)))[:2] == ("fake/t3", "complex")
    all_but_small = {name: target(name, context=10) for name in MODELS if name != "fake/small"}
    assert decide(read(LONG), dict(all_but_small)) is None


def test_a_basket_that_is_not_configured_is_passed_over() -> None:
    assert told(decide(read(tools=[TOOL]), tool=()))[1] == "simple"
    assert told(decide(read(), simple=()))[:2] == ("fake/t1", "complex")
    assert decide(read(), simple=(), tiers={}) is None


@pytest.mark.parametrize("body", [{}, {"tools": [TOOL]}])
def test_streams_can_go_to_one_model_as_the_reference_has_them(body: dict[str, Any]) -> None:
    settings = {"streaming": "fallback", "streaming_fallback": "fake/t2"}
    found = decide(read(stream=True, **body), **settings)
    assert told(found) == ("fake/t2", "streaming-fallback", "streaming-fallback", None)
    assert told(decide(read(**body), **settings))[1] != "streaming-fallback"
    assert told(decide(read(stream=True, **body)))[1] != "streaming-fallback"


def test_rules_can_have_ids_of_the_operators_own() -> None:
    found = decide(read(), rules={"simple-tokens": "r-17"})
    assert told(found)[2] == "r-17"
    assert found is not None
    assert found.version == "2026-11-01"


TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]


def going_on(text: str, before: str, basket: str, tier: str | None = None, **body: Any) -> Asked:
    decision = Decision(model=before, basket=basket, rule="then", tier=tier)
    return read(messages=[*TALK, {"role": "user", "content": text}], before=decision, **body)


def test_a_conversation_keeps_its_model_and_what_it_was_chosen_by() -> None:
    found = decide(going_on(LONG * 2, "fake/small", "simple"))
    assert told(found) == ("fake/small", "simple", "then", None)
    assert told(decide(going_on("translate", "fake/t3", "complex", "T3"))) == ("fake/t3", "complex", "then", "T3")


def test_a_conversation_leaves_a_model_that_can_no_longer_answer() -> None:
    known: dict[str, Any] = {"fake/small": target("fake/small", context=500)}
    assert told(decide(going_on(LONG * 2, "fake/small", "simple"), known))[0] == "fake/t2"


def test_a_conversation_that_now_has_tools_moves_to_their_basket_and_stays() -> None:
    assert told(decide(going_on("Look it up", "fake/t1", "complex", "T1", tools=[TOOL])))[0] == "fake/tool"
    both = {"tool": ("fake/tool", "fake/t1")}
    found = decide(going_on("Look it up", "fake/t1", "complex", "T1", tools=[TOOL]), **both)
    assert told(found) == ("fake/t1", "tool", "tool", None)
    assert told(decide(going_on("Thanks", "fake/tool", "tool")))[0] == "fake/tool"


def test_upwards_a_conversation_moves_when_a_rule_asks_for_a_larger_model() -> None:
    up = {"sticky": "upwards"}
    assert told(decide(going_on(LONG * 2, "fake/small", "simple"), **up))[0] == "fake/t2"
    assert told(decide(going_on("translate", "fake/t2", "complex", "T2"), **up))[0] == "fake/t2"
    assert told(decide(going_on("translate", "fake/t2", "complex", "T2"), sticky="off"))[0] == "fake/small"


def test_no_conversation_is_kept_by_or_from_the_fallback_of_streams() -> None:
    settings = {"streaming": "fallback", "streaming_fallback": "fake/t2"}
    assert told(decide(going_on("Hi", "fake/t1", "complex", "T1", stream=True), **settings))[0] == "fake/t2"
    assert told(decide(going_on("Hi", "fake/t2", "streaming-fallback"), **settings))[0] == "fake/small"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"policy": "magic"}, "auto.policy"),
        ({"policy": "learned"}, "auto.learned"),
        ({"shadow": "learned"}, "auto.learned"),
        ({"shadow": "magic"}, "auto.shadow"),
        ({"streaming": "maybe"}, "auto.streaming"),
        ({"streaming": "fallback"}, "auto.streaming_fallback"),
        ({"sticky": "maybe"}, "auto.sticky"),
        ({"margin": 0}, "auto.margin"),
        ({"margin": True}, "auto.margin"),
        ({"margin": "1.1"}, "auto.margin"),
        ({"cascade": "no"}, "auto.cascade"),
        ({"learned": "fake/t1"}, "auto.learned"),
        ({"simple_max_tokens": 1.5}, "auto.simple_max_tokens"),
        ({"simple_keywords": (1,)}, "auto.simple_keywords"),
        ({"rules_version": 1}, "auto.rules_version"),
        ({"rules": {"tool": 1}}, "auto.rules.tool"),
        ({"tiers": None}, "auto.tiers"),
        ({"tiers": {"T1": "fake/t1"}}, "auto.tiers.T1"),
        ({"tiers": {"T1": Tier(models=("a/b",), max_tokens=1.5)}}, "auto.tiers.T1"),  # type: ignore[arg-type]  # on purpose
        ({"simple_max_tokens": -1}, "auto.simple_max_tokens"),
        ({"simple_keywords": "translate"}, "auto.simple_keywords"),
        ({"simple_keywords": ("a", " ")}, "auto.simple_keywords"),
        ({"tool": "fake/tool"}, "auto.tool"),
        ({"rules_version": "a\nb"}, "auto.rules_version"),
        ({"rules": {"magic": "r"}}, "auto.rules.magic"),
        ({"rules": {"tool": "é"}}, "auto.rules.tool"),
        ({"tiers": {"T4": Tier(models=("a/b",))}}, "auto.tiers.T4"),
        ({"tiers": {"T1": Tier(models=())}}, "auto.tiers.T1.models"),
        ({"tiers": {"T1": Tier(models=("a/b",)), "T2": Tier(models=("a/b",))}}, "auto.tiers.T2"),
        (
            {"tiers": {"T1": Tier(models=("a/b",), max_tokens=9), "T3": Tier(models=("a/b",), max_tokens=9)}},
            "auto.tiers.T3.max_tokens",
        ),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AutoPolicy(**{**POLICY, **settings})
    assert caught.value.param == named
    assert caught.value.message.startswith(named)


def test_every_rule_that_can_be_renamed_is_one() -> None:
    class Half:
        quantiles = ()

        def score(self, messages: Any) -> float:
            return float(messages[0]["content"])

        def explain(self, _messages: Any) -> list[tuple[str, float]]:
            return []

    learned = Learned(strong="fake/t3", weak="fake/small", quality=0.5, scorer=Half())
    asked: list[tuple[Asked, dict[str, Any]]] = [
        *((read("x" * size), {}) for size in (1, 1000, 4000, 40_000)),
        (read(tools=[TOOL]), {}),
        (read("translate"), {}),
        (read(stream=True), {"streaming": "fallback", "streaming_fallback": "fake/t2"}),
        *((read(score), {"policy": "learned", "learned": learned}) for score in ("0.1", "0.9")),
    ]
    known = {"fake/t3": target("fake/t3", price=DEAR)}
    assert {told(decide(each, known, **settings))[2] for each, settings in asked} == set(RULES)


def test_a_shadow_is_what_the_other_policy_would_do() -> None:
    policy = AutoPolicy(**POLICY, shadow="rules")
    asked = going_on("translate", "fake/t3", "complex", "T3")
    assert told(policy.shadowed(asked, candidates(asked)))[0] == "fake/small"
    assert AutoPolicy(**POLICY).shadowed(asked, candidates(asked)) is None
