"""
What tokens are, and what they cost.

Money is an ``int`` of nano-dollars (10^-9 USD); a rate is an ``int`` of atto-dollars (10^-18 USD) a token, so that
"0.0375 dollars a million tokens" is exactly 37,500,000,000 and no float ever touches a price.
"""

from msgspec import Struct
from msgspec.structs import astuple

__all__ = ["Price", "Rates", "Usage"]


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    Tokens in disjoint buckets: each token of an exchange stands in exactly one of them.

    OpenAI reports cached tokens inside ``prompt_tokens`` and reasoning inside ``completion_tokens``; here ``input`` is
    what is left of the prompt, and ``output`` what is left of the completion, after those have been taken out.

    Attributes:
        cache_write: Written to a cache that lasts minutes (Anthropic: five).
        cache_write_1h: Written to one that lasts an hour.
        cache_read_audio: Sound that came out of the cache; ``cache_read`` is the rest.
        tool_prompt: What the provider's own tools have put into the prompt (Gemini's ``toolUsePromptTokenCount``).
        web_searches: Calls of the provider's search, which are no tokens: they are in no sum of them.
    """

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    input_audio: int = 0
    output: int = 0
    reasoning: int = 0
    output_audio: int = 0
    cache_write_1h: int = 0
    input_image: int = 0
    tool_prompt: int = 0
    output_image: int = 0
    web_searches: int = 0
    cache_read_audio: int = 0

    @property
    def prompt(self) -> int:
        """All tokens that went in."""
        cached = self.cache_read + self.cache_read_audio + self.cache_write + self.cache_write_1h
        return self.input + cached + self.input_audio + self.input_image + self.tool_prompt

    @property
    def completion(self) -> int:
        """All tokens that came out."""
        return self.output + self.reasoning + self.output_audio + self.output_image

    @property
    def total(self) -> int:
        """All tokens."""
        total: int = sum(astuple(self))
        return total - self.web_searches


class Rates(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    Atto-dollars a token, one rate a bucket.

    A bucket without a rate of its own costs what its base costs: cached reads and writes, images and what tools put
    into the prompt as ``input``, sound out of the cache as ``input_audio``, reasoning as ``output``; a cache that lasts
    an hour twice ``input``, which is what Anthropic, whose cache it is, bills for it. Audio, and images that come out,
    have no such fallback, since they are never as cheap as text: ``None`` means that they cannot be priced.

    Attributes:
        web_search: Atto-dollars a search, not a token; without it searches cannot be priced.
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    input_audio: int | None = None
    output_audio: int | None = None
    cache_write_1h: int | None = None
    input_image: int | None = None
    tool_prompt: int | None = None
    output_image: int | None = None
    web_search: int | None = None
    cache_read_audio: int | None = None


class Price(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What one model costs.

    Attributes:
        base: The rates of an ordinary prompt.
        tiers: ``(from, rates)`` pairs, ascending: a prompt of more than ``from`` tokens is billed wholly at ``rates``
            (a cliff, as Google and Anthropic bill long contexts).
        source: Where the price comes from: ``configuration``, or the price list's name and version.
        only: The one client API whose requests it prices (``embeddings``, where output has no price; ``images``, where
            it is no text's); None for all of them.
    """

    base: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    source: str = "configuration"
    only: str | None = None
