"""What a dialect promises of whole answers: OpenAI's shape, every token once, and nothing of what is none."""

import json
from typing import Any

from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.ports import Dialect
from hpp_middleware.testing.dialects.bench import ID, DialectPromise, Sample, request, target
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Usage

__all__ = ["PROMISES", "calls_of"]

NONSENSE = (b"", b"null", b"[]", b"{}", b'"text"', b"<html>", b"\xff\xfe", b'{"error": null}', b"[[[[")


def _answer(dialect: Dialect, sample: Sample) -> tuple[dict[str, Any], Seen]:
    body, seen = dialect.answer(sample.answer, request(sample), target(sample), request_id=ID)
    found: dict[str, Any] = json.loads(body)
    return found, seen


def it_has_openais_shape(dialect: Dialect, sample: Sample) -> None:
    """An answer is a chat completion that every client of OpenAI's reads, and names the model that was resolved."""
    found, _ = _answer(dialect, sample)
    assert isinstance(found["id"], str), "an answer has an id"
    assert found["id"], "that is not empty"
    assert found["object"] == "chat.completion", "it says what it is"
    assert isinstance(found["created"], int), "and when it was made"
    assert found["model"] == target(sample).id, "it names the model that was resolved"
    assert [choice["index"] for choice in found["choices"]] == list(range(len(found["choices"]))), "each has its number"
    assert all(choice["message"]["role"] == "assistant" for choice in found["choices"]), "they are an assistant's"


def it_says_what_the_model_said(dialect: Dialect, sample: Sample) -> None:
    """Text, thoughts, tool calls and the finish reason are those of the sample."""
    found, seen = _answer(dialect, sample)
    message = found["choices"][0]["message"]
    assert (message["content"] or "") == sample.text, "the text is the model's"
    assert (message.get("reasoning_content") or "") == sample.reasoning, "and so is what it thinks aloud"
    assert calls_of(message.get("tool_calls", [])) == list(sample.tool_calls), "and the tools it calls"
    assert found["choices"][0]["finish_reason"] == sample.finish, "and why it stopped"
    assert seen.relayed_bytes >= len(sample.text.encode()), "what was said is counted"


def it_is_billed_by_its_report(dialect: Dialect, sample: Sample) -> None:
    """Usage is in its buckets; the client is told all that went in, and all that came out."""
    found, seen = _answer(dialect, sample)
    assert seen.usage == sample.usage, "each token is in one bucket"
    assert not seen.usage_doubtful, "a clean report is in no doubt"
    assert seen.usage_raw is not None, "and kept as it came"
    told = found["usage"]
    assert told["prompt_tokens"] == sample.usage.prompt, "the client is told all that went in"
    assert told["completion_tokens"] == sample.usage.completion, "and all that came out"
    assert told["total_tokens"] == sample.usage.total, "and their sum"


def it_says_its_cost(dialect: Dialect, sample: Sample) -> None:
    """Where the client is told what it is charged, that stands in the usage."""

    def charge(end: End, seen: Seen) -> Settlement:
        assert end is End.COMPLETED, "a whole answer is charged as one"
        return Settlement(1_500_000_000, "completed", estimated=False, usage=seen.usage or Usage())

    body, _ = dialect.answer(sample.answer, request(sample), target(sample), charge=charge, request_id=ID)
    assert json.loads(body)["usage"]["cost"] == 1.5, "the usage says the cost"


def what_is_no_answer_is_refused(dialect: Dialect, sample: Sample) -> None:
    """A body that is no answer is a fault of the provider's, and never an exception of another kind, nor an answer."""
    for body in NONSENSE:
        _refused(dialect, sample, body)


def what_is_cut_is_refused(dialect: Dialect, sample: Sample) -> None:
    """Nor is one that is cut off anywhere."""
    for end in range(len(sample.answer.rstrip())):
        _refused(dialect, sample, sample.answer[:end])


def _refused(dialect: Dialect, sample: Sample, body: bytes) -> None:
    try:
        dialect.answer(body, request(sample), target(sample), request_id=ID)
    except (relay.ProtocolError, relay.StreamedError):
        return
    raise AssertionError(f"what is no answer is refused: {body[-40:]!r}")


def calls_of(calls: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Names and arguments of tool calls, each with an id of its own."""
    ids = [call["id"] for call in calls]
    assert len(set(ids)) == len(ids), "every tool call has an id of its own"
    assert all(isinstance(each, str) and each for each in ids), "that is not empty"
    return [(call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")) for call in calls]


PROMISES: tuple[DialectPromise, ...] = (
    it_has_openais_shape,
    it_says_what_the_model_said,
    it_is_billed_by_its_report,
    it_says_its_cost,
    what_is_no_answer_is_refused,
    what_is_cut_is_refused,
)
