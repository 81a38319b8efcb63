"""Amazon's event streams, written: frames of headers and a payload, each with two checksums."""

import json
import struct
from binascii import crc32
from typing import Any

__all__ = ["event", "exception", "frame", "stream"]


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """
    One frame, as https://smithy.io/2.0/aws/amazon-eventstream.html has it: total length, length of the headers, their
    checksum, the headers (7: a string), the payload, and the checksum of all that.
    """
    head = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return body + struct.pack("!I", crc32(body))


def event(kind: str, **fields: Any) -> bytes:
    """An event of the API, with the padding that Bedrock puts into each."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps({**fields, "p": "abcdefgh"}).encode())


def exception(kind: str, message: str) -> bytes:
    """An exception of the API."""
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"message": message}).encode())


def stream(*events: tuple[str, dict[str, Any]]) -> bytes:
    """Events, by kind and fields, one after another."""
    return b"".join(event(kind, **fields) for kind, fields in events)
