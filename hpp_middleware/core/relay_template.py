"""
The next event of a stream, known by its bytes: where it is an earlier one with another text, nothing else is read.

Most events of a stream differ in one string only. A template is made of an event that has been read and passed on; an
event that fits it has the same members with the same values, and so the same output, but for that string: which is all
that is decoded. Whatever does not fit, to the byte, is read as if there were no templates.
"""

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

__all__ = ["Template", "learned"]

_TEXT = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|arguments)"[ ]?:[ ]?"((?:[^"\\]|\\.)++)"', re.DOTALL
)
"""A string that may be the text; whether it is, is tried out."""

_PADDING = re.compile(rb'"obfuscation"[ ]?:[ ]?"([^"\\]*+)"')
"""What OpenAI adds to each event, of another length each time, to hide the length of the text."""

_HOLE = b"~template~text~"
_FILLER = b"~template~padding~"
_QUOTED = re.compile(rb'"~template~(?:text|padding)~"')

_string = msgspec.json.Decoder(str)
_members = msgspec.json.Decoder(dict[str, Raw])


class Template(Struct, frozen=True, eq=False):
    """
    An event that is only data, with a hole for its text, and perhaps one for its padding.

    Attributes:
        before: Its bytes up to the text, the opening quote among them.
        between: From the closing quote to the padding's opening one; empty where there is no padding.
        after: The rest, from a closing quote on.
        outs: The same three of what the client gets, without those quotes.
        head: Its members, where its id is among them.
        start: Where the text begins, with its quote.
        stop: Where what is after the last hole's quote begins, from the end.
    """

    before: bytes
    between: bytes
    after: bytes
    outs: tuple[bytes, bytes, bytes]
    head: dict[str, Raw] | None
    start: int
    stop: int

    def filled(self, event: bytes) -> tuple[bytes, int] | None:
        """
        What the client gets for an event, and the UTF-8 bytes of its text; None where it does not fit.

        Args:
            event: Its bytes, without the blank line that ends it.
        """
        if not (event.startswith(self.before) and event.endswith(self.after)):
            return None
        # With its quotes, so that the decoder says whether what is between is one string, and nothing else.
        quoted = event[self.start : self.stop]
        before, between, after = self.outs
        try:
            if self.between:
                quoted, found, padding = quoted.partition(self.between)
                if not found:
                    return None
                quoted, padding = quoted + b'"', b'"' + padding
                _string.decode(padding)
                after = between + padding + after
            text = _string.decode(quoted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return before + quoted + after, len(text) if text.isascii() else len(text.encode())


def learned(
    data: bytes,
    *,
    size: Callable[[dict[str, Raw]], int | None],
    shown: Callable[[dict[str, Raw]], bytes],
) -> Template | None:
    """
    A template of an event, or None where it is not such that the next one can be known by it.

    Args:
        data: The event's data, one line.
        size: The UTF-8 bytes of the text in an event of these members; None where more than text is in it.
        shown: What the client gets for an event of these members.
    """
    texts = list(_TEXT.finditer(data))
    if len(texts) != 1 or b"\n" in data or _HOLE in data or _FILLER in data:
        return None
    begin, end = texts[0].span(1)
    padded = _PADDING.search(data, end)
    first, last = padded.span(1) if padded is not None else (len(data), len(data))
    before, between, after = data[:begin], data[end:first], data[last:]
    filler = _FILLER if padded is not None else b""
    try:
        full = _members.decode(before + _HOLE + between + filler + after)
        # All and nothing: then it is this string that is counted, and nothing besides.
        if size(full) != len(_HOLE) or size(_members.decode(before + between + filler + after)) != 0:
            return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    head = full.copy() if "id" in full else None
    outs = re.split(_QUOTED, shown(full))
    if len(outs) != 2 + (padded is not None):
        return None
    last_part = after if padded is not None else between
    return Template(
        before=b"data: " + before,
        between=between if padded is not None else b"",
        after=last_part,
        start=len(b"data: " + before) - 1,
        stop=1 - len(last_part),
        outs=(outs[0], outs[1] if padded is not None else b"", outs[-1]),
        head=head,
    )
