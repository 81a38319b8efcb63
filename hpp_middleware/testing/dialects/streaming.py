"""What a dialect promises of streams: the same wherever they are cut, a clean end only of what is whole."""

from typing import Any

from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Dialect
from hpp_middleware.testing.dialects.answering import calls_of
from hpp_middleware.testing.dialects.bench import (
    ID,
    DialectPromise,
    Sample,
    events,
    fed,
    reader,
    request,
    target,
    text_in,
)
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Usage

__all__ = ["PROMISES"]

NONSENSE = (b"null\n\n", b"data: 17\n\n", b"data: {]\n\n", b"[[[[\n", b"{\n}\n", b"\xff\xfe\n\n", b"\0" * 64)


def a_stream_says_what_the_model_said(dialect: Dialect, sample: Sample) -> None:
    """A stream's events have OpenAI's shape, and come to the same as the whole answer."""
    found = reader(dialect, sample)
    data = fed(found, sample.stream)
    *chunks, end = events(data)
    assert end == "[DONE]", "a stream ends in its mark"
    assert found.done, "and is done then"
    assert not found.cut, "without having been cut"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}, "events say what they are"
    assert {chunk["model"] for chunk in chunks} == {target(sample).id}, "and name the model that was resolved"
    assert len({chunk["id"] for chunk in chunks}) == 1, "all of one id"
    assert text_in(data) == sample.text, "the text is the model's"
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == sample.reasoning, (
        "and so is what it thinks aloud"
    )
    assert calls_of(_put_together(deltas)) == list(sample.tool_calls), "and the tools it calls"
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert [reason for reason in reasons if reason] == [sample.finish], "and why it stopped, once"


def a_stream_is_billed_by_its_report(dialect: Dialect, sample: Sample) -> None:
    """Usage is in its buckets at the end."""
    found = reader(dialect, sample)
    fed(found, sample.stream)
    assert found.seen.usage == sample.usage, "each token is in one bucket"
    assert not found.seen.usage_doubtful, "a clean report is in no doubt"
    assert found.seen.finished, "the stream is known to be whole"
    assert found.seen.relayed_bytes >= len(sample.text.encode()), "what was said is counted"


def usage_is_told_to_who_asks(dialect: Dialect, sample: Sample) -> None:
    """A client that asks for the usage gets it in one event, the last; one that does not gets none."""
    asked = events(fed(reader(dialect, sample, stream_options={"include_usage": True}), sample.stream))
    told = [chunk["usage"] for chunk in asked if chunk != "[DONE]" and chunk.get("usage")]
    assert [usage["total_tokens"] for usage in told] == [sample.usage.total], "usage is told once to who asks"
    assert asked[-2]["choices"] == [], "in an event of its own, the last"
    unasked = events(fed(reader(dialect, sample), sample.stream))
    assert not any("usage" in chunk for chunk in unasked if chunk != "[DONE]"), "and to nobody else"


def it_says_its_cost(dialect: Dialect, sample: Sample) -> None:
    """Where the client is told what it is charged, the last event's usage says so."""

    def charge(_end: End, seen: Seen) -> Settlement:
        return Settlement(1_500_000_000, "completed", estimated=False, usage=seen.usage or Usage())

    asked = request(sample, stream=True)
    found = dialect.stream(asked, target(sample), event_bytes=2**20, cap=10**6, charge=charge, request_id=ID)
    assert events(fed(found, sample.stream))[-2]["usage"]["cost"] == 1.5, "the last usage says the cost"


def it_matters_not_where_a_stream_is_cut(dialect: Dialect, sample: Sample) -> None:
    """Bytes come in pieces of any size: what the client gets, and what is billed, is the same."""
    once = reader(dialect, sample)
    whole = events(fed(once, sample.stream))
    for cut in range(len(sample.stream) + 1):
        again = reader(dialect, sample)
        assert events(fed(again, sample.stream[:cut], sample.stream[cut:])) == whole, f"cut at byte {cut}, the same"
        assert again.seen == once.seen, "and is billed alike"
    one_by_one = reader(dialect, sample)
    assert events(fed(one_by_one, *(bytes([byte]) for byte in sample.stream))) == whole, "byte by byte, too"


def a_clean_end_is_only_of_what_is_whole(dialect: Dialect, sample: Sample) -> None:
    """A stream that breaks off, at whatever byte, never looks like one that is whole."""
    for end in range(len(sample.stream)):
        found = reader(dialect, sample)
        data = fed(found, sample.stream[:end])
        assert sample.text.startswith(text_in(data)), "what came before the break is passed on"
        if data.endswith(b"data: [DONE]\n\n"):
            assert text_in(data) == sample.text, "an end mark is made only where all text has come"
            assert found.seen.finished, "and the provider has said that it is whole"


def what_is_no_stream_is_refused(dialect: Dialect, sample: Sample) -> None:
    """Bytes that are no stream of this API never end cleanly, and raise nothing but a fault of the provider's."""
    for data in NONSENSE:
        found = reader(dialect, sample)
        out = fed(found, data)
        assert b"[DONE]" not in out, f"what is no stream does not end cleanly: {data!r}"
        assert found.seen.usage is None, "nor is it a report"


def an_error_ends_it_without_a_mark(dialect: Dialect, sample: Sample) -> None:
    """The last event of a stream that broke says so, and no end mark follows."""
    found = reader(dialect, sample)
    try:
        found.feed(sample.stream[: len(sample.stream) // 2])
    except (relay.ProtocolError, relay.StreamedError) as error:
        raise AssertionError("half of a stream is no fault yet") from error
    (last,) = events(found.failed(UpstreamError("It broke off.", provider="theirs")))
    assert last["error"]["message"] == "It broke off.", "the last event says what went wrong"
    assert last["choices"][0]["finish_reason"] == "error", "to readers of chunks too"


def a_stream_past_its_cap_is_cut(dialect: Dialect, sample: Sample) -> None:
    """A provider that goes on past the cap is cut off, since more is not held for."""
    found = reader(dialect, sample, cap=1)
    most = relay.SLACK_BYTES + relay.SLACK_CHUNKS + 2 * relay.BYTES_A_TOKEN
    for _ in range(most):
        if found.done:
            break
        try:
            found.feed(sample.stream)
        except (relay.ProtocolError, relay.StreamedError):
            break
    assert found.seen.relayed_bytes <= most + len(sample.stream), "no more is passed on than was held for"


def _put_together(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tool calls from their pieces, as OpenAI's clients do it."""
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for part in delta.get("tool_calls") or []:
            function = part.get("function", {})
            call = calls.setdefault(part["index"], {"id": part.get("id"), "function": {"name": "", "arguments": ""}})
            call["function"]["name"] += function.get("name") or ""
            call["function"]["arguments"] += function.get("arguments") or ""
    return [calls[index] for index in sorted(calls)]


PROMISES: tuple[DialectPromise, ...] = (
    a_stream_says_what_the_model_said,
    a_stream_is_billed_by_its_report,
    usage_is_told_to_who_asks,
    it_says_its_cost,
    it_matters_not_where_a_stream_is_cut,
    a_clean_end_is_only_of_what_is_whole,
    what_is_no_stream_is_refused,
    an_error_ends_it_without_a_mark,
    a_stream_past_its_cap_is_cut,
)
