"""The dialect is held to what every dialect promises."""

import json

import pytest

from claude.messages import message, stream_of, target, wire
from hpp_middleware.dialects.anthropic import Anthropic
from hpp_middleware.testing.dialects import DIALECT_PROMISES, DialectPromise, Sample
from hpp_middleware.types.price import Usage

START = {"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 9}
SAMPLE = Sample(
    provider=target().provider,
    answer=json.dumps(
        message(
            content=[{"type": "text", "text": "Hello"}], stop_reason="end_turn", usage={**START, "output_tokens": 15}
        )
    ).encode(),
    stream=wire(
        *stream_of(
            {"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": text} for text in ("Hel", "lo")]},
            start=START,
        )
    ),
    text="Hello",
    usage=Usage(input=25, cache_read=9, output=15),
)


@pytest.mark.parametrize("promise", DIALECT_PROMISES, ids=lambda promise: str(promise.__name__))
def test_a_promise_is_kept(promise: DialectPromise) -> None:
    promise(Anthropic(), SAMPLE)
