"""A question is the same text, whichever natural way it is asked; and what is no wrapping stays as it is."""

import json
from typing import Any

import pytest

from hpp_middleware.core.auto.features import KINDS, features
from hpp_middleware.core.auto.question import HEAD, TAIL, text_of

STEM = "A buyer refuses to pay for goods that came late. Which claim of the seller is the strongest?"
OPTIONS = ("Breach of contract", "Battery", "Negligence", "Unjust enrichment, if any")
LINES = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", OPTIONS, strict=True))
CHOICE = f"{STEM}\n{LINES}"
SUM = "Tom has 3 apples and buys 4 more each day for 12 days. How many has he, if he eats half of them on each Sunday?"


def lines(form: str, between: str = "\n") -> str:
    return between.join(form.format(at + 1, "ABCD"[at], option) for at, option in enumerate(OPTIONS))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


EXAMPLES = (
    ("What is 2 + 2?", "4"),
    ("Who wrote Faust?\nA. Goethe\nB. Schiller\nC. Kleist", "A"),
    ("Ann has 3 pens.\n\nHow many pens has she?", "Let us see.\n\nShe has 3.\nThe answer is 3."),
)


@pytest.mark.parametrize(
    "wrapped",
    [
        f"{CHOICE}\nAnswer:",
        f"Question: {STEM}\nOptions:\n{lines('    {1}) {2}')}\nAnswer: ",
        f"Answer the following multiple choice question.\n\n{CHOICE}\n\nAnswer with the letter only.",
        f"{STEM}\n\n{lines('({1}) {2}')}\n\nLet's think step by step.",
        f"{STEM}\n{lines('{0}. {2}')}",
        f"{STEM}\n\n{lines('({0}) {2}')}\n\nReply with the number of the correct choice.",
        f"{STEM}\n{lines('Option {0}: {2}')}",
        f"{STEM}\n{lines('{1}: {2}')}",
        f"## Question\n\n{STEM}\n\n### Options\n\n{lines('- **{1}.** {2}')}\n\n## Your answer\n",
        f"{STEM} {lines('({1}) {2}', ' ')}",
        f"{STEM}\n\nChoices:\n{lines('- {2}')}",
        f"<question>\n{STEM}\n</question>\n<options>\n{LINES}\n</options>",
        json.dumps({"question": STEM, "choices": OPTIONS}),
        "Answer this.\n" + json.dumps({"id": 7, "question": STEM, "options": dict(zip("ABCD", OPTIONS, strict=True))}),
        json.dumps({"prompt": STEM, "options": lines("{1}) {2}").split("\n")}, indent=2) + '\nReply as {"answer": ""}.',
        f"```\n{CHOICE}\n```",
        f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{CHOICE}<|im_end|>\n<|im_start|>assistant\n",
        f"<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\n{CHOICE} [/INST]",
        f"Below is an instruction.\n\n### Instruction:\n{CHOICE}\n\n### Response:\n",
        f"Context: The shop is closed on Mondays.\n\nQuestion: {CHOICE}",
    ],
    ids=range(20),
)
def test_a_question_is_the_same_whichever_way_it_is_written(wrapped: str) -> None:
    assert text_of(wrapped) == CHOICE
    assert text_of([{"role": "system", "content": "Be brief."}, user(wrapped)]) == CHOICE
    assert text_of(text_of(wrapped)) == CHOICE


@pytest.mark.parametrize("asked", [CHOICE, SUM])
@pytest.mark.parametrize(
    ("before", "question", "answer", "after"),
    [
        ("", "Q: {}\n", "A: {}\n\n", "A:"),
        ("Here is how it is done.\n\n", "Question: {}\n", "Answer: {}\n\n", "Answer:"),
        ("", "### Example\nInput:\n{}\n", "Output:\n{}\n\n", "Output:"),
        ("", "{}\n", "Answer: {}\n\n", "Answer:"),
        ("", "Frage: {}\n", "Antwort: {}\n\n", "Antwort:"),
        ("", "问题：{}\n", "答案：{}\n\n", "答案："),  # noqa: RUF001 - as Chinese has it
    ],
    ids=range(6),
)
def test_solved_examples_before_a_question_are_passed_over(
    asked: str, before: str, question: str, answer: str, after: str
) -> None:
    examples = EXAMPLES[:2] if question == "{}\n" else EXAMPLES  # where only blank lines tell them apart
    text = before + "".join(question.format(q) + answer.format(a) for q, a in examples) + question.format(asked) + after
    assert text_of(text) == asked
    long = before + "".join(question.format(q * 99) + answer.format(a) for q, a in examples * 9)
    assert text_of(long + question.format(asked) + after) == asked


def test_turns_before_the_last_are_passed_over_unless_it_is_short() -> None:
    turns = [each for q, a in EXAMPLES for each in (user(q), said(a))]
    assert text_of([*turns, user(CHOICE)]) == CHOICE
    assert text_of([*turns, user(STEM), user(LINES)]) == CHOICE
    assert text_of([user(SUM), said("42"), user("And in a leap year?")]) == f"{SUM}\nAnd in a leap year?"
    assert text_of([user("Who wrote Faust?"), said("Goethe"), user(SUM), said("42"), user("Why?")]) == f"{SUM}\nWhy?"


@pytest.mark.parametrize(
    "text",
    [
        "Do as follows.\n1. Open the door.\n2. Close the door.\n3. Sit down.",
        "There are 3 houses.\n\nClues:\n1. The cat is in the first.\n2. The dog is not.\n3. It rains.\n\n" + SUM * 2,
        "Solution: 10 g of salt in 1 l of water.\n\nWhich concentration has it?",
        "Sort these:\n- one\n- two\n- three",
        "Why does this fail?\n```\nx = [1\nprint(x)\n```",
        "Why does this fail?\n```python\nprint(x)\n```",
        'Say what is odd here: {"name": "Ann", "age": -3}',
        "I have a note that says\nAnswer: 42\nand I do not know what it means. What may the question have been?",
        "Explain what (A) and (B) mean in this.",
        "A: I am late. B: So am I. Who is late?",
        "",
        "hi",
    ],
    ids=range(12),
)
def test_what_is_no_wrapping_stays_as_it_is(text: str) -> None:
    assert text_of(text) == text


def test_code_between_fences_is_code() -> None:
    assert KINDS[features(text_of("Why does this fail?\n```\nx = [1\nprint(x)\n```")).kind] == "code"
    assert KINDS[features(text_of(f"```\n{SUM}\n```")).kind] == "maths"


def test_only_the_head_and_the_tail_of_a_long_text_are_read() -> None:
    text = text_of("a" * HEAD + "b" * 1_000_000 + "c" * TAIL)
    assert text == "a" * HEAD + "c" * TAIL
    assert text_of("a" * (HEAD + TAIL)) == "a" * (HEAD + TAIL)


def test_what_the_user_wrote_is_read_and_the_rest_where_there_is_none() -> None:
    system = {"role": "system", "content": "be brief"}
    tool = {"role": "tool", "content": "a result"}
    parts = [{"type": "text", "text": "one"}, {"type": "image_url", "image_url": {"url": "data:"}}, {"text": "two"}]
    assert text_of([system, {"role": "user", "content": parts}, tool, user("three")]) == "one\ntwo\nthree"
    assert text_of([system, {"role": "assistant", "content": None}, tool]) == "be brief\na result"


@pytest.mark.parametrize(
    "messages",
    [None, 3, [], {}, [None], ["text"], [{}], [{"role": "user"}], [{"role": "user", "content": [None, {"text": 3}]}]],
)
def test_what_is_no_message_has_no_text(messages: object) -> None:
    assert text_of(messages) == ""


@pytest.mark.parametrize(
    "text",
    [
        '{"question": ' * 1000,
        '{"question": "' + "\\ud800" + '", "options": [null, 1, []]}',
        '{"question": 1}',
        "\nA: x" * 1000,
        "<|im_start|>user",
        "[INST]",
        "```",
        "\ud800",
        "²) a\n³) b\n¹) c",
        "\u0661. a\n\u0662. b\n\u0663. c",
    ],
)
def test_no_text_is_too_odd(text: str) -> None:
    assert isinstance(text_of(text), str)
