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
from hpp_middleware.fitting import FitReport, Refused, Rival, Row, fit, read_rows  # noqa: E402
from hpp_middleware.fitting.curves import Array, ahead, recovered  # noqa: E402
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
    scorer = Scorer(design.file(weights, gain, {}))
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
    whole = design.file(weights, gain, {})
    assert len(whole) <= LARGEST
    monkeypatch.setitem(_Design.file.__globals__, "LARGEST", len(whole) - 5000)
    data = design.file(weights, gain, {})
    assert len(data) <= len(whole) - 5000
    expected = design.predict(weights) + gain.mean()
    assert np.corrcoef([Scorer(data).gain(text) for text in texts], expected)[0, 1] > 0.99


def test_the_same_outcomes_make_the_same_bytes() -> None:
    assert fit(outcomes(signal=True), "strong", "weak").data == fit(outcomes(signal=True), "strong", "weak").data


def test_a_scorer_that_is_no_better_is_refused() -> None:
    with pytest.raises(Refused, match=r"not surely better than a random order \(behind by") as caught:
        fit(outcomes(signal=False), "strong", "weak")
    assert not caught.value.report.better
    assert caught.value.report.data == b""
    assert caught.value.report.advice == "as it is behind, how many more outcomes would do cannot be said"


def test_one_that_is_installed_all_the_same_says_so_in_its_file() -> None:
    report = fit(outcomes(signal=False), "strong", "weak", force=True)
    assert not report.better
    judged = Scorer(report.data).model.about["judged"]
    assert judged == report.verdict
    assert judged.startswith("the fitted scorer is not surely better than a random order")
    better = fit(outcomes(signal=True), "strong", "weak")
    assert Scorer(better.data).model.about["judged"] == better.verdict


def by_lot(seed: int, count: int = 300) -> list[Row]:
    """Prompts of any words, and outcomes that have nothing to do with them."""
    draw = random.Random(seed)
    words = ["tax", "bird", "sum", "prove", "list", "law", "court", "integer", "poem", "code", "river", "why", "how"]
    rows = []
    for number in range(count):
        prompt = f"{' '.join(draw.choice(words) for _ in range(draw.randrange(3, 40)))} {number}"
        rows += [Row(prompt, "weak", float(draw.random() < 0.5)), Row(prompt, "strong", float(draw.random() < 0.7))]
    return rows


def test_outcomes_that_say_nothing_are_refused_though_some_fits_are_ahead_of_all_by_chance() -> None:
    reports = [fit(by_lot(seed), "strong", "weak", force=True) for seed in range(40)]
    assert sum(all(rival.ahead > 0 for rival in report.rivals) for report in reports) >= 5
    assert sum(report.better for report in reports) <= 1


def report(*rivals: tuple[float, float]) -> FitReport:
    """Of 300 prompts: by how much it is ahead of each, and the error of that."""
    names = ("a random order", "the scorer it started from", "the rules", "length alone")
    held = [
        Rival(name, 0.5, by, error, 1.0 if at else 3.0)
        for at, (name, (by, error)) in enumerate(zip(names, rivals, strict=True))
    ]
    return FitReport("a", "b", 300, 0.7, 0.5, 0.6, (held[0], held[1], held[2], held[3]), 10.0, {}, b"")


def test_a_fit_is_better_where_it_is_ahead_by_enough_errors_of_each() -> None:
    sure = report((0.1, 0.03), (0.04, 0.03), (0.04, 0.03), (0.04, 0.03))
    assert (sure.better, sure.advice) == (True, "")
    for at, by in ((0, 0.08), (1, 0.02), (2, 0.02), (3, 0.0)):
        figures = [(0.1, 0.03), (0.04, 0.03), (0.04, 0.03), (0.04, 0.03)]
        figures[at] = (by, 0.03 if by else 0.0)
        doubtful = report(*figures)
        assert not doubtful.better
        assert doubtful.rivals[at].name in doubtful.verdict
        assert sum(rival.name in doubtful.verdict for rival in doubtful.rivals) == 1


def test_one_that_is_not_far_enough_ahead_is_told_how_many_outcomes_would_do() -> None:
    doubtful = report((0.1, 0.03), (0.02, 0.03), (0.04, 0.03), (0.025, 0.03))
    # Twice the error is three times what it is ahead by: nine times the prompts have a third of the error.
    assert doubtful.advice.startswith("about 2,700 prompts in all (2,400 more) would probably do")
    assert "length alone (ahead by 0.025 +- 0.030, of 0.030 that are needed)" in str(doubtful)
    chance = report((0.08, 0.03), (0.04, 0.03), (0.04, 0.03), (0.04, 0.03))
    assert chance.advice.startswith("about 675 prompts in all (375 more)")
    assert "cannot be said" in report((0.1, 0.03), (0.02, 0.03), (-0.01, 0.03), (0.04, 0.03)).advice


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
    assert read_rows([b"\xef\xbb\xbf" + good + b"\r\n"]) == [Row("a", "m", 1.0)]  # as some editors write a file
    with pytest.raises(ConfigurationError) as caught:
        read_rows([b"{", good, *[bad] * 12])
    assert [line.partition(":")[0] for line in caught.value.message.split("\n")] == [
        *(f"line {number}" for number in (1, *range(3, 12))),
        "and 3 more",
    ]


def test_the_area_of_an_order() -> None:
    weak, strong = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    assert recovered(np.array([1.0, 0.0]), weak, strong) == 0.75
    assert recovered(np.array([0.0, 1.0]), weak, strong) == 0.25
    assert recovered(np.array([0.0, 0.0]), weak, strong) == 0.5
    assert np.isnan(recovered(np.array([0.0, 1.0]), strong, weak))


def test_the_error_of_what_is_ahead_is_that_of_prompts_drawn_anew() -> None:
    draw = np.random.default_rng(5)
    hard, weak = draw.random(600), (draw.random(600) < 0.5).astype(float)
    strong = np.maximum(weak, draw.random(600) < 0.8 * hard)
    good, worse = hard + 0.2 * draw.random(600), np.round(hard + draw.random(600), 1)  # of which many are equal
    by, error = ahead(good, worse, weak, strong)
    assert by == pytest.approx(recovered(good, weak, strong) - recovered(worse, weak, strong))
    drawn = [draw.integers(0, 600, 600) for _ in range(400)]
    again = [ahead(good[at], worse[at], weak[at], strong[at])[0] for at in drawn]
    assert np.std(again) == pytest.approx(error, rel=0.15)
    assert ahead(good, np.zeros(600), weak, strong)[0] == pytest.approx(recovered(good, weak, strong) - 0.5)


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
