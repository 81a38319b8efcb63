"""The stronger model where its gain is worth its extra dollars."""

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from deciding import candidates, read, target
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.auto import AutoPolicy, ranked
from hpp_middleware.core.auto.ranked import Learned
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.auto import Candidate, Decision
from hpp_middleware.types.completion import Target
from hpp_middleware.types.price import Price, Rates

CHEAP = Price(base=Rates(input=10**11, output=4 * 10**11))
DEAR = Price(base=Rates(input=10**13, output=4 * 10**13, cache_read=10**10))


class Scorer:
    """Scores by the number that the prompt begins with; every hundredth is as frequent as any other."""

    quantiles: Sequence[float] = tuple(number / 100 for number in range(100))

    def score(self, messages: Sequence[Any]) -> float:
        return float(messages[0]["content"].split()[0])

    def explain(self, messages: Sequence[Any]) -> Sequence[tuple[str, float]]:
        return [("word:secret", 9.0), ("number", self.score(messages)), ("other", 0.0)]


def pair(text: str, *, known: dict[str, Any] | None = None, before: Decision | None = None) -> list[Candidate]:
    targets: dict[str, Target | None] = {
        "fake/small": target("fake/small", price=CHEAP, **(known or {}).get("small", {})),
        "fake/t3": target("fake/t3", price=DEAR, **(known or {}).get("t3", {})),
    }
    asked = read(text, before=before)
    return candidates(asked, targets, models=("fake/small", "fake/t3"))


def chosen(text: str, *, known: dict[str, Any] | None = None, **settings: Any) -> ranked.Ranked | None:
    learned = Learned(strong="fake/t3", weak="fake/small", scorer=Scorer(), **settings)
    weak, strong = pair(text, known=known)
    return ranked.rank(learned, read(text), weak, strong)


ORDINARY = " " + "x" * 1590


def is_strong(text: str, **settings: Any) -> bool:
    found = chosen(text, **settings)
    assert found is not None
    return found.model == "fake/t3"


@pytest.mark.parametrize("score", ["0.0", "0.5", "0.995", "7"])
def test_at_quality_0_the_cheapest_answers_and_at_1_the_best(score: str) -> None:
    assert not is_strong(score, quality=0)
    assert is_strong(score, quality=1)


def test_between_them_an_ordinary_request_goes_by_its_place_among_the_scores() -> None:
    assert is_strong("0.75" + ORDINARY, quality=0.3)
    assert not is_strong("0.65" + ORDINARY, quality=0.3)
    assert is_strong("0.55" + ORDINARY)
    assert not is_strong("0.45" + ORDINARY)


def test_a_step_up_that_is_dearer_than_usual_must_gain_more() -> None:
    long = " " + "x" * 16_000
    assert is_strong("0.6" + ORDINARY, quality=0.5)
    assert not is_strong("0.6" + long, quality=0.5)
    assert is_strong("0.95" + long, quality=0.5)


def test_a_share_is_kept_whatever_requests_cost() -> None:
    long = " " + "x" * 16_000
    for text in (ORDINARY, long):
        assert is_strong("0.91" + text, share=0.1)
        assert not is_strong("0.89" + text, share=0.1)
    assert not is_strong("0.99", share=0)


def test_a_budget_buys_the_share_that_it_pays_for() -> None:
    weak, strong = pair("0.5" + ORDINARY)
    half = (weak.cost + strong.cost) // 2
    assert is_strong("0.55" + ORDINARY, budget=half)
    assert not is_strong("0.45" + ORDINARY, budget=half)
    assert not is_strong("0.99" + ORDINARY, budget=weak.cost)
    assert is_strong("0.0" + ORDINARY, budget=strong.cost)


def test_a_warm_cache_of_the_stronger_model_counts() -> None:
    text = "0.4 " + "x" * 40_000
    talk: list[dict[str, Any]] = [{"role": "user", "content": text}, {"role": "user", "content": "y"}]
    before = Decision(model="fake/t3", basket="complex", rule="r")
    targets: dict[str, Target | None] = {
        "fake/small": target("fake/small", price=CHEAP),
        "fake/t3": target("fake/t3", price=DEAR),
    }
    learned = Learned(strong="fake/t3", weak="fake/small", quality=0.65, scorer=Scorer())
    in_the_cold, in_the_warm = (
        ranked.rank(learned, asked, *candidates(asked, targets, models=("fake/small", "fake/t3")))
        for asked in (read(messages=talk), read(messages=talk, before=before))
    )
    assert in_the_cold is not None
    assert in_the_warm is not None
    assert (in_the_cold.model, in_the_warm.model) == ("fake/small", "fake/t3")


class Usual(Scorer):
    """Knows how long answers are: to what is short, ten tokens, and to all else 4,000; 400 in the mean."""

    ordinary_answer = 400

    def answer_tokens(self, messages: Sequence[Any]) -> int:
        return 10 if "short" in messages[0]["content"] else 4000


def usual(text: str, *, cap: int | None = None, scorer: Scorer | None = None, **settings: Any) -> ranked.Ranked:
    weak, strong = pair(text)
    learned = Learned(strong="fake/t3", weak="fake/small", scorer=scorer or Usual(), **settings)
    found = ranked.rank(learned, read(text, max_tokens=cap), weak, strong)
    assert found is not None
    return found


def test_a_step_up_costs_as_much_as_the_usual_answer_to_such_a_prompt() -> None:
    for score, short, long in (("0.6", "fake/t3", "fake/small"), ("0.1", "fake/small", "fake/small")):
        assert usual(f"{score} short").model == short
        assert usual(f"{score} other").model == long
    assert (usual("0.6 short").answer_tokens, usual("0.6 other").answer_tokens) == (10, 4000)


def test_an_answer_is_never_taken_to_be_longer_than_the_clients_cap() -> None:
    assert usual("0.6 other", cap=50).model == "fake/t3"
    assert usual("0.6 other", cap=50_000).model == "fake/small"


def test_the_operators_own_figure_takes_the_place_of_what_is_usual() -> None:
    for text in ("0.6 short", "0.6 other"):
        found = usual(text + ORDINARY, answer_tokens=400)
        assert (found.model, found.answer_tokens) == ("fake/t3", 400)
    # The same whatever the scorer knows: an ordinary request's step is then as dear as before there were such figures.
    for score in ("0.45", "0.55"):
        plain = chosen(score + " other" + ORDINARY)
        assert plain is not None
        assert usual(score + " other" + ORDINARY, answer_tokens=400).model == plain.model


def test_a_scorer_that_knows_no_lengths_has_400_tokens() -> None:
    class Nothing(Usual):
        ordinary_answer = None  # type: ignore[assignment]  # as of a file without them

        def answer_tokens(self, messages: Sequence[Any]) -> int | None:  # type: ignore[override]
            return None

    for score in ("0.45", "0.55"):
        found, plain = usual(score + " short" + ORDINARY, scorer=Nothing()), chosen(score + " short" + ORDINARY)
        assert plain is not None
        assert (found.model, found.answer_tokens) == (plain.model, 400)


def test_a_budget_is_spent_by_the_usual_answer_too() -> None:
    weak, strong = pair("0.5 short", known={})
    half = (weak.cost + strong.cost) // 2  # by 400 tokens: more than enough for ten
    assert usual("0.01 short", budget=half).model == "fake/t3"
    assert usual("0.9 other", budget=half).model == "fake/small"


def test_a_request_is_read_once() -> None:
    class Reads(Usual):
        reads = 0

        def read(self, messages: Sequence[Any]) -> Sequence[Any]:
            self.reads += 1
            return messages

    scorer = Reads()
    usual("0.6 short", scorer=scorer)
    assert scorer.reads == 1


def test_the_other_answers_where_one_cannot_and_nobody_where_neither_can() -> None:
    blind: dict[str, Any] = {"context": 1}
    assert not is_strong("0.99", quality=1, known={"t3": blind})
    found = chosen("0.01", quality=0, known={"small": blind})
    assert found is not None
    assert (found.model, found.score) == ("fake/t3", None)
    assert chosen("0.5", known={"small": blind, "t3": blind}) is None


def test_the_reason_names_the_score_and_what_weighs_most() -> None:
    found = chosen("0.5" + ORDINARY, quality=0.5)
    assert found is not None
    assert found.score == 0.5
    assert found.features == (("word:secret", 9.0), ("number", 0.5), ("other", 0.0))
    assert "score 0.500 above 50% of prompts" in found.reason
    assert found.reason.endswith(": number, other")  # and no word of the prompt


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 20_000))
def test_more_quality_and_a_higher_score_never_take_the_stronger_model_away(
    score: float, one: float, other: float, size: int
) -> None:
    low, high = sorted((one, other))
    text = f"{score} " + "x" * size
    if is_strong(text, quality=low):
        assert is_strong(text, quality=high)
        assert is_strong(f"{min(1.0, score + 0.1)} " + "x" * size, quality=low)


def test_what_comes_with_the_package_is_read_before_a_request_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Shipped(Scorer):
        def score(self, messages: Sequence[Any]) -> float:
            asked.append(messages)
            return 0.5

    module: Any = ModuleType("learned")
    module.score = Shipped().score
    monkeypatch.setitem(sys.modules, "hpp_middleware.core.auto.learned", module)
    own = Learned(strong="fake/t3", weak="fake/small", scorer=Scorer())
    theirs = Learned(strong="fake/t3", weak="fake/small")
    for policy in (
        AutoPolicy(policy="learned", learned=own),
        AutoPolicy(simple=("fake/small",), simple_max_tokens=60, learned=theirs),
    ):
        policy.load()
    assert asked == []
    AutoPolicy(simple=("fake/small",), simple_max_tokens=60, shadow="learned", learned=theirs).load()
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quality": 1.1}, "quality"),
        ({"quality": float("nan")}, "quality"),
        ({"share": -0.1}, "share"),
        ({"quality": 0.5, "share": 0.5}, "share"),
        ({"share": 0.5, "budget": 5}, "budget"),
        ({"budget": -1}, "budget"),
        ({"answer_tokens": 0}, "answer_tokens"),
        ({"weak": "fake/t3"}, "strong"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Learned(**{"strong": "fake/t3", "weak": "fake/small", **settings})
    assert caught.value.param == f"auto.learned.{named}"
