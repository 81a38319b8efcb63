"""What every translating dialect is given: pieces into OpenAI's events, and one way of accounting for them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from msgspec import Raw

from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End as Ended
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.dialects import translating
from hpp_middleware.dialects.translating import Begun, Delta, End, Failed, Finish, Piece, Reader, Reported
from hpp_middleware.errors import UpstreamError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Model, Provider

TARGET = Target(
    id="fake/m",
    provider_name="fake",
    model_name="m",
    provider=Provider(base_url="http://127.0.0.1:9"),
    model=Model(),
    price=Price(base=Rates(input=1, output=2)),
)
NATIVE = Raw(b'{"in":3,"cached":2,"out":5}')
USAGE = Usage(input=3, cache_read=2, output=5)
TOLD = {
    "prompt_tokens": 5,
    "completion_tokens": 5,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2},
}
ID = "req_0199aabbccdd00112233445566778899"


class Scripted:
    """A translation that says a piece for each byte."""

    def __init__(self, *pieces: Piece) -> None:
        self._pieces = list(pieces)

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        for _ in chunk:
            piece = self._pieces.pop(0)
            if isinstance(piece, Failed) and not piece.error:
                raise KeyError("what a translation stumbles over")
            yield piece

    def close(self) -> Iterable[Piece]:
        rest, self._pieces = self._pieces, []
        return rest


def reader(*pieces: Piece, request: Request | None = None, cap: int = 1000, charge: Any = None) -> Reader:
    asked = request or Request(fields={}, model="fake/m", stream=True)
    return Reader(Scripted(*pieces), asked, TARGET, cap=cap, charge=charge, request_id=ID)


def events(data: bytes) -> list[Any]:
    found = [event.removeprefix("data: ") for event in data.decode().split("\n\n") if event]
    return [event if event == "[DONE]" else json.loads(event) for event in found]


def text(data: bytes) -> str:
    chunks = [event for event in events(data) if event != "[DONE]" and event["choices"]]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


WHOLE = (
    Begun("up_1"),
    Delta({"content": "Hel"}),
    Delta({"content": "lo"}),
    Delta({"content": "!"}),
    Finish("stop", native="end_turn"),
    Reported(USAGE, NATIVE),
    End(),
)


@pytest.mark.parametrize("cut", range(len(WHOLE) + 1))
def test_pieces_are_told_as_chunks_wherever_the_bytes_are_cut(cut: int) -> None:
    made = reader(*WHOLE)
    out = made.feed(b"x" * cut) + made.feed(b"x" * (len(WHOLE) - cut)) + made.close()
    *chunks, done = events(out)
    assert done == "[DONE]"
    assert text(out) == "Hello!"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert {(chunk["id"], chunk["object"], chunk["model"]) for chunk in chunks} == {
        ("up_1", "chat.completion.chunk", "fake/m")
    }
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"][0]["native_finish_reason"] == "end_turn"
    assert made.done
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("behind", [Failed({}), Failed({"message": "No.", "code": "server"}), Delta({"content": "?"})])
def test_what_comes_in_one_piece_with_the_end_is_not_even_read(behind: Piece) -> None:
    made = reader(*WHOLE, behind)
    out = made.feed(b"x" * (len(WHOLE) + 1))
    assert (text(out), events(out)[-1], made.done) == ("Hello!", "[DONE]", True)


def test_usage_is_read_in_its_buckets_and_kept_as_it_came() -> None:
    made = reader(*WHOLE)
    made.feed(b"x" * len(WHOLE))
    assert made.seen.usage == USAGE
    assert made.seen.usage_raw == NATIVE
    assert (made.seen.relayed_bytes, made.seen.texts, made.seen.finished, made.seen.upstream_id) == (6, 3, True, "up_1")


def test_a_client_that_asks_for_usage_is_told_it_once_in_openai_s_shape() -> None:
    made = reader(*WHOLE, request=Request(fields={}, model="fake/m", stream=True, include_usage=True))
    *_, last, done = events(made.feed(b"x" * len(WHOLE)) + made.close())
    assert (last["choices"], last["usage"], done) == ([], TOLD, "[DONE]")


def test_a_client_that_is_told_the_cost_gets_it_with_the_usage() -> None:
    def charge(end: Ended, seen: Seen) -> Settlement:
        assert end is Ended.COMPLETED
        return Settlement(1500, "completed", estimated=False, usage=seen.usage or Usage())

    made = reader(*WHOLE, charge=charge)
    *_, last, _ = events(made.feed(b"x" * len(WHOLE)))
    assert last["usage"] == {**TOLD, "cost": 0.0000015}


def test_an_answer_without_an_id_has_ours_and_our_time() -> None:
    made = reader(Delta({"content": "Hi"}), Finish("stop"), End())
    chunk = events(made.feed(b"xxx"))[0]
    assert chunk["id"] == f"chatcmpl-{ID.removeprefix('req_')}"
    assert chunk["created"] == int("0199aabbccdd", 16) // 1000


def test_a_stream_whose_choices_have_finished_needs_no_end_mark() -> None:
    made = reader(Delta({"content": "Hi"}), Finish("stop"))
    assert events(made.feed(b"xx") + made.close())[-1] == "[DONE]"


def test_one_that_ends_before_that_has_broken_off() -> None:
    made = reader(Delta({"content": "Hi"}))
    made.feed(b"x")
    with pytest.raises(relay.ProtocolError):
        made.close()
    assert not made.done


def test_an_end_mark_before_the_finish_is_none() -> None:
    made = reader(Delta({"content": "Hi"}), End())
    with pytest.raises(relay.ProtocolError) as raised:
        made.feed(b"xx")
    assert text(raised.value.before) == "Hi"


def test_what_a_translation_cannot_read_is_a_fault_of_the_upstream() -> None:
    made = reader(Delta({"content": "Hi"}), Failed({}))
    with pytest.raises(relay.ProtocolError) as raised:
        made.feed(b"xx")
    assert text(raised.value.before) == "Hi"


def test_an_error_is_told_after_what_came_before_it() -> None:
    made = reader(Delta({"content": "Hi"}), Failed({"message": "no", "code": "overloaded"}))
    with pytest.raises(relay.StreamedError) as raised:
        made.feed(b"xx")
    assert text(raised.value.before) == "Hi"
    assert json.loads(raised.value.args[0]) == {"message": "no", "code": "overloaded"}
    last = events(made.failed(UpstreamError("No.", provider="fake")))[0]
    assert (last["error"]["message"], last["choices"][0]["finish_reason"]) == ("No.", "error")


def test_a_stream_is_cut_past_its_cap() -> None:
    made = reader(*(Delta({"content": "x"}) for _ in range(200)), cap=10)
    out = made.feed(b"x" * 200)
    assert made.cut
    assert made.done
    assert len(text(out)) == 10 + relay.SLACK_CHUNKS
    assert events(out)[-2]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("usage", [Usage(input=-1), Usage(output=10**10)])
def test_usage_that_cannot_be_is_no_report(usage: Usage) -> None:
    made = reader(Delta({"content": "Hi"}), Finish("stop"), Reported(usage, NATIVE), End())
    made.feed(b"xxxx")
    assert made.seen.usage is None


CALLS = (
    Delta({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
    Delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]}),
    Delta({"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}),
    Delta({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}]}),
    Finish("tool_calls"),
)


def test_a_whole_answer_is_put_together_from_its_pieces() -> None:
    pieces: list[Piece] = [
        Begun("up_2"),
        Delta({"reasoning_content": "Hm"}),
        Delta({"content": "Hel"}),
        Delta({"content": "lo"}),
    ]
    body, seen = translating.answer([*pieces, *CALLS, Reported(USAGE, NATIVE)], TARGET, request_id=ID)
    found = json.loads(body)
    assert (found["id"], found["object"], found["model"], found["usage"]) == ("up_2", "chat.completion", "fake/m", TOLD)
    assert found["created"] == int("0199aabbccdd", 16) // 1000
    message = found["choices"][0]["message"]
    assert (message["role"], message["content"], message["reasoning_content"]) == ("assistant", "Hello", "Hm")
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert found["choices"][0]["finish_reason"] == "tool_calls"
    assert (seen.usage, seen.usage_raw, seen.finished) == (USAGE, NATIVE, True)


def test_a_body_without_a_choice_is_no_answer() -> None:
    with pytest.raises(relay.ProtocolError):
        translating.answer([Begun("up_3")], TARGET)


def test_a_body_that_is_an_error_says_what_it_used() -> None:
    pieces: list[Piece] = [Reported(USAGE, NATIVE), Failed({"message": "no"})]
    with pytest.raises(relay.StreamedError) as raised:
        translating.answer(pieces, TARGET)
    assert raised.value.args[1].usage == USAGE
