"""
The well-known providers: where they are, and what they know. Data.

Sources: each provider's own API reference, as of 2026-11; where a reference is silent, the field that every version of
the provider has known.

What they do when a stream is closed before its end (``on_disconnect``) is in OpenRouter's documentation, "Stream
Cancellation", https://openrouter.ai/docs/api-reference/streaming: of the providers here OpenAI, Azure, Anthropic,
DeepSeek, xAI, Together and Fireworks stop, and bill no more; Groq, Mistral, Google and Bedrock go on, and bill the
whole answer. OpenRouter itself does as whoever serves the model there, which is not known before; Moonshot is not
listed. Both are read on, since what they then report is what they bill in either case. The local servers bill nothing,
and stop, which frees the machine: vLLM (https://github.com/vllm-project/vllm/pull/32442, its maintainer's answer),
Ollama
(https://github.com/ollama/ollama/issues/2876), llama.cpp (https://github.com/ggml-org/llama.cpp/pull/18459).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hpp_middleware.dialects.urls import filled
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.provider import OnDisconnect, Provider

__all__ = ["PRESETS", "Preset", "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """
    What a provider's name alone tells.

    Attributes:
        base_url: Where it is; a name in braces is one of ``options``, which then must be set.
        key_variable: The environment variable its key is usually kept in; None for local servers, which need none.
        cap_fields: The output caps it knows, ours first.
        include_usage: Whether it knows ``stream_options``.
        cost_fields: Fields that change what it charges.
        reasoning: Globs of models whose reasoning the stream does not show.
        prices: Its id in genai-prices.
        on_disconnect: What becomes of a stream whose client has left: ``drain`` where it is billed to its end anyhow.
        dialect: The API it speaks.
        key_optional: Whether it also takes credentials of another kind, which are found elsewhere.
        native_apis: Client APIs that it takes as they are.
        options: What its dialect, and translations for it, need besides; an operator's own go before.
    """

    base_url: str
    key_variable: str | None = None
    cap_fields: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    include_usage: bool = True
    cost_fields: frozenset[str] = frozenset()
    reasoning: tuple[str, ...] = ()
    prices: str | None = None
    on_disconnect: OnDisconnect = "cancel"
    dialect: str = "openai"
    key_optional: bool = False
    native_apis: frozenset[str] = frozenset({"embeddings", "images"})
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """Whether it runs on the operator's own machine."""
        return self.key_variable is None and not self.key_optional

    @property
    def placed(self) -> bool:
        """Whether it is known where it is: no option has to say."""
        return "{" not in self.base_url


_ONLY_MAX_TOKENS = ("max_tokens",)

_GEMINIS_THAT_THINK = ("gemini-2.5*", "gemini-[3-9]*", "gemini-*-latest")
"""They do so unasked, and show a summary of it at most, where the request asks for one."""
_CLAUDES_THAT_THINK_UNASKED = (
    "claude-mythos-*",
    "claude-fable-*",
    "claude-opus-5*",
    "claude-sonnet-5*",
    "claude-haiku-5*",
)
"""
They think as they see fit, and what is shown of it is a summary at most
(https://platform.claude.com/docs/en/build-with-claude/thinking); earlier ones do so where the request says so.
"""
_BEDROCKS_THAT_THINK_UNASKED = (
    "*claude-mythos-*",
    "*claude-fable-*",
    "*claude-opus-5*",
    "*claude-sonnet-5*",
    "*claude-haiku-5*",
    "*openai.gpt-5*",
)
"""
They think as they see fit, and what is shown of it is a summary at most
(https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html).
"""

PRESETS: dict[str, Preset] = {
    "openai": Preset(
        base_url="https://api.openai.com/v1",
        key_variable="OPENAI_API_KEY",
        cap_fields=("max_completion_tokens", "max_tokens"),
        reasoning=("o1*", "o3*", "o4*", "gpt-5*"),
        prices="openai",
        native_apis=frozenset({"embeddings", "images", "responses"}),
    ),
    "anthropic": Preset(
        base_url="https://api.anthropic.com",
        key_variable="ANTHROPIC_API_KEY",
        cap_fields=_ONLY_MAX_TOKENS,
        reasoning=_CLAUDES_THAT_THINK_UNASKED,
        prices="anthropic",
        dialect="anthropic",
    ),
    "moonshot": Preset(
        base_url="https://api.moonshot.ai/v1",
        key_variable="MOONSHOT_API_KEY",
        cap_fields=_ONLY_MAX_TOKENS,
        prices="moonshotai",
        on_disconnect="drain",
        options={"takes": "reasoning_content"},  # and wants it of turns that call tools
    ),
    "mistral": Preset(
        base_url="https://api.mistral.ai/v1",
        key_variable="MISTRAL_API_KEY",
        cap_fields=_ONLY_MAX_TOKENS,
        include_usage=False,  # refuses stream_options, and always reports usage in its last chunk
        prices="mistral",
        on_disconnect="drain",
    ),
    "groq": Preset(
        base_url="https://api.groq.com/openai/v1",
        key_variable="GROQ_API_KEY",
        cap_fields=("max_completion_tokens", "max_tokens"),
        prices="groq",
        on_disconnect="drain",
    ),
    "deepseek": Preset(
        base_url="https://api.deepseek.com",
        key_variable="DEEPSEEK_API_KEY",
        cap_fields=_ONLY_MAX_TOKENS,
        prices="deepseek",
        options={"takes": "reasoning_content"},  # likewise
    ),
    "xai": Preset(
        base_url="https://api.x.ai/v1",
        key_variable="XAI_API_KEY",
        cap_fields=("max_completion_tokens", "max_tokens"),
        reasoning=("grok-4*", "grok-3-mini*"),
        prices="x-ai",
    ),
    "openrouter": Preset(
        base_url="https://openrouter.ai/api/v1",
        key_variable="OPENROUTER_API_KEY",
        cost_fields=frozenset({"models", "plugins", "provider", "route", "preset", "transforms"}),
        prices="openrouter",
        on_disconnect="drain",
        options={"takes": "cache_control reasoning reasoning_details"},
    ),
    "together": Preset(
        base_url="https://api.together.xyz/v1",
        key_variable="TOGETHER_API_KEY",
        cap_fields=_ONLY_MAX_TOKENS,
        prices="together",
    ),
    "fireworks": Preset(
        base_url="https://api.fireworks.ai/inference/v1",
        key_variable="FIREWORKS_API_KEY",
        prices="fireworks",
    ),
    "gemini": Preset(
        base_url="https://generativelanguage.googleapis.com/v1beta",
        key_variable="GEMINI_API_KEY",
        cap_fields=_ONLY_MAX_TOKENS,
        reasoning=_GEMINIS_THAT_THINK,
        prices="google",
        on_disconnect="drain",
        dialect="gemini",
    ),
    "vertex": Preset(
        base_url="https://aiplatform.googleapis.com/v1",
        key_optional=True,  # an access token is fetched, unless there is a key of its express mode
        cap_fields=_ONLY_MAX_TOKENS,
        reasoning=_GEMINIS_THAT_THINK,
        prices="google",
        on_disconnect="drain",
        dialect="vertex",
    ),
    "azure": Preset(
        base_url="https://{resource}.openai.azure.com",
        dialect="azure",
        key_variable="AZURE_OPENAI_API_KEY",
        cap_fields=("max_completion_tokens", "max_tokens"),
        reasoning=("o1*", "o3*", "o4*", "gpt-5*"),
        prices="azure",
    ),
    "bedrock": Preset(
        base_url="https://bedrock-runtime.{region}.amazonaws.com",
        dialect="bedrock",
        key_variable="AWS_BEARER_TOKEN_BEDROCK",
        key_optional=True,  # else calls are signed with an account's keys
        reasoning=_BEDROCKS_THAT_THINK_UNASKED,
        prices="aws",
        on_disconnect="drain",
    ),
    "ollama": Preset(base_url="http://127.0.0.1:11434/v1", cap_fields=_ONLY_MAX_TOKENS),
    "vllm": Preset(base_url="http://127.0.0.1:8001/v1", options={"takes": "reasoning_content"}),
    "llamacpp": Preset(
        base_url="http://127.0.0.1:8080/v1",
        options={"takes": "reasoning_content"},
        # Its Responses and Messages leave formats and tool_choice unread: by way of chat both are kept.
        native_apis=frozenset({"embeddings"}),
    ),
    "lmstudio": Preset(base_url="http://127.0.0.1:1234/v1", cap_fields=_ONLY_MAX_TOKENS),
}


def provider(name: str, *, api_key: str | None = None, **settings: Any) -> Provider:
    """
    A well-known provider, ready to use.

    Args:
        name: One of :data:`PRESETS`.
        api_key: The operator's key; local servers need none.
        settings: Fields of :class:`~hpp_middleware.types.provider.Provider` that differ, ``base_url`` among them.
    Raises:
        ConfigurationError: There is no preset of that name, or it needs a key.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise ConfigurationError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}", param="preset")
    with_keys = [each.api_key is not None for each in settings.get("upstreams", ())]
    needs_key = not preset.local and not preset.key_optional and not (with_keys and all(with_keys))
    if api_key is None and needs_key and "base_url" not in settings:
        raise ConfigurationError(f"providers.{name}.api_key is missing", param=f"providers.{name}.api_key")
    known = {
        "base_url": preset.base_url,
        "cap_fields": preset.cap_fields,
        "include_usage": preset.include_usage,
        "cost_fields": preset.cost_fields,
        "reasoning": preset.reasoning,
        "prices": preset.prices,
        "on_disconnect": preset.on_disconnect,
        "dialect": preset.dialect,
        "native_apis": preset.native_apis,
    }
    own = settings.get("options", {})
    found: dict[str, Any] = {**known, **settings, "options": own}
    if found["dialect"] == preset.dialect:
        found["options"] = {**preset.options, **own}
    # Where each of several upstreams says what is in braces, the provider need not: it is the first of them, then.
    upstreams = found.get("upstreams", ())
    first = {**found["options"], **(upstreams[0].options if upstreams else {})}
    found["upstreams"] = tuple(
        each
        if each.base_url is not None
        else replace(each, base_url=filled(found["base_url"], {**found["options"], **each.options}))
        for each in upstreams
    )
    found["base_url"] = filled(found["base_url"], first)
    return Provider(api_key=api_key, **found)
