"""The pools of prompts that the shipped scorer is fitted and judged on: how they are read, and never shipped."""

import gzip
import json
import re
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpp_middleware.core.auto.features import Features, features
from hpp_middleware.core.auto.question import text_of

GPT4, MIXTRAL = "gpt-4-1106-preview", "mistralai/Mixtral-8x7B-Instruct-v0.1"
FILES = (
    "routellm_mmlu_10pct",
    "routellm_gsm8k_25pct",
    "mmlu_pro_80pct",
    "llmrouter_train",
    "zeroeval_math_l5_70pct",
    "zeroeval_crux_70pct",
    "zeroeval_gsm8k_25pct",
)
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Row:
    """A prompt, and what each model made of it: whether it was right, and how many tokens it wrote."""

    id: str
    source: str
    task: str
    prompt: str
    tokens: float
    outcomes: dict[str, tuple[float, float]] = field(repr=False)

    @cached_property
    def seen(self) -> Features:
        return features(text_of(self.prompt))

    @cached_property
    def written(self) -> float | None:
        """The models' mean tokens of an answer; None where the set has one length for all, which says nothing."""
        tokens = [written for _, written in self.outcomes.values()]
        return float(np.mean(tokens)) if len(set(tokens)) > 1 else None

    @cached_property
    def key(self) -> str:
        """The beginning of the prompt without its marks: the same question of two sets has one."""
        return re.sub(r"\W+", "", self.prompt.lower())[:60]

    def fold(self, folds: int, seed: int) -> int:
        """The same for the same question in whichever set, so that none is fitted on and judged by."""
        return zlib.crc32(f"{seed}{self.key}".encode()) % folds


def load(folder: Path) -> list[Row]:
    """All prompts of the folder, in the order of FILES."""
    rows = []
    for name in FILES:
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                found = json.loads(line)
                outcomes = {
                    model.replace("Llama-3_1", "Llama-3.1"): (float(score), float(tokens))
                    for model, (score, tokens) in found["outcomes"].items()
                }
                rows.append(Row(found["id"], name, found["task"], found["prompt"], float(found["in_tokens"]), outcomes))
    return rows
