"""A model that cannot answer is never chosen, and says why; what nobody has stated is unlimited and supported."""

from typing import Any

import pytest
from deciding import MODELS, POLICY, candidates, decide, read, target
from hypothesis import assume, given
from hypothesis import strategies as st

from hpp_middleware.core.auto import AutoPolicy
from hpp_middleware.types.auto import Asked, Candidate, Decision
from hpp_middleware.types.completion import Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits

TOOL = {"type": "function", "function": {"name": "f"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
PDF = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0=", "filename": "a.pdf"}}
HEARS = Price(base=Rates(input=1, output=1, input_audio=1, output_audio=1))


def parts(*others: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}, *others]}]}


def one(body: dict[str, Any], *, price: Price | None = None, **known: Any) -> Candidate:
    (found,) = candidates(
        read(**body), {"fake/t1": target("fake/t1", price=price, **known)}, models=("fake/t1",), **body
    )
    return found


@pytest.mark.parametrize(
    ("body", "known", "why"),
    [
        ({"max_tokens": 100}, {"context": 100}, "its context of 100 tokens is too small for 1 and an answer of 100"),
        ({}, {"context": 200}, "its context of 200 tokens is too small for 1 and an answer of 256"),
        ({"max_tokens": 100}, {"max_output": 99}, "it gives 99 tokens of output at most, not 100"),
        ({"tools": [TOOL]}, {"tool": False}, "it cannot call tools"),
        ({"response_format": SCHEMA}, {"structured": False}, "it does not keep to a JSON schema"),
        (parts(IMAGE), {"input_modalities": ("text",)}, "it takes no images"),
        (parts(PDF), {"input_modalities": ("text", "image")}, "it takes no PDF files"),
        (parts(AUDIO), {"input_modalities": ("text",), "price": HEARS}, "it takes no audio"),
        (parts(AUDIO), {}, "has no price for audio input"),
        (
            {"modalities": ["text", "audio"]},
            {"output_modalities": ("text",), "price": HEARS},
            "it gives no audio",
        ),
    ],
)
def test_what_a_model_cannot_do_is_said_and_what_is_not_stated_it_can(
    body: dict[str, Any], known: dict[str, Any], why: str
) -> None:
    found = one(body, **known)
    assert found.why_not == (why,)
    price = known.get("price") or (HEARS if "audio" in why else None)
    assert one(body, price=price).eligible


def test_a_context_just_large_enough_is() -> None:
    assert one({"max_tokens": 99}, context=100).eligible
    assert one({}, context=257).eligible
    assert one({}, context=101, max_output=100).eligible


def test_a_key_a_price_health_and_a_data_policy_have_their_say() -> None:
    asked = read(requires=frozenset({"eu", "zdr"}))
    known: dict[str, Target | None] = {
        "fake/small": None,
        "fake/t1": target("fake/t1", tags=("eu", "zdr", "more")),
        "fake/t2": target("fake/t2", tags=("eu",)),
    }
    found = {
        each.model: each.why_not
        for each in candidates(
            asked, known, consumer=Consumer(id="a", models=("fake/t?", "fake/small")), unhealthy=frozenset({"fake/t2"})
        )
    }
    assert found == {
        "fake/tool": ("this key may not use it",),
        "fake/small": ("it is unknown here, or has no price",),
        "fake/t1": (),
        "fake/t2": ("it is not tagged zdr", "it is not healthy at the moment"),
        "fake/t3": ("it is not tagged eu, zdr",),
    }


def test_the_conversations_own_model_reads_from_its_cache() -> None:
    cached = Price(base=Rates(input=10**12, output=10**12, cache_read=10**11))
    talk = [
        {"role": "user", "content": "x" * 4000},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "x" * 400},
    ]
    before = Decision(model="fake/t1", basket="simple", rule="r")
    known: dict[str, Target | None] = {name: target(name, price=cached) for name in ("fake/t1", "fake/t2")}
    warm, cold = candidates(read(messages=talk, before=before, max_tokens=10), known, models=("fake/t1", "fake/t2"))
    assert cold.cost == (1100 + 10) * 1000
    assert warm.cost == (100 + 10) * 1000 + 1000 * 100


PARTS: list[dict[str, Any]] = [IMAGE, PDF, {"type": "text", "text": "translate"}]
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "tools": st.just([TOOL]),
        "response_format": st.just(SCHEMA),
        "max_tokens": st.integers(1, 10_000),
        "stream": st.booleans(),
        "messages": st.lists(st.sampled_from(PARTS), max_size=3).map(lambda found: parts(*found)["messages"]),
    },
)
KNOWN = st.fixed_dictionaries(
    {},
    optional={
        "context": st.integers(1, 20_000),
        "max_output": st.integers(1, 10_000),
        "tool": st.booleans(),
        "structured": st.booleans(),
        "input_modalities": st.sampled_from([("text",), ("text", "image"), ("text", "image", "pdf")]),
        "tags": st.sampled_from([(), ("eu",)]),
    },
)
POLICIES = st.sampled_from(
    [{}, {"sticky": "upwards"}, {"sticky": "off"}, {"streaming": "fallback", "streaming_fallback": "fake/t2"}]
)


def _states_less(known: dict[str, Any], dropped: str) -> dict[str, Any]:
    return {name: value for name, value in known.items() if name != dropped}


@given(
    BODIES,
    st.lists(KNOWN, min_size=5, max_size=5),
    POLICIES,
    st.sampled_from([None, *MODELS]),
    st.sampled_from([frozenset(), frozenset({"eu"})]),
)
def test_whatever_is_asked_of_whatever_models_the_chosen_one_is_eligible(
    body: dict[str, Any],
    known: list[dict[str, Any]],
    settings: dict[str, Any],
    before: str | None,
    requires: frozenset[str],
) -> None:
    last = Decision(model=before, basket="complex", rule="r", tier="T1") if before is not None else None
    asked = read(before=last, requires=requires, **body)
    targets: dict[str, Target | None] = {name: target(name, **each) for name, each in zip(MODELS, known, strict=True)}
    found = decide(asked, targets, **settings)
    able = {each.model for each in candidates(asked, targets) if each.eligible}
    if found is None:
        # Only rules that look up are left: nothing able stands where the request's rule, or a higher one, would look.
        assert able.isdisjoint({"fake/t3"}) or settings.get("streaming") == "fallback"
    else:
        assert found.model in able
        assert set(found.fallbacks) <= able - {found.model}


@given(BODIES, KNOWN, st.sampled_from(["context", "max_output", "tool", "structured", "input_modalities"]))
def test_to_state_less_of_a_model_never_excludes_it(body: dict[str, Any], known: dict[str, Any], dropped: str) -> None:
    # But for a model that cannot even give the shortest answer that is planned for: stated, that is a smaller one.
    assume(dropped != "max_output" or known.get("max_output", Limits().cap_floor) >= Limits().cap_floor)
    if one(body, **known).eligible:
        assert one(body, **_states_less(known, dropped)).eligible


@given(st.permutations(MODELS), BODIES)
def test_the_order_of_the_candidates_decides_nothing(order: list[str], body: dict[str, Any]) -> None:
    asked: Asked = read(**body)
    policy = AutoPolicy(**POLICY)
    shuffled = candidates(asked, models=tuple(order))
    assert policy.decide(asked, shuffled) == policy.decide(asked, candidates(asked))
