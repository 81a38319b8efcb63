"""What an expert guessed of MMLU carries the scorer's figures there: the recipe can be had without it, whole."""

import pytest

np = pytest.importorskip("numpy", reason="fitting needs the extra fit")

from guess import GUESS, SUBJECTS  # noqa: E402 - after numpy is known to be there
from pools import GPT4, MIXTRAL, Row  # noqa: E402
from recipe import Knobs, Table, Vectors  # noqa: E402

from hpp_middleware.core.auto.learned import packed  # noqa: E402

OTHER = {group: 0.3 - gain for group, gain in GUESS.items()}
PRO = ("Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-8B-Instruct", "Mixtral-8x7B-Instruct-v0.1")


@pytest.fixture(scope="module")
def table() -> Table:
    """Questions of each group, of both sets, made of the group's own words; right or wrong by lot."""
    draw = np.random.default_rng(1)
    words = sorted({word for _, said in SUBJECTS.values() for word in said.split()})
    vectors = Vectors(
        {word: at for at, word in enumerate(words)}, draw.normal(size=(len(words), 50)), draw.normal(size=(50, 384))
    )
    rows = []
    for group, (subjects, said) in SUBJECTS.items():
        for number in range(20):
            options = "\n".join(f"{letter}. {draw.choice(said.split())}" for letter in "ABCDEFGHIJ"[: 4 + number % 2])
            prompt = f"What of {' '.join(draw.choice(said.split(), 8))} {number}?\n{options}\nAnswer:"
            pro = number % 2 == 1
            models = PRO if pro else (GPT4, MIXTRAL)
            outcomes = {model: (float(draw.integers(2)), 1.0) for model in models}
            source, of = ("mmlu_pro_80pct", "mmlu_pro") if pro else ("routellm_mmlu_10pct", "mmlu")
            task = f"{of}/{subjects.split()[number % len(subjects.split())]}"
            rows.append(Row(f"{group}{number}", source, task, prompt, 50.0, outcomes))
    for number, prompt in enumerate(
        ("def f(x): return assert lambda", "How many are 3 and 4?", "Who is it?", "Is $x^2$ odd?")
    ):
        rows += [Row(f"other{number}", "any", "any", prompt, 9.0, dict.fromkeys(PRO, (1.0, 9.0)))]
    # A question of ten options, for the kind that has more than five.
    ten = "\n".join(f"{letter}. {letter}" for letter in "ABCDEFGHIJ")
    rows.append(Row("ten", "any", "any", f"Which?\n{ten}", 9.0, dict.fromkeys(PRO, (1.0, 9.0))))
    return Table(rows, vectors)


@pytest.mark.parametrize("labels", [True, False])
def test_nothing_of_the_guess_is_left_where_it_is_taken_out(
    table: Table, *, labels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = np.ones(len(table.rows))
    without = packed(table.fit(every, Knobs(guess=None), labels=labels))
    for group, gain in OTHER.items():
        monkeypatch.setitem(GUESS, group, gain)
    assert packed(table.fit(every, Knobs(guess=None), labels=labels)) == without


@pytest.mark.parametrize("labels", [True, False])
def test_the_guess_is_in_the_shipped_recipe(table: Table, *, labels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    every = np.ones(len(table.rows))
    shipped = packed(table.fit(every, Knobs(), labels=labels))
    for group, gain in OTHER.items():
        monkeypatch.setitem(GUESS, group, gain)
    assert packed(table.fit(every, Knobs(), labels=labels)) != shipped


def test_without_a_guess_topics_gain_what_the_labels_say(table: Table) -> None:
    every = np.ones(len(table.rows))
    topics = table.fit(every, Knobs(guess=None)).topics
    assert topics is not None
    seen = [table.gain[table.mmlu & (table.group == group)].mean() for group in topics.names]
    assert np.corrcoef(seen, topics.gains)[0, 1] > 0.999


def test_without_a_guess_and_labels_topics_say_nothing(table: Table) -> None:
    topics = table.fit(np.ones(len(table.rows)), Knobs(guess=None), labels=False).topics
    assert topics is not None
    assert set(topics.gains) == {0.0}
