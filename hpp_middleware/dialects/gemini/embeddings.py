"""
Embeddings of the Gemini API and of Vertex AI.

Sources: https://ai.google.dev/api/embeddings (``batchEmbedContents``, 100 texts at most) and
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api (``predict``: 250 texts,
of which ``gemini-embedding-001`` takes one a request; usage in each prediction's ``statistics``).
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.fields import NULL
from hpp_middleware.core.relay import UNREADABLE
from hpp_middleware.dialects.gemini.refusal import refused
from hpp_middleware.dialects.vectors import Embedded, OwnEmbeddings
from hpp_middleware.types.completion import Target

__all__ = ["MOST_TEXTS", "GeminiEmbeddings", "Refusing", "VertexEmbeddings"]

MOST_TEXTS = 100

_decode = msgspec.json.decode


class _Vector(Struct):
    values: list[float]


class _Tokens(Struct, rename="camel"):
    prompt_token_count: int


class _Answer(Struct, rename="camel"):
    embeddings: list[_Vector]
    usage_metadata: Raw = NULL


class _Statistics(Struct):
    token_count: int


class _Counted(Struct):
    values: list[float]
    statistics: _Statistics | None = None


class _Prediction(Struct):
    embeddings: _Counted


class _Predicted(Struct):
    predictions: list[_Prediction]


class Refusing:
    """Reads Google's errors."""

    def refusal(self, status: int, headers: object, body: bytes) -> bytes:  # noqa: ARG002  # the body tells both
        """See :meth:`hpp_middleware.dialects.gemini.Gemini.refusal`."""
        return refused(body)


class GeminiEmbeddings(Refusing, OwnEmbeddings):
    """See :class:`hpp_middleware.dialects.vectors.OwnEmbeddings`."""

    path = "batchEmbedContents"
    most = MOST_TEXTS

    def body(self, texts: list[str], size: Raw | None, target: Target) -> Any:
        """One request a text."""
        name = target.model_name if "/" in target.model_name else f"models/{target.model_name}"
        one = {"model": name} | ({} if size is None else {"outputDimensionality": size})
        return {"requests": [{**one, "content": {"parts": [{"text": text}]}} for text in texts]}

    def read(self, body: bytes) -> Embedded:
        """The vectors, and what the whole batch came to."""
        found = _decode(body, type=_Answer)
        return Embedded([each.values for each in found.embeddings], _tokens(found.usage_metadata), found.usage_metadata)


class VertexEmbeddings(Refusing, OwnEmbeddings):
    """See :class:`hpp_middleware.dialects.vectors.OwnEmbeddings`."""

    path = "predict"
    most = 250

    def most_texts(self, target: Target) -> int | None:
        """One, where a model takes no more."""
        return 1 if target.model_name.startswith("gemini-") else self.most

    def body(self, texts: list[str], size: Raw | None, target: Target) -> Any:  # noqa: ARG002  # the URL names it
        """One instance a text; one that is too long is refused, and not cut silently."""
        asked = {"autoTruncate": False} | ({} if size is None else {"outputDimensionality": size})
        return {"instances": [{"content": text} for text in texts], "parameters": asked}

    def read(self, body: bytes) -> Embedded:
        """The vectors, and what they came to, where each of them says so."""
        found = [each.embeddings for each in _decode(body, type=_Predicted).predictions]
        counts = [each.statistics.token_count for each in found if each.statistics is not None]
        if len(counts) < len(found):
            return Embedded([each.values for each in found])
        raw = Raw(msgspec.json.encode({"token_count": sum(counts)}))
        return Embedded([each.values for each in found], sum(counts), raw)


def _tokens(raw: Raw) -> int | None:
    try:
        return _decode(raw, type=_Tokens).prompt_token_count
    except UNREADABLE:
        return None
