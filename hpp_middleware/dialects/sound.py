"""
Whether the bytes of a sound bound its length: Google bills it by the second, 32 tokens each.

A WAV says itself how many bytes a second has, and may say one; what plays sound goes by what is within, whatever the
request calls it. Formats: http://soundfile.sapp.org/doc/WaveFormat/, http://www.mp3-tech.org/programmer/frame_header.html.
"""

import base64
import binascii
import struct

__all__ = ["is_bounded"]

LEAST_RATE = 4000
"""Bytes a second, at which half as many tokens are held for as a second is billed with in the worst case, and more."""

_PLAIN = frozenset({1, 3, 6, 7, 0xFFFE})
"""PCM, floats, A-law, mu-law, and the extensible form of these: no codec that packs."""

_HEAD = 8192
"""Characters of base64 in which the format has to be told."""


def is_bounded(data: str, form: str) -> bool:
    """
    Whether so much is certain.

    Args:
        data: The sound in base64.
        form: ``wav`` or ``mp3``.
    """
    head = data[:_HEAD]
    try:
        found = base64.b64decode(head[: len(head) // 4 * 4].replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return False
    if form == "mp3":
        return found[:3] == b"ID3" or (len(found) > 1 and found[0] == 0xFF and found[1] >= 0xE0)
    return found[:4] == b"RIFF" and found[8:12] == b"WAVE" and _is_plain(found)


def _is_plain(found: bytes) -> bool:
    at = 12
    while at + 24 <= len(found):
        name, size = struct.unpack_from("<4sI", found, at)
        if name == b"fmt ":
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", found, at + 8)
            return kind in _PLAIN and channels * rate * bits // 8 >= LEAST_RATE
        at += 8 + size + size % 2
    return False
