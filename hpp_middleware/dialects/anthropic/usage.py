"""
Anthropic's ``usage`` into disjoint buckets.

Its ``input_tokens`` are what neither was read from a cache nor written to one, and its ``output_tokens`` are all that
came out, thinking among it (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#tracking-cache-performance).
A stream reports twice: at its start what went in, and at its end what came of it, cumulative; what the second report
leaves out stays as the first one has it.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import relay
from hpp_middleware.core import usage as core_usage
from hpp_middleware.core.usage import Reading, falls
from hpp_middleware.types.price import Usage

__all__ = ["Tally"]

_Count = int | None


class _Written(Struct, frozen=True, gc=False):
    ephemeral_5m_input_tokens: _Count = None
    ephemeral_1h_input_tokens: _Count = None


class _Details(Struct, frozen=True, gc=False):
    thinking_tokens: _Count = None


class _Server(Struct, frozen=True, gc=False):
    web_search_requests: _Count = None


class _Usage(Struct, frozen=True, gc=False):
    input_tokens: _Count = None
    output_tokens: _Count = None
    cache_read_input_tokens: _Count = None
    cache_creation_input_tokens: _Count = None
    cache_creation: _Written | None = None
    output_tokens_details: _Details | None = None
    server_tool_use: _Server | None = None


_decode = msgspec.json.Decoder(_Usage).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode
_NOTHING = _Written()


class Tally:
    """
    The usage of one answer, report by report.

    Attributes:
        reading: What the reports so far come to; None where they come to none.
        raw: The same in Anthropic's words: its members, the last report of each.
        early: Whether the last that tells the output is the one at a stream's start, which counts a token or so.
    """

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self.early = False
        self.raw = Raw(b"null")
        self._members: dict[str, Raw] = {}

    def take(self, raw: Raw, *, early: bool = False, spoken: bool = False) -> bool:
        """
        One more report.

        Args:
            raw: As it came.
            early: Whether it stands at a stream's start.
            spoken: Whether text has come, so that one which takes all of it back cannot be.

        Returns:
            Whether it could be read; where it could not, those before it stand, in doubt.
        """
        found = self._with(relay.mended(raw), early=early, spoken=spoken)  # the ledger is text
        if found is None:
            if self.reading is not None:
                self.reading = Reading(self.reading.usage, doubtful=True)
            return False
        self.reading = found
        return True

    def _with(self, raw: Raw, *, early: bool, spoken: bool) -> Reading | None:
        try:
            more = {name: value for name, value in _members(raw).items() if value != relay.NULL}
            members = {**self._members, **more}
            merged = Raw(_encode(members))
            found = _decode(merged)
        except relay.BROKEN:
            return None
        if found.input_tokens is None or (found.output_tokens is None and not early):
            return None
        reading = _reading(found)
        if spoken and reading is not None and falls(self.reading, reading):
            return None
        if reading is not None:
            self._members, self.raw = members, merged
            if "output_tokens" in more or found.output_tokens is None:
                self.early = early  # another that says nothing of the output leaves what is known of it
        return reading


def _reading(found: _Usage) -> Reading | None:
    """The buckets; doubtful where a whole and its parts do not fit each other."""
    split = found.cache_creation or _NOTHING
    short, hour = split.ephemeral_5m_input_tokens or 0, split.ephemeral_1h_input_tokens or 0
    written, output = found.cache_creation_input_tokens, found.output_tokens or 0
    thought = _or(found.output_tokens_details, "thinking_tokens")
    searches = _or(found.server_tool_use, "web_search_requests")
    if min(short, hour, written or 0, thought) < 0:
        return None
    doubtful = thought > output
    if written is not None and found.cache_creation is not None and written != short + hour:
        doubtful = True
    if written is not None:
        hour = min(hour, written)
        short = written - hour
    thought = min(thought, output)
    usage = Usage(
        input=found.input_tokens or 0,
        cache_read=found.cache_read_input_tokens or 0,
        cache_write=short,
        cache_write_1h=hour,
        output=output - thought,
        reasoning=thought,
        web_searches=searches,
    )
    return core_usage.reading(usage, doubtful=doubtful)


def _or(part: Any, name: str) -> int:
    return (getattr(part, name) or 0) if part is not None else 0
