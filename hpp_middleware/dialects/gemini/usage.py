"""
Google's ``usageMetadata`` into disjoint buckets.

``promptTokenCount`` has what came out of the cache in it; ``thoughtsTokenCount`` stands beside
``candidatesTokenCount``, except where the total shows that it is inside; ``toolUsePromptTokenCount`` stands beside the
prompt. The details by modality say what of a count is sound or image, cached or not.

Source: https://ai.google.dev/api/generate-content#UsageMetadata.
"""

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.relay import BROKEN
from hpp_middleware.dialects.translating import Reported
from hpp_middleware.types.price import Usage

__all__ = ["reported"]

_Count = int | None


class _Detail(Struct, frozen=True, rename="camel", gc=False):
    modality: str = ""
    token_count: _Count = None


class _Metadata(Struct, frozen=True, rename="camel"):
    prompt_token_count: _Count = None
    cached_content_token_count: _Count = None
    candidates_token_count: _Count = None
    thoughts_token_count: _Count = None
    tool_use_prompt_token_count: _Count = None
    total_token_count: _Count = None
    prompt_tokens_details: list[_Detail] | None = None
    cache_tokens_details: list[_Detail] | None = None
    candidates_tokens_details: list[_Detail] | None = None

    @property
    def tells_output(self) -> bool:
        """Whether it speaks of what came out."""
        return self.candidates_token_count is not None or self.thoughts_token_count is not None


_metadata = msgspec.json.Decoder(_Metadata)


def reported(raw: Raw, *, whole: bool, drawn: bool = False, spoken: bool = False) -> Reported | None:
    """
    A report of usage.

    Args:
        raw: ``usageMetadata`` as it came.
        whole: Whether the answer has come to its end. Before, one that says nothing of the output is no report yet.
        drawn: Whether an image has come out, which is to be billed as one even if no detail tells it.
        spoken: Whether anything but thoughts has come out: what does not count it is not all.
    Returns:
        None where it is no report: Vertex tells the type of the traffic alone until the end.
    """
    try:
        found = _metadata.decode(raw)
    except BROKEN:
        return Reported(None, raw)
    if found.prompt_token_count is None or not (whole or found.tells_output):
        return None
    prompt, tool = found.prompt_token_count, found.tool_use_prompt_token_count or 0
    thoughts, total = found.thoughts_token_count or 0, found.total_token_count
    untold = found.candidates_token_count is None  # a count of 0 is left out
    if found.candidates_token_count is None:
        candidates = max(0, (total or 0) - prompt - tool - thoughts)
    else:
        candidates = found.candidates_token_count
    if 0 < thoughts <= candidates and total == prompt + tool + candidates:
        candidates -= thoughts
    doubtful = total is not None and total != prompt + tool + candidates + thoughts
    thoughts = max(thoughts, (total or 0) - prompt - tool - candidates)  # what the total alone has was thought
    into, out = _by_kind(found.prompt_tokens_details), _by_kind(found.candidates_tokens_details)
    kept = _by_kind(found.cache_tokens_details)
    cached = found.cached_content_token_count or 0
    kept_sound = kept["AUDIO"]
    heard, seen = into["AUDIO"] - kept_sound, into["IMAGE"] - kept["IMAGE"]
    voiced, shown = out["AUDIO"], out["IMAGE"]
    if drawn and not found.candidates_tokens_details:
        shown, doubtful = candidates, True
    if min(heard, seen) < 0 or cached + heard + seen > prompt or kept_sound > cached or voiced + shown > candidates:
        doubtful = True
    # A part cannot exceed its whole. Where it is not told which part was cached, that was text before sound or image.
    cached, heard, seen = _cut(prompt, cached, heard, seen)
    (kept_sound,) = _cut(cached, kept_sound)
    voiced, shown = _cut(candidates, voiced, shown)
    usage = Usage(
        input=prompt - cached - heard - seen,
        cache_read=cached - kept_sound,
        cache_read_audio=kept_sound,
        input_audio=heard,
        input_image=seen,
        tool_prompt=tool,
        output=candidates - voiced - shown,
        reasoning=thoughts,
        output_audio=voiced,
        output_image=shown,
    )
    early = untold and candidates == 0 and (total is None or spoken)
    return Reported(usage, raw, doubtful=doubtful, early=early)


def _by_kind(details: list[_Detail] | None) -> dict[str, int]:
    found = {"AUDIO": 0, "IMAGE": 0}
    for detail in details or ():
        if detail.modality in found:
            found[detail.modality] += detail.token_count or 0
    return found


def _cut(whole: int, *parts: int) -> list[int]:
    """The parts, none of them below 0, nor larger than what those before it have left of the whole."""
    found: list[int] = []
    for part in parts:
        found.append(max(0, min(part, whole)))
        whole -= found[-1]
    return found
