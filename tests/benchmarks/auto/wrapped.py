"""
What a wrapping costs: `make auto-wrapped DATA=folder`.

The same prompts, asked in the ways that clients have: with instructions before or after, options numbered or in one
line, as JSON, after solved examples or other turns. For each the area (APGR) of fits that have not seen the prompt, how
many places of a hundred the scores moved, and how many prompts were taken for another kind.
"""

import argparse
import json
import random
import re
import sys
import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judged import held_out, judge, pairs
from pools import Row, load
from recipe import Knobs, Table
from train import vectors

from hpp_middleware.core.auto.learned import read

SHOWN = ("rl-mmlu", "rl-gsm8k", "mmlupro/gem-pro:flash", "llmrouter/51b:mistral7b", "mix/gpt4o:4o-mini")
LETTERS = "ABCDEFGHIJ"
CONTEXT = (
    "The museum was opened in 1911 and moved to the harbour forty years later. Its collection has ships, maps and tools"
    " of fishermen. In winter it is closed on Mondays, and the director has asked the town for a larger hall. "
)
TURNS = (
    ("Hi, can you help me plan a dinner for six people on Saturday?", "Of course! A roast chicken would do well."),
    ("One of them is a vegetarian and another does not eat nuts.", "Then I would suggest a mushroom risotto."),
    ("Great, thank you. Now something quite different.", "Go ahead!"),
)
_OPTION = re.compile(r"^\(?([A-J])[.):] +(.*)$", re.MULTILINE)


def parted(prompt: str) -> tuple[str, list[str]]:
    """The question and its options."""
    found = list(_OPTION.finditer(prompt))
    first = next((at for at in range(len(found) - 1, -1, -1) if found[at][1] == "A"), len(found))
    if len(found) - first < 3:
        return prompt.removesuffix("Answer:").rstrip(), []
    return prompt[: found[first].start()].rstrip(), [each[2] for each in found[first:]]


def listed(form: str, between: str = "\n", head: str = "\n", tail: str = "") -> Callable[[str], str]:
    """A wrapping that writes options its own way, and leaves prompts without any as they are."""

    def wrap(prompt: str) -> str:
        stem, options = parted(prompt)
        lines = [form.format(number=at + 1, letter=LETTERS[at], option=each) for at, each in enumerate(options)]
        return stem + head + between.join(lines) + tail if options else prompt

    return wrap


def as_json(prompt: str) -> str:
    """In JSON, as an application writes it."""
    stem, options = parted(prompt)
    return json.dumps({"question": stem} | ({"choices": options} if options else {}))


def solved(prompt: str, others: Sequence[str], draw: random.Random) -> list[tuple[str, str]]:
    """Some other prompts of the set, with answers of any kind."""
    found = []
    for other in [each for each in draw.sample(others, min(5, len(others))) if each != prompt][:3]:
        stem, options = parted(other)
        shown = "".join(f"\n{LETTERS[at]}. {each}" for at, each in enumerate(options))
        said = draw.choice(LETTERS[: len(options)]) if options else f"We add. The answer is {draw.randrange(99)}."
        found.append((stem + shown, said))
    return found


def shown_first(prompt: str, examples: Sequence[tuple[str, str]]) -> str:
    """Solved examples before the question, in one text."""
    text = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in examples)
    return f"{text}Question: {prompt.removesuffix('Answer:').rstrip()}\nAnswer:"


TEXTS: Mapping[str, Callable[[str], str]] = {
    "as it is": str,
    "instructions before": lambda prompt: f"Answer the following question as well as you can.\n\n{prompt}",
    "instructions after": lambda prompt: f"{prompt}\n\nThink step by step, and give the final answer at the end.",
    "German instructions": lambda prompt: f"Beantworte bitte die folgende Frage.\n\n{prompt}\n\nAntworte auf Deutsch.",
    "in small letters": str.lower,
    "options numbered": listed("{number}. {option}"),
    "... (1), by number": listed("({number}) {option}", tail="\n\nAnswer with the number of the correct choice."),
    "... indented, A)": listed("    {letter}) {option}", head="\nOptions:\n", tail="\nAnswer: "),
    "... in one line": listed("({letter}) {option}", between=" ", head=" "),
    "... as bullets": listed("- {option}", head="\n\nOptions:\n"),
    "Markdown": lambda prompt: f"## Question\n\n{listed('- **{letter}.** {option}')(prompt)}\n\n## Your answer\n",
    "JSON": as_json,
    "between fences": lambda prompt: f"Answer what stands between the fences.\n\n```\n{prompt}\n```",
    "a chat template": lambda prompt: f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n",
    "after a text": lambda prompt: f"Context:\n{CONTEXT * 6}\n\nQuestion: {prompt}",
}
CHATS = ("after three turns", "after such turns", "three solved before")


def wrapped(name: str, row: Row, others: Sequence[str]) -> object:
    """A prompt as a request's messages."""
    if name in TEXTS:
        return [{"role": "user", "content": TEXTS[name](row.prompt)}]
    examples = solved(row.prompt, others, random.Random(zlib.crc32(row.id.encode())))
    if name == "three solved before":
        return [{"role": "user", "content": shown_first(row.prompt, examples)}]
    turns: list[dict[str, Any]] = []
    for question, answer in TURNS if name == "after three turns" else examples:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*turns, {"role": "user", "content": row.prompt}]


def main() -> None:
    """Print a line for each wrapping."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    asked = parser.parse_args()
    evaluate = judge(asked.data)
    rows = load(asked.data)
    scorers = held_out(Table(rows, vectors()), Knobs(), labels=True)
    found = [each for each in pairs(evaluate, rows) if each[0] in SHOWN]
    alike = [row.task if row.source == "llmrouter_train" else row.source for row in rows]
    others: dict[str, list[str]] = {}
    for row, name in zip(rows, alike, strict=True):
        others.setdefault(name, []).append(row.prompt)
    sys.stdout.write(f"{'':21}" + "".join(f"{name:>25}" for name, _, _ in found) + "   other kind\n")
    first: tuple[Any, Any] | None = None
    for name in (*TEXTS, *CHATS):
        seen = [read(wrapped(name, row, others[set_])) for row, set_ in zip(rows, alike, strict=True)]
        scores = np.array([scorer.score(each) for scorer, each in zip(scorers, seen, strict=True)])
        places = np.array([bisect_left(each.quantiles, score) for each, score in zip(scorers, scores, strict=True)])
        kinds = np.array([each.kind for each in seen])
        first = first or (places, kinds)
        line = f"{name:21}"
        for _, at, known in found:
            moved = float((places - first[0])[at].mean())
            line += f"{evaluate.metrics(scores[at], *known)['APGR']:18.3f} {moved:+6.1f}"
        sys.stdout.write(f"{line} {float((kinds != first[1]).mean()):12.1%}\n")


if __name__ == "__main__":
    main()
