"""A scorer is fitted to outcomes, judged on prompts it was not fitted on, and refused where it is worse."""

import json
import os
import random
from pathlib import Path

import msgspec
import pytest

np = pytest.importorskip("numpy", reason="fitting needs the extra fit")

from hpp_middleware import ConfigurationError  # noqa: E402 - after numpy is known to be there
from hpp_middleware.core.auto.features import FEATURES  # noqa: E402
from hpp_middleware.core.auto.learned import BUCKETS, LARGEST, Scorer, packed, shipped  # noqa: E402
from hpp_middleware.fitting import Refused, Row, fit, read_rows  # noqa: E402
from hpp_middleware.fitting.curves import Array, recovered  # noqa: E402
from hpp_middleware.fitting.fit import _Design  # noqa: E402

DATA = os.environ.get("HPP_ROUTER_DATA")


def outcomes(*, signal: bool, count: int = 400) -> list[Row]:
    """Prompts about tax, which the weak model gets wrong, and about birds, where both are right; or all by lot."""
    draw = random.Random(4)
    fill = ["the", "a", "of", "and", "some", "many", "few", "old", "new", "big", "small", "red", "blue", "green"]
    rows = []
    for number in range(count):
        tax = number % 2 == 0
        words = [draw.choice(fill) for _ in range(draw.randrange(5, 30))]
        words.insert(draw.randrange(len(words)), draw.choice(["tax", "duty"] if tax else ["robin", "finch"]))
        prompt = f"{' '.join(words)} {number}"
        weak = draw.random() < (0.2 if tax else 0.9) if signal else draw.random() < 0.5
        strong = draw.random() < (0.9 if signal else 0.6)
        rows += [Row(prompt, "strong", float(strong)), Row(prompt, "weak", float(weak)), Row(prompt, "other", 0.0)]
    return rows


def test_a_fitted_scorer_knows_what_the_weak_model_does_not() -> None:
    report = fit(outcomes(signal=True), "strong", "weak")
    assert report.better
    assert report.fitted > 0.7 > max(report.length, report.rules)
    assert report.prompts == 400
    scorer = Scorer(report.data)
    assert len(report.data) <= LARGEST
    assert scorer.score("some new tax of the old duty") > scorer.score("some new robin of the old finch")
    assert "fitted" in str(report)
    assert "better" in report.verdict


def test_the_file_predicts_what_the_fit_did() -> None:
    rows = outcomes(signal=True)
    scorer = Scorer(fit(rows, "strong", "weak").data)
    texts = sorted({str(row.prompt) for row in rows})
    strong, weak = (
        np.array([{r.prompt: r.quality for r in rows if r.model == name}[text] for text in texts])
        for name in ("strong", "weak")
    )
    assert recovered(np.array([scorer.score(text) for text in texts]), weak, strong) > 0.7


def test_how_long_answers_are_is_the_mean_drawn_to_the_start() -> None:
    rows = [
        msgspec.structs.replace(row, tokens=900.0 if row.model == "strong" else 100.0 if row.model == "weak" else 9e5)
        for row in outcomes(signal=True)
    ]
    start = Scorer(packed(msgspec.structs.replace(shipped().model, answers=[10, 20, 30, 40, 50, 60])))
    report = fit(rows, "strong", "weak", start=start)
    # All are plain: 800 answers of 500 tokens in the mean, and ten as the start has it; of other kinds there are none.
    expected = [10, 20, 30, 40, round((800 * 500 + 10 * 50) / 810), 60]
    assert Scorer(report.data).model.answers == list(report.answers.values()) == expected
    assert f"plain {expected[4]}" in str(report)


def test_without_lengths_the_starts_are_kept() -> None:
    assert Scorer(fit(outcomes(signal=True), "strong", "weak").data).model.answers == shipped().model.answers
    nothing = Scorer(packed(msgspec.structs.replace(shipped().model, answers=[])))
    report = fit(outcomes(signal=True), "strong", "weak", start=nothing)
    assert Scorer(report.data).answer_tokens("some new tax") is None
    assert "tokens of an answer: unknown" in str(report)


def test_a_few_accents_say_nothing_of_another_script() -> None:
    rows = [
        msgspec.structs.replace(row, prompt=f"{row.prompt} in the café") if "robin" in str(row.prompt) else row
        for row in outcomes(signal=True)
    ]
    scorer = Scorer(fit(rows, "strong", "weak", force=True).data)
    said = dict(scorer.explain("Сколько нужно заплатить, если опоздать на месяц?"))["foreign"]
    assert abs(said) < scorer.model.spread


def choices(count: int = 300) -> tuple[list[str], Array]:
    """Questions of law, where the stronger model gains, and of sums, where it does not; and what it gains."""
    draw = random.Random(7)
    law = ["plaintiff", "court", "statute", "contract", "landlord", "jury", "appeal", "testimony"]
    sums = ["integer", "product", "equation", "circle", "fraction", "triangle", "degrees", "dollars"]
    texts = [
        f"{' '.join(draw.sample(law if number % 2 else sums, 4))} {number}?\nA. One\nB. Two\nC. None\nAnswer:"
        for number in range(count)
    ]
    return texts, np.array([float(number % 2 and draw.random() < 0.7) for number in range(count)])


def test_a_fit_keeps_the_topics_of_its_start_as_far_as_it_believes_them() -> None:
    texts, gain = choices()
    design = _Design(texts, shipped())
    weights = design.solve(gain, np.ones(len(texts)), 10.0)
    scorer = Scorer(design.file(weights, gain, "strong", "weak"))
    assert scorer.model.topics is not None
    expected = design.predict(weights) + gain.mean()
    assert np.abs(np.array([scorer.gain(text) for text in texts]) - expected).max() < 0.02
    assert any(name.startswith("topic:") for name, _ in scorer.explain(texts[0]))


def test_a_fitted_file_says_less_exactly_what_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, gain = choices()
    design = _Design(texts, shipped())
    weights = design.solve(gain, np.ones(len(texts)), 10.0)
    width = design.dense.shape[1]
    weights[1 : width : design.width] = np.arange(1, 7) / 10  # as if each kind had been met
    weights[width:] = np.random.default_rng(3).random(BUCKETS) - 0.5  # and each word
    whole = design.file(weights, gain, "strong", "weak")
    assert len(whole) <= LARGEST
    monkeypatch.setitem(_Design.file.__globals__, "LARGEST", len(whole) - 5000)
    data = design.file(weights, gain, "strong", "weak")
    assert len(data) <= len(whole) - 5000
    expected = design.predict(weights) + gain.mean()
    assert np.corrcoef([Scorer(data).gain(text) for text in texts], expected)[0, 1] > 0.99


def test_the_same_outcomes_make_the_same_bytes() -> None:
    assert fit(outcomes(signal=True), "strong", "weak").data == fit(outcomes(signal=True), "strong", "weak").data


def test_a_scorer_that_is_no_better_is_refused() -> None:
    with pytest.raises(Refused, match="no better than") as caught:
        fit(outcomes(signal=False), "strong", "weak")
    assert not caught.value.report.better
    assert not fit(outcomes(signal=False), "strong", "weak", force=True).better


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(ConfigurationError, match="at least 100"):
        fit(outcomes(signal=True, count=99), "strong", "weak")
    with pytest.raises(ConfigurationError, match="none is of strnog, but of other, strong, weak"):
        fit(outcomes(signal=True), "strnog", "weak")
    with pytest.raises(ConfigurationError, match="none is of a and b, but of nobody"):
        fit([], "a", "b")
    with pytest.raises(ConfigurationError, match="another one than the weak one, weak"):
        fit(outcomes(signal=True), "weak", "weak")
    with pytest.raises(ConfigurationError, match="no better than strong"):
        fit(outcomes(signal=True), "weak", "strong")


def test_lines_are_read_or_named() -> None:
    good = json.dumps({"prompt": "a", "model": "m", "quality": 1, "more": 2}).encode()
    assert read_rows([good, b"\n"]) == [Row("a", "m", 1.0)]
    messages = json.dumps({"prompt": [{"role": "user", "content": "a"}], "model": "m", "quality": 0.5}).encode()
    assert len(read_rows([messages])) == 1
    told = json.dumps({"prompt": "a", "model": "m", "quality": 1, "tokens": 17}).encode()
    assert read_rows([told]) == [Row("a", "m", 1.0, 17.0)]
    endless = b'{"prompt": "a", "model": "m", "quality": 1, "tokens": -1}'
    for bad in (b"{", b'{"prompt": "a"}', b'{"prompt": "a", "model": "m", "quality": 2}', b"\xff", endless):
        with pytest.raises(ConfigurationError, match="line 2"):
            read_rows([good, bad])


def test_the_area_of_an_order() -> None:
    weak, strong = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    assert recovered(np.array([1.0, 0.0]), weak, strong) == 0.75
    assert recovered(np.array([0.0, 1.0]), weak, strong) == 0.25
    assert recovered(np.array([0.0, 0.0]), weak, strong) == 0.5
    assert np.isnan(recovered(np.array([0.0, 1.0]), strong, weak))


@pytest.mark.timeout(900)  # fifty fits of 5,284 prompts: half a minute of CPU, and a busy machine's own time
@pytest.mark.skipif(DATA is None, reason="HPP_ROUTER_DATA names no folder of routing outcomes")
def test_a_refit_on_fourteen_tasks_reaches_its_goal() -> None:
    import gzip

    names = {"llama-3.1-nemotron-51b-instruct", "mistral-7b-instruct-v0.3"}
    with gzip.open(Path(str(DATA)) / "llmrouter_train.jsonl.gz", "rt") as file:
        found = [json.loads(line) for line in file]
    rows = [Row(r["prompt"], name, r["outcomes"][name][0]) for r in found for name in sorted(names)]
    empty = [
        msgspec.structs.replace(kind, weights=[0.0] * len(FEATURES), words=bytes(BUCKETS))
        for kind in shipped().model.kinds
    ]
    nothing = msgspec.structs.replace(shipped().model, kinds=empty, topics=None)  # the shipped one saw them
    start = Scorer(packed(nothing))
    assert fit(rows, "llama-3.1-nemotron-51b-instruct", "mistral-7b-instruct-v0.3", start=start).fitted >= 0.72
