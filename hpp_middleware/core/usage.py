"""
Usage as upstreams report it, into disjoint buckets.

Zero is a report. What is no whole number of tokens, or no number that any request could have used, is no report: the
caller then settles by its policy for missing usage. What contradicts itself is taken, and called doubtful.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from hpp_middleware.types.price import Usage

__all__ = ["MOST_TOKENS", "Reading", "falls", "read_openai", "read_responses", "reading", "told", "told_responses"]

MOST_TOKENS = 10**9
"""More tokens than any request can use; a larger count is a fault of the upstream, not a bill."""

_Count = int | None
_Told = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
"""A count that is looked at as it is read; the others are where they are taken."""


class _PromptDetails(Struct, frozen=True, gc=False):
    cached_tokens: _Count = None
    cache_write_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None


class _CompletionDetails(Struct, frozen=True, gc=False):
    reasoning_tokens: _Count = None
    audio_tokens: _Count = None
    image_tokens: _Count = None


class _OpenAIUsage(Struct, frozen=True, gc=False):
    prompt_tokens: _Told
    completion_tokens: _Told
    total_tokens: _Told | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: _Count = None  # DeepSeek's name for what OpenAI calls cached_tokens
    cached_tokens: _Count = None  # Moonshot's place for it
    reasoning_tokens: _Count = None  # some servers' place for it
    prompt_audio_seconds: Any = None  # Mistral's: its total has the sound's tokens, and its prompt has not


class _ResponsesUsage(Struct, frozen=True, gc=False):
    input_tokens: int
    output_tokens: int
    total_tokens: _Count = None
    input_tokens_details: _PromptDetails | None = None
    output_tokens_details: _CompletionDetails | None = None


class _Summed(Struct, frozen=True, gc=False):
    prompt_tokens: _Told
    total_tokens: _Told
    completion_tokens: None = None


_NO_PROMPT_DETAILS = _PromptDetails()
_NO_COMPLETION_DETAILS = _CompletionDetails()


class Reading(Struct, frozen=True, gc=False):
    """A normalised usage, and whether it contradicts itself."""

    usage: Usage
    doubtful: bool


_decoder = msgspec.json.Decoder(_OpenAIUsage)
_summed = msgspec.json.Decoder(_Summed)
_members = msgspec.json.Decoder(dict[str, Raw])
_responses = msgspec.json.Decoder(_ResponsesUsage)


def read_openai(raw: Raw | bytes) -> Reading | None:
    """
    OpenAI's ``usage`` object, whose cached and audio tokens are part of the prompt, and whose reasoning is part of the
    completion, except where the total shows that they stand beside it (xAI). What a total has above all that is told
    was thought, and is charged in doubt: so Google's own endpoint in OpenAI's shape counts, and gateways before it
    (https://discuss.ai.google.dev/t/127400).

    Returns:
        None where it is no usable report.
    """
    try:
        found = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _summed_up(raw)
    prompt, completion, total = found.prompt_tokens, found.completion_tokens, found.total_tokens
    more = 0 if total is None else total - prompt - completion
    if more <= 0 and found == _OpenAIUsage(prompt, completion, total):  # no part is told
        return Reading(Usage(input=prompt, output=completion), more < 0)
    into = found.prompt_tokens_details or _NO_PROMPT_DETAILS
    out = found.completion_tokens_details or _NO_COMPLETION_DETAILS
    cached = _first(into.cached_tokens, found.prompt_cache_hit_tokens, found.cached_tokens)
    reasoning = _first(out.reasoning_tokens, found.reasoning_tokens)
    heard = found.prompt_audio_seconds
    return _parted((prompt, completion, total), into, out, cached=cached, reasoning=reasoning, has_more=not heard)


def _summed_up(raw: Raw | bytes) -> Reading | None:
    """A report without a count of what came out, as Google's of nothing but thoughts: the total tells it, in doubt."""
    try:
        found, members = _summed.decode(raw), _members.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if (completion := found.total_tokens - found.prompt_tokens) <= 0:
        return None
    whole = read_openai(msgspec.json.encode({**members, "completion_tokens": completion}))
    return Reading(whole.usage, doubtful=True) if whole is not None else None


def read_responses(raw: Raw | bytes) -> Reading | None:
    """
    The ``usage`` of OpenAI's Responses API, whose details are parts of their wholes likewise.

    Source: https://platform.openai.com/docs/api-reference/responses/object

    Returns:
        None where it is no usable report.
    """
    try:
        found = _responses.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    into = found.input_tokens_details or _NO_PROMPT_DETAILS
    out = found.output_tokens_details or _NO_COMPLETION_DETAILS
    whole = (found.input_tokens, found.output_tokens, found.total_tokens)
    return _parted(whole, into, out, cached=into.cached_tokens or 0, reasoning=out.reasoning_tokens or 0)


def _parted(
    whole: tuple[int, int, int | None],
    into: _PromptDetails,
    out: _CompletionDetails,
    *,
    cached: int,
    reasoning: int,
    has_more: bool = True,
) -> Reading | None:
    """
    A report with parts.

    Args:
        whole: Prompt, completion and total.
        into: Parts of the prompt.
        out: Parts of the completion.
        cached: Another, from wherever it is told.
        reasoning: Likewise.
        has_more: Whether what only the total has came out.
    """
    prompt, completion, total = whole
    written, heard, looked = into.cache_write_tokens or 0, into.audio_tokens or 0, into.image_tokens or 0
    spoken, drawn = out.audio_tokens or 0, out.image_tokens or 0
    counts = (prompt, completion, cached, written, heard, looked, reasoning, spoken, drawn, total or 0)
    if min(counts) < 0 or max(counts) > MOST_TOKENS:
        return None

    # What stands beside its whole, not inside it: only then does the total come out.
    more, kept = (total or 0) - prompt - completion, cached + written
    if more > 0 and more != reasoning and more in {kept, kept + reasoning}:
        prompt, more = prompt + kept, more - kept
    doubtful = total is not None and more not in {0, reasoning}
    if more == reasoning or (more > 0 and has_more):
        completion, reasoning = completion + more, reasoning + more * (more != reasoning)
    if cached + written + heard > prompt or reasoning + spoken + drawn > completion:
        # A part cannot exceed its whole: what does is cut, in a fixed order, and the report is doubtful.
        doubtful = True
        cached, written, heard = _cut(prompt, cached, written, heard)
        drawn, spoken, reasoning = _cut(completion, drawn, spoken, reasoning)  # the dearest first
    doubtful = doubtful or looked > prompt
    looked = min(looked, prompt - cached - written - heard)  # what of them was cached is not told apart
    usage = Usage(
        input=prompt - cached - written - heard - looked,
        input_image=looked,
        cache_read=cached,
        cache_write=written,
        input_audio=heard,
        output=completion - reasoning - spoken - drawn,
        reasoning=reasoning,
        output_audio=spoken,
        output_image=drawn,
    )
    return Reading(usage, doubtful)


def falls(before: Reading | None, now: Reading) -> bool:
    """Whether a later report of an answer takes back all that an earlier one has told of the prompt, or the output."""
    if before is None:
        return False
    told, left = before.usage, now.usage
    return left.prompt == 0 < told.prompt or left.completion == 0 < told.completion


def reading(usage: Usage, *, doubtful: bool = False) -> Reading | None:
    """
    A report from buckets that another dialect was read into.

    Returns:
        None where a count is negative, or larger than any request could have.
    """
    counts = msgspec.structs.astuple(usage)
    if min(counts) < 0 or max(counts) > MOST_TOKENS:
        return None
    return Reading(usage, doubtful)


def told(usage: Usage) -> dict[str, Any]:
    """Buckets as OpenAI's ``usage`` object, its parts inside their wholes; the details only where there are any."""
    found: dict[str, Any] = {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
    }
    into = {
        "cached_tokens": usage.cache_read + usage.cache_read_audio,
        "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
        "audio_tokens": usage.input_audio,
        "image_tokens": usage.input_image,
    }
    out = {
        "reasoning_tokens": usage.reasoning,
        "audio_tokens": usage.output_audio,
        "image_tokens": usage.output_image,
    }
    for name, details in (("prompt_tokens_details", into), ("completion_tokens_details", out)):
        if any(details.values()):
            found[name] = {part: count for part, count in details.items() if count}
    if usage.web_searches:
        found["server_tool_use"] = {"web_search_requests": usage.web_searches}
    return found


def told_responses(usage: Usage) -> dict[str, Any]:
    """Buckets as the Responses API's ``usage`` object, which has its details always."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read + usage.cache_read_audio,
            "cache_write_tokens": usage.cache_write + usage.cache_write_1h,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _first(*counts: int | None) -> int:
    """The first that says something: a 0 in one server's place for it is a place that the next one has not filled."""
    for count in counts:
        if count:
            return count
    return 0


def _cut(whole: int, *parts: int) -> list[int]:
    """The parts, none of them larger than what those before it have left of the whole."""
    found = []
    for part in parts:
        found.append(min(part, whole))
        whole -= found[-1]
    return found
