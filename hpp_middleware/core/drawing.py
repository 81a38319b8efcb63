"""
How many tokens an image can cost that a model draws, by size and quality: what is held for each. Data.

Sources, as of 2026-11. OpenAI, "Image generation", https://developers.openai.com/api/docs/guides/image-generation,
"Calculating costs": the tokens of GPT Image 1 and 1.5, and the dollars an image of GPT Image 2 and 1 mini, which are
tokens at $30 and $8 a million. From 1.5 on the models write some text as well, which is billed, and of which no bound
is published; a report of 209 tokens an image is in
https://community.openai.com/t/gpt-image-1-5-images-api-returns-text-output-tokens-can-we-disable-this/1369511.
Google, "Gemini 3.1 Flash Image", https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/: 1,120 tokens
for the size that is drawn unless another is asked for, 1,290 with 2.5 Flash Image; text and thoughts come on top.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from msgspec import Struct

from hpp_middleware.types.completion import Drawing, Target

__all__ = ["IMAGE_IN_CHAT", "QUALITIES", "SIZES", "UNKNOWN", "most_tokens"]

SIZES = ("1024x1024", "1024x1536", "1536x1024")
QUALITIES = ("low", "medium", "high")

_TEXT = 1_000
"""What a model may write besides: several times what has been seen."""


class _Table(Struct, frozen=True):
    """
    The tokens of an image.

    Attributes:
        tokens: By quality, and then in the order of :data:`SIZES`.
        more: Of text, at most.
    """

    tokens: Mapping[str, tuple[int, int, int]]
    more: int = 0

    def most(self, drawing: Drawing) -> int:
        """The most of all sizes and qualities that are left to the model."""
        one = self.tokens.get(drawing.quality or "")
        rows = [one] if one is not None else list(self.tokens.values())
        at = SIZES.index(drawing.size) if drawing.size in SIZES else None
        return max(max(row) if at is None else row[at] for row in rows) + self.more


_GPT_1 = {"low": (272, 408, 400), "medium": (1_056, 1_584, 1_568), "high": (4_160, 6_240, 6_208)}
_GPT_2 = {"low": (217, 184, 184), "medium": (1_784, 1_384, 1_384), "high": (7_024, 5_517, 5_517)}
_GEMINI = {"": (1_290, 1_290, 1_290)}

_TABLES: Mapping[str, _Table] = {
    "gpt-image-1": _Table(_GPT_1),
    "gpt-image-1-mini": _Table(_GPT_1, _TEXT),  # its prices of an image are of about 340 tokens more
    "gpt-image-1.5*": _Table(_GPT_1, _TEXT),
    "gpt-image-2": _Table(_GPT_2, _TEXT),
    "gpt-image-2-20*": _Table(_GPT_2, _TEXT),
    "gemini-*-image*": _Table(_GEMINI, 7_000),
}

IMAGE_IN_CHAT = 2_520
"""Tokens of the largest image that comes out of a chat (https://ai.google.dev/gemini-api/docs/pricing)."""

UNKNOWN = max(table.most(Drawing()) for table in _TABLES.values())
"""For a model that none of them is of."""


def most_tokens(target: Target, drawing: Drawing) -> int:
    """
    The most output tokens that one image can cost.

    Args:
        target: The model; what its configuration says wins.
        drawing: What is asked for.
    """
    if target.model.image_output_tokens is not None:
        return target.model.image_output_tokens
    name = target.model_name.rpartition("/")[2]  # as a provider of many makers' models says
    table = next((table for pattern, table in _TABLES.items() if fnmatchcase(name, pattern)), None)
    return table.most(drawing) if table is not None else UNKNOWN
