"""Request bodies, and what the parser makes of them."""

import json
from typing import Any

import pytest

from hpp_middleware.core import parse
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = [
    "HELLO",
    "LIMITS",
    "accepted",
    "body",
    "raw",
    "refused",
]

LIMITS = Limits()
HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "p/m", "messages": HELLO, **fields}).encode()


def raw(**fields: str) -> bytes:
    """A body with members written as they are."""
    members = "".join(f', "{name}": {text}' for name, text in fields.items())
    return f'{{"model": "p/m", "messages": [{{"role": "user", "content": "hello"}}]{members}}}'.encode()


def accepted(data: bytes) -> Request:
    return parse.completion(data, LIMITS)


def refused(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse.completion(data, LIMITS)
    error = caught.value
    assert (error.status, error.code) == (400, "invalid_request")
    assert error.param is None or error.param in error.message
    return error
