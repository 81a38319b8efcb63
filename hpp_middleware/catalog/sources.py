"""
Where the model catalogue comes from: which parts of the two registries are a provider's, and what an image costs. Data.

A section of the catalogue has the id that genai-prices has for the provider, so that one ``prices`` of a provider
finds both. Nothing here is read while a gateway serves: see :mod:`hpp_middleware.catalog.refresh`.
"""

import re
from typing import NamedTuple

__all__ = ["ALIASES", "IMAGES", "SECTIONS", "Images", "Section"]


class Section(NamedTuple):
    """
    What makes up one provider's section; what stands first wins.

    Attributes:
        models_dev: Ids of providers in models.dev.
        litellm: Values of ``litellm_provider``.
        prefixes: What litellm puts before the provider's own names.
        flat: Whether the provider's names have no ``/``: those that have are prices of a region or a plan.
    """

    models_dev: tuple[str, ...]
    litellm: tuple[str, ...]
    prefixes: tuple[str, ...]
    flat: bool = False


SECTIONS = {
    "anthropic": Section(("anthropic",), ("anthropic",), ("anthropic/",)),
    "aws": Section(("amazon-bedrock",), ("bedrock_converse", "bedrock"), ("bedrock/converse/", "bedrock/"), flat=True),
    "azure": Section(("azure", "azure-cognitive-services"), ("azure", "azure_ai"), ("azure/", "azure_ai/"), flat=True),
    "baseten": Section(("baseten",), ("baseten",), ("baseten/",)),
    "cerebras": Section(("cerebras",), ("cerebras",), ("cerebras/",)),
    "cloudflare": Section(("cloudflare-workers-ai",), ("cloudflare",), ("cloudflare/",)),
    "cohere": Section(("cohere",), ("cohere_chat",), ("cohere/", "cohere_chat/")),
    "databricks": Section(("databricks",), ("databricks",), ("databricks/",)),
    "deepseek": Section(("deepseek",), ("deepseek",), ("deepseek/",)),
    "fireworks": Section(("fireworks-ai",), ("fireworks_ai",), ("fireworks_ai/",)),
    "github-copilot": Section(("github-copilot",), ("github_copilot",), ("github_copilot/",)),
    # The Gemini API and Vertex AI, which genai-prices has as one, and which name the same models alike.
    "google": Section(
        ("google", "google-vertex", "google-vertex-anthropic"),
        (
            *("gemini", "vertex_ai", "vertex_ai-language-models", "vertex_ai-anthropic_models"),
            *("vertex_ai-mistral_models", "vertex_ai-llama_models", "vertex_ai-qwen_models"),
            *("vertex_ai-deepseek_models", "vertex_ai-moonshot_models", "vertex_ai-openai_models"),
            *("vertex_ai-minimax_models", "vertex_ai-zai_models", "vertex_ai-ai21_models"),
        ),
        ("gemini/", "vertex_ai/"),
    ),
    "groq": Section(("groq",), ("groq",), ("groq/",)),
    "meta": Section(("llama",), ("meta", "meta_llama"), ("meta/", "meta_llama/")),
    "minimax": Section(("minimax",), ("minimax",), ("minimax/",)),
    "mistral": Section(("mistral",), ("mistral",), ("mistral/",)),
    "moonshotai": Section(("moonshotai",), ("moonshot",), ("moonshot/",)),
    "novita": Section(("novita-ai",), ("novita",), ("novita/",)),
    "openai": Section(("openai",), ("openai",), ("openai/",), flat=True),
    "openrouter": Section(("openrouter",), ("openrouter",), ("openrouter/",)),
    "ovhcloud": Section(("ovhcloud",), ("ovhcloud",), ("ovhcloud/",)),
    "perplexity": Section(("perplexity",), ("perplexity",), ("perplexity/",)),
    "together": Section(("togetherai",), ("together_ai",), ("together_ai/",)),
    "x-ai": Section(("xai",), ("xai",), ("xai/",)),
    "zai": Section(("zai",), ("zai",), ("zai/",)),
    "zhipuai": Section(("zhipuai",), ("bigmodel",), ("bigmodel/",)),
}

ALIASES = {
    "amazon-bedrock": "aws",
    "bedrock": "aws",
    "azure-openai": "azure",
    "fireworks-ai": "fireworks",
    "gemini": "google",
    "google-vertex": "google",
    "moonshot": "moonshotai",
    "togetherai": "together",
    "vertex": "google",
    "vertexai": "google",
    "xai": "x-ai",
}
"""What else a provider may be called, where it has no ``prices``: other registries' ids, and our presets' names."""


class Images(NamedTuple):
    """
    The most tokens that one image can cost.

    Attributes:
        sections: The providers that bill so.
        models: Which of their models, the maker's name and region left off.
        tokens: The most; where a vendor's own figures disagree, the greater.
    """

    sections: tuple[str, ...]
    models: re.Pattern[str]
    tokens: int


_OPENAI = ("openai", "azure", "openrouter", "github-copilot")
_CLAUDE = ("anthropic", "aws", "azure", "google", "openrouter", "github-copilot", "databricks")
_GEMINI = ("google", "openrouter", "github-copilot", "databricks")

# OpenAI, "Images and vision", https://developers.openai.com/api/docs/guides/images-vision, as of 2026-11: an image of
# `detail: high` is at most 8 tiles of 512 pixels (2,048 x 768), each so many tokens, and a base; newer models count
# patches of 32 pixels, so many at most, times a factor.
# Anthropic, "Images and vision", https://platform.claude.com/docs/en/build-with-claude/vision: patches of 28 pixels,
# about 1,600 in all before Claude Opus 4.7, and 4,784 from then on.
# Google, "Media resolution", https://ai.google.dev/gemini-api/docs/media-resolution: Gemini 3 takes 1,120, and 2,240
# where a request asks for the highest. Gemini 2 cuts large images into ever more tiles: it has no figure here.
# Together, "Vision", https://docs.together.ai/docs/vision-overview: 2 x 2 tiles of 1,601.
# A model that matches nothing here keeps the bound of hpp_middleware.core.bound.
IMAGES = (
    Images(_OPENAI, re.compile(r"gpt-4o-mini"), 2_833 + 8 * 5_667),
    Images(_OPENAI, re.compile(r"(chatgpt-4o|gpt-4o|gpt-4-turbo|gpt-4\.5)"), 85 + 8 * 170),
    Images(_OPENAI, re.compile(r"gpt-4\.1-mini"), 2_489),  # 1,536 patches x 1.62
    Images(_OPENAI, re.compile(r"gpt-4\.1-nano"), 3_779),  # 1,536 patches x 2.46
    Images(_OPENAI, re.compile(r"gpt-4\.1"), 1_536),  # 8 tiles are 1,445; an earlier text had 1,536 patches
    Images(_OPENAI, re.compile(r"gpt-5(\.4)?-mini"), 2_489),
    Images(_OPENAI, re.compile(r"gpt-5(\.4)?-nano"), 3_779),
    Images(_OPENAI, re.compile(r"gpt-5(-chat|-20\d\d|$)"), 70 + 8 * 140),
    Images(_OPENAI, re.compile(r"gpt-5\.[45]"), 12_000),  # 10,000 patches; billed at 1.2 where it was measured
    # "original", the default from here on, keeps any size: this is an image of 4,096 x 4,096 at 1.2. A larger one costs
    # more than is held for it.
    Images(_OPENAI, re.compile(r"gpt-(5\.([6-9]|\d\d)|[6-9])"), 20_000),
    Images(_OPENAI, re.compile(r"o4-mini"), 2_642),  # 1,536 patches x 1.72
    Images(_OPENAI, re.compile(r"o[13](-|$)"), 75 + 8 * 150),
    Images(_CLAUDE, re.compile(r"claude-(3|(sonnet|haiku|opus)-4(?![-.][789]))"), 1_600),
    Images(_CLAUDE, re.compile(r"claude-4([-.][0156])?-(sonnet|haiku|opus)"), 1_600),
    Images(_CLAUDE, re.compile(r"claude-opus-4[-.][78]"), 4_784),
    Images(_GEMINI, re.compile(r"gemini-3"), 2_240),
    Images(("together",), re.compile(r""), 4 * 1_601),
)
