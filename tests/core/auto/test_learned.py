"""A score is the same everywhere, is the sum of its parts, and its model is small."""

import math
import os
import subprocess
import sys
import zlib
from importlib import resources

import msgspec
import pytest
from msgspec.structs import replace

from hpp_middleware import ConfigurationError
from hpp_middleware.core.auto import learned
from hpp_middleware.core.auto.features import FEATURES, KINDS, features
from hpp_middleware.core.auto.learned import Scorer, explain, packed, score, shipped

TEXTS = (
    "",
    "hi",
    "Who wrote Faust?",
    "Tom has 3 apples and buys 4 more each day for 12 days. How many apples has he, if he eats half of them?",
    "Which is NOT a tort?\nA. Negligence\nB. Battery\nC. Breach of contract\nD. Assault\nAnswer:",
    "def f(a):\n    return a[::-1]\nassert f('ab') == ??",
    "Δοκιμή 日本語 العربية",
    "\ud800 half a character",
    "x" * 200_000,
)


def data() -> bytes:
    return (resources.files("hpp_middleware.core.auto") / "model.msgpack").read_bytes()


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_the_parts_of_an_explanation_add_up_to_the_score(text: str) -> None:
    model = shipped().model
    gain = sum(part for _, part in explain(text))
    assert math.isclose(gain, shipped().gain(text), abs_tol=1e-9)
    assert math.isclose(1 / (1 + math.exp((model.middle - gain) / model.spread)), score(text), abs_tol=1e-9)
    assert 0 <= score(text) <= 1


def test_the_strongest_part_comes_first() -> None:
    sizes = [abs(part) for _, part in explain(TEXTS[4])]
    assert sizes == sorted(sizes, reverse=True)
    assert {name.partition(":")[0] for name, _ in explain(TEXTS[4])} <= {"kind", "topic", "word", *FEATURES}


def test_a_text_and_messages_of_it_score_alike() -> None:
    assert score(TEXTS[3]) == score([{"role": "user", "content": TEXTS[3]}])
    assert score(TEXTS[3]) == score([{"role": "user", "content": [{"type": "text", "text": TEXTS[3]}]}])


def test_every_process_has_the_same_scores() -> None:
    script = f"from hpp_middleware.core.auto.learned import score; print([score(text) for text in {TEXTS[:7]!r}])"
    said = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "1", "7")
    }
    assert said == {f"{[score(text) for text in TEXTS[:7]]}\n".encode()}


def test_longer_and_harder_prompts_score_higher() -> None:
    easy = "Tom has 3 apples and buys 4. How many apples has he?"
    assert score(TEXTS[3]) > score(easy)
    assert score("Write a Python function that merges two sorted lists, without sorting.") > score("Who wrote Faust?")


@pytest.mark.parametrize(
    "text",
    [
        "Как работает фотосинтез и почему растения зелёные? Объясни мне это в нескольких предложениях.",
        "كيف تعمل عملية التمثيل الضوئي ولماذا النباتات خضراء؟ اشرح لي ذلك في بضع جمل.",
        "请用几句话给我解释一下光合作用是如何进行的。植物为什么是绿色的。",
        "Wie funktioniert die Photosynthese, und warum sind Pflanzen grün? Erkläre es mir in ein paar Sätzen.",
    ],
    ids=["ru", "ar", "zh", "de"],
)
def test_the_script_that_a_question_is_written_in_decides_nothing(text: str) -> None:
    assert abs(dict(explain(text)).get("foreign", 0.0)) < 0.01  # of that nothing was measured
    assert score(text) > 0.1


def test_the_box_that_an_answer_is_to_be_put_in_makes_no_formula_of_a_question() -> None:
    boxed = "\nPut your final answer in \\boxed{...}."
    assert KINDS[features(TEXTS[3]).kind] == KINDS[features(TEXTS[3] + boxed).kind] == "maths"
    assert KINDS[features("Who wrote Faust?" + boxed).kind] == "plain"
    assert KINDS[features("Solve $x^2 = 4$." + boxed).kind] == "formulas"


def test_the_shipped_model_is_small_and_names_its_origins() -> None:
    assert len(data()) <= learned.LARGEST == 65536
    assert "lm-sys/RouteLLM (Apache-2.0)" in shipped().model.about["outcomes"]
    assert "PDDL" in shipped().model.about["word vectors"]


def test_quantiles_rise_and_the_module_is_a_scorer_with_them() -> None:
    assert learned.quantiles == tuple(sorted(shipped().quantiles))
    assert len(shipped().quantiles) == 99
    with pytest.raises(AttributeError):
        _ = learned.nothing


def test_the_usual_length_of_an_answer_is_that_of_the_kind_of_prompt() -> None:
    found = Scorer(packed(replace(shipped().model, answers=[1, 2, 3, 4, 5, 6])))
    for text in TEXTS:
        assert found.answer_tokens(text) == features(text[:4096]).kind + 1
    assert found.ordinary_answer == 4  # the mean of the six, rounded
    assert len(shipped().model.answers) == len(KINDS)
    assert learned.answer_tokens(TEXTS[3]) == shipped().model.answers[KINDS.index("maths")]
    assert learned.ordinary_answer == shipped().ordinary_answer


def test_a_file_from_before_lengths_were_known_is_read_and_knows_none() -> None:
    old = msgspec.to_builtins(replace(shipped().model, answers=[]), builtin_types=(bytes,))
    del old["answers"]
    found = Scorer(zlib.compress(msgspec.msgpack.encode(old), 9))
    assert (found.answer_tokens(TEXTS[3]), found.ordinary_answer) == (None, None)
    assert [found.score(text) for text in TEXTS] == [score(text) for text in TEXTS]


def test_what_was_read_already_is_scored_and_explained_alike() -> None:
    for text in TEXTS:
        seen = learned.read([{"role": "user", "content": text}])
        assert (score(seen), explain(seen), learned.answer_tokens(seen)) == (
            score(text),
            explain(text),
            learned.answer_tokens(text),
        )


def test_what_is_no_model_is_refused() -> None:
    model = shipped().model
    topics = model.topics
    assert topics is not None
    for bad, why in (
        (b"", "no model file"),
        (b"\xff" * 10, "no model file"),
        (msgspec.msgpack.encode({"format": 2}), "no model file"),
        (b"0" * 70_000, "at most"),
        (packed(model)[:-9], "no model file"),
        (zlib.compress(b"0" * 100_000_000), "at most"),
        (zlib.compress(msgspec.msgpack.encode({"about": {"": "0" * 1_000_000}})), "no model file"),
        (packed(replace(model, features=["other"])), "another release"),
        (packed(replace(model, kinds=model.kinds[:1])), "another release"),
        (packed(replace(model, middle=math.nan)), "numbers"),
        (packed(replace(model, spread=0.0)), "numbers"),
        (packed(replace(model, quantiles=[0.5, 0.4])), "must rise"),
        (packed(replace(model, answers=[1])), "another release"),
        (packed(replace(model, answers=[0] * 6)), "from 1 to"),
        (packed(replace(model, answers=[10**7] * 6)), "from 1 to"),
        (packed(replace(model, topics=replace(topics, words=topics.words[1:]))), "another release"),
        (packed(replace(model, topics=replace(topics, gains=[0.1]))), "another release"),
        (packed(replace(model, topics=replace(topics, names=[]))), "another release"),
        (packed(replace(model, topics=replace(topics, steps=[math.inf] * 8))), "numbers"),
        (packed(replace(model, topics=replace(topics, power=math.nan))), "numbers"),
        (packed(replace(model, topics=replace(topics, power=1e9))), "power of the topics"),
    ):
        with pytest.raises(ConfigurationError, match=why):
            Scorer(bad)


def test_a_model_file_may_be_compressed_or_not() -> None:
    plain = Scorer(msgspec.msgpack.encode(replace(shipped().model, topics=None)))
    small = Scorer(packed(plain.model))
    assert [plain.score(text) for text in TEXTS] == [small.score(text) for text in TEXTS]


def test_what_a_choice_is_about_counts_and_is_told() -> None:
    ending = "\nA. Yes\nB. No\nC. It depends\nD. Neither\nAnswer:"
    law = "The plaintiff sues the landlord for negligence. Has the court jurisdiction?" + ending
    sums = "What is the square root of the product of the two integers of the equation?" + ending
    told = dict(explain(law))
    assert told["topic:law"] > dict(explain(sums))["topic:reckoning"]
    assert sum(part for name, part in told.items() if name.startswith("topic:")) > 0.02
    assert not any(name.startswith("topic:") for name, _ in explain(TEXTS[3]))  # only choices have topics


def test_importing_the_scorer_reads_no_model() -> None:
    script = (
        "import sys; from hpp_middleware.core.auto import learned;"
        "assert learned.shipped.cache_info().currsize == 0; assert 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
