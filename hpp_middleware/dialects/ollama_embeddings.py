"""
Ollama's own embeddings, ``/api/embed``: its count of tokens is ``prompt_eval_count``.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings. A text that is too long for the
model is refused, and not cut silently, as it would be by itself.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.fields import NULL
from hpp_middleware.dialects.ollama_shared import loaded, refused
from hpp_middleware.dialects.vectors import Embedded, OwnEmbeddings
from hpp_middleware.types.completion import Target

__all__ = ["OllamaEmbeddings"]

_encode = msgspec.json.Encoder().encode


class _Answer(Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None


_answer = msgspec.json.Decoder(_Answer)


class OllamaEmbeddings(OwnEmbeddings):
    """See :class:`hpp_middleware.dialects.vectors.OwnEmbeddings`."""

    path = "embed"

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:  # noqa: ARG002
        """See :class:`hpp_middleware.ports.Dialect`."""
        return refused(status, body)

    def body(self, texts: list[str], size: Raw | None, target: Target) -> Any:
        """All texts at once."""
        members, options = loaded(target.provider)
        asked = {"model": target.model_name, "input": texts, "truncate": False, **members}
        asked |= {"options": options} if options else {}
        return asked if size is None else {**asked, "dimensions": size}

    def read(self, body: bytes) -> Embedded:
        """The vectors, and what they came to."""
        found = _answer.decode(body)
        count = found.prompt_eval_count
        raw = NULL if count is None else Raw(_encode({"prompt_eval_count": count}))
        return Embedded(found.embeddings, count, raw)
