"""What a provider's counter is asked, and what it says."""

import json

import pytest

from hpp_middleware.apis.messages.counting import answer, counted, counter
from hpp_middleware.types.http import HTTPCall


def call(url: str, body: bytes = b"{}") -> HTTPCall:
    return HTTPCall(url=url, headers=[("x-api-key", "k")], body=body, connect_s=1.0)


def test_a_count_is_asked_for_beside_the_messages_and_can_run_nothing() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 1,
        "stream": True,
        "tools": [],
        "system": "s",
        "temperature": 1,
        "mcp_servers": [{"url": "https://e.com"}],
    }
    made = counter(call("https://api.example/v1/messages", json.dumps(body).encode()))
    assert made is not None
    assert made.url == "https://api.example/v1/messages/count_tokens"
    assert json.loads(made.body) == {name: body[name] for name in ("model", "messages", "tools", "system")}
    assert made.headers == [("x-api-key", "k")]


def test_where_there_are_no_messages_there_is_no_counter() -> None:
    assert counter(call("https://bedrock.example/model/m/invoke")) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"input_tokens": 5, "more": 1}', 5),
        (b'{"input_tokens": 0}', 0),
        (b'{"input_tokens": -1}', None),
        (b'{"input_tokens": "5"}', None),
        (b"{}", None),
        (b"<html>", None),
        (b"\xff", None),
    ],
)
def test_only_a_count_is_one(body: bytes, expected: int | None) -> None:
    assert counted(body) == expected


def test_an_estimate_is_called_one() -> None:
    assert json.loads(answer(5, estimated=False)) == {"input_tokens": 5}
    assert json.loads(answer(5, estimated=True)) == {"input_tokens": 5, "estimated": True}
