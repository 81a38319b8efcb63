"""Chat completions told as Responses: every event is one of OpenAI's, and the accounting is the inner dialect's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.apis.responses.thoughts import Thoughts, unpacked
from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Dialect, StreamReader
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TARGET = Target(
    id="p/m",
    provider_name="p",
    model_name="m",
    provider=Provider(base_url="http://127.0.0.1:9", api_key="sk-operator"),
    model=Model(),
    price=Price(base=Rates(input=1, output=1)),
)
ID = "req_0199aabbccdd00112233445566778899"
SUFFIX = ID.removeprefix("req_")
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
TOLD = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 25,
}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}


def spoken(**fields: Any) -> tuple[Dialect, Request]:
    """The dialect that speaks, and the chat completion that it is asked for."""
    body = json.dumps({"model": "p/m", "input": "Hi", "stream": True, **fields}).encode()
    asked = RESPONSES.request(body, Limits())
    return RESPONSES.spoken_by(OpenAI(), asked), RESPONSES.as_chat(asked, Limits())


def reader(*, cap: int = 1000, charge: Any = None, **fields: Any) -> StreamReader:
    dialect, request = spoken(**fields)
    return dialect.stream(request, TARGET, event_bytes=100_000, cap=cap, charge=charge, request_id=ID)


def said(delta: dict[str, Any], finish: str | None = None, **choice: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


def called(index: int | None, call_id: str | None = None, name: str | None = None, arguments: str = "") -> Any:
    function = {"arguments": arguments, **({} if name is None else {"name": name})}
    place = {} if index is None else {"index": index}
    own = {} if call_id is None else {"id": call_id, "type": "function"}
    return said({"tool_calls": [{**place, **own, "function": function}]})


def stream(*chunks: Any, usage: Any = USAGE, done: bool = True) -> bytes:
    ended = [] if usage is None else [{**said({}), "choices": [], "usage": usage}]
    data = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in [*chunks, *ended]]
    return "".join([*data, "data: [DONE]\n\n" if done else ""]).encode()


def events(data: bytes) -> list[dict[str, Any]]:
    """The events, each valid by OpenAI's types, named in its frame, and numbered without a gap."""
    found = []
    for frame in data.decode().split("\n\n"):
        if not frame:
            continue
        name, told = frame.split("\n")
        event = json.loads(told.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def told(*chunks: Any, usage: Any = USAGE, **fields: Any) -> list[dict[str, Any]]:
    made = reader(**fields)
    found = events(made.feed(stream(*chunks, usage=usage)))
    assert made.done
    return found


def types(found: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in found]


HELLO = (said({"role": "assistant", "content": ""}), said({"content": "Hel"}), said({"content": "lo ü!"}))
WHOLE = (*HELLO, said({}, "stop"))


def test_a_text_is_told_in_the_grammar_of_events() -> None:
    found = told(*WHOLE)
    assert types(found) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = found[-1]["response"]
    assert (response["id"], response["model"], response["created_at"]) == (
        f"resp_{SUFFIX}",
        "p/m",
        int("0199aabbccdd", 16) // 1000,
    )
    assert (response["status"], response["usage"], response["store"]) == ("completed", TOLD, False)
    assert response["output"][0]["content"] == [
        {"type": "output_text", "text": "Hello ü!", "annotations": [], "logprobs": []}
    ]
    assert found[0]["response"]["output"] == []


def test_the_request_is_said_again() -> None:
    response = told(*WHOLE, tools=[FUNCTION], temperature=0.5, instructions="Be brief.", metadata={"a": "b"})[-1][
        "response"
    ]
    assert response["tools"] == [{**FUNCTION, "description": None, "strict": None}]
    assert (response["temperature"], response["instructions"], response["metadata"]) == (0.5, "Be brief.", {"a": "b"})
    assert response["previous_response_id"] is None


def test_every_cut_of_the_bytes_tells_the_same() -> None:
    data = stream(
        said({"reasoning_content": "Hm ü"}),
        *HELLO,
        called(0, "c", "f", '{"a":'),
        called(0, arguments="1}"),
        said({}, "tool_calls"),
    )
    whole = reader().feed(data)
    for cut in range(len(data) + 1):
        made = reader()
        assert made.feed(data[:cut]) + made.feed(data[cut:]) + made.close() == whole
    made = reader()
    assert b"".join(made.feed(data[at : at + 1]) for at in range(len(data))) == whole


def test_thoughts_are_a_summary_before_the_message() -> None:
    found = told(said({"reasoning_content": "Hm"}), said({"reasoning": "m."}), *WHOLE)
    assert types(found)[2:8] == [
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ]
    reasoning, message = found[-1]["response"]["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hmm."}]
    assert "encrypted_content" not in reasoning
    assert message["content"][0]["text"] == "Hello ü!"


def test_thoughts_can_be_handed_back_where_that_is_asked_for() -> None:
    details = [
        {"type": "reasoning.text", "index": 0, "text": "Hm"},
        {"type": "reasoning.text", "index": 0, "signature": "s"},
    ]
    chunks = [said({"reasoning": "Hm", "reasoning_details": details[:1]}), said({"reasoning_details": details[1:]})]
    found = told(*chunks, *WHOLE, include=["reasoning.encrypted_content"])
    reasoning = found[-1]["response"]["output"][0]
    merged = [{"type": "reasoning.text", "index": 0, "text": "Hm", "signature": "s"}]
    assert unpacked(reasoning["encrypted_content"]) == Thoughts(reasoning="Hm", reasoning_details=merged)
    assert reasoning["summary"][0]["text"] == "Hm"


def test_a_thought_that_its_proof_repeats_is_told_once() -> None:
    proof = {"type": "reasoning.text", "text": "Hm", "signature": "s"}
    chunks = [said({"reasoning_content": "H"}), said({"reasoning_content": "m"}), said({"reasoning_details": [proof]})]
    found = told(*chunks, *WHOLE, include=["reasoning.encrypted_content"])
    reasoning = found[-1]["response"]["output"][0]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm"}]
    assert unpacked(reasoning["encrypted_content"]) == Thoughts(reasoning_content="Hm", reasoning_details=[proof])


def test_thoughts_that_only_their_details_tell_are_told() -> None:
    details = [{"type": "reasoning.summary", "summary": "Hm"}]
    found = told(said({"reasoning_details": details}), *WHOLE)
    assert found[-1]["response"]["output"][0]["summary"][0]["text"] == "Hm"


def test_calls_keep_their_ids_and_their_pieces_may_come_in_turns() -> None:
    found = told(
        *HELLO,
        called(0, "a", "f", ""),
        called(0, arguments='{"x":'),
        called(1, "b", "g", "{"),
        called(0, arguments="1}"),
        called(1, arguments="}"),
        said({}, "tool_calls"),
        tools=[FUNCTION],
    )
    message, one, other = found[-1]["response"]["output"]
    assert (message["type"], message["status"]) == ("message", "completed")
    assert (one["call_id"], one["name"], one["arguments"]) == ("a", "f", '{"x":1}')
    assert (other["call_id"], other["name"], other["arguments"]) == ("b", "g", "{}")
    done = [event for event in found if event["type"] == "response.function_call_arguments.done"]
    assert [(event["name"], event["arguments"], event["output_index"]) for event in done] == [
        ("f", '{"x":1}', 1),
        ("g", "{}", 2),
    ]
    assert len({item["id"] for item in (message, one, other)}) == 3


@pytest.mark.parametrize("index", [0, None])
def test_calls_of_a_server_that_has_one_index_for_all_are_apart(index: int | None) -> None:
    found = told(called(index, "a", "f", "{}"), called(index, "b", "f", "{}"), said({}, "tool_calls"))
    assert [item["call_id"] for item in found[-1]["response"]["output"]] == ["a", "b"]


def test_a_call_without_an_id_gets_one_and_arguments_may_be_an_object() -> None:
    delta = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"x": 1}}}]}
    (item,) = told(said(delta), said({}, "stop"))[-1]["response"]["output"]
    assert (item["call_id"], item["arguments"]) == (f"call_{SUFFIX}_0", '{"x":1}')


def test_a_custom_call_is_one() -> None:
    delta = {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "g", "input": "fr"}}]}
    more = {"tool_calls": [{"index": 0, "custom": {"input": "ee"}}]}
    found = told(said(delta), said(more), said({}, "tool_calls"))
    (item,) = found[-1]["response"]["output"]
    assert (item["type"], item["call_id"], item["name"], item["input"]) == ("custom_tool_call", "c", "g", "free")
    assert "custom_tool_call_input.delta" in types(found)


def test_a_refusal_is_a_part_of_the_message() -> None:
    found = told(said({"content": "Well"}), said({"refusal": "No"}), said({"refusal": "."}), said({}, "stop"))
    (message,) = found[-1]["response"]["output"]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert message["content"][1]["refusal"] == "No."
    assert {"refusal.delta", "refusal.done"} <= set(types(found))


def test_mistral_s_parts_are_thoughts_and_text() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}
    found = told(said({"content": [thinking]}), said({"content": [{"type": "text", "text": "Hi"}]}), said({}, "stop"))
    reasoning, message = found[-1]["response"]["output"]
    assert (reasoning["summary"][0]["text"], message["content"][0]["text"]) == ("Hm", "Hi")


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_is_not_whole_is_incomplete(finish: str, reason: str) -> None:
    last = told(*HELLO, said({}, finish))[-1]
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["incomplete_details"] == {"reason": reason}
    assert last["response"]["output"][-1]["status"] == "incomplete"
    assert last["response"]["usage"] == TOLD


def test_log_probabilities_come_where_they_are_asked_for() -> None:
    token = {"token": "Hi", "logprob": -0.5, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -1.0}]}
    chunks = [said({"content": "Hi"}, logprobs={"content": [token]}), said({}, "stop")]
    found = told(*chunks, top_logprobs=1)
    (delta,) = [event for event in found if event["type"] == "response.output_text.delta"]
    assert delta["logprobs"][0]["bytes"] == [72, 105]
    assert found[-1]["response"]["output"][0]["content"][0]["logprobs"] == delta["logprobs"]
    assert told(*chunks)[-1]["response"]["output"][0]["content"][0]["logprobs"] == []


def test_usage_that_is_not_reported_is_null() -> None:
    assert told(*WHOLE, usage=None)[-1]["response"]["usage"] is None


def test_the_cost_is_in_the_usage_where_the_client_is_told_it() -> None:
    def charge(end: End, seen: Seen) -> Settlement:
        assert end is End.COMPLETED
        return Settlement(1500, "completed", estimated=False, usage=seen.usage or Usage())

    made = reader(charge=charge)
    last = events(made.feed(stream(*WHOLE)))[-1]
    assert last["response"]["usage"] == {**TOLD, "cost": 0.0000015}
    assert made.seen.usage == Usage(input=12, cache_read=8, output=3, reasoning=2)


def test_a_stream_is_cut_past_its_cap_and_ends_incomplete() -> None:
    made = reader(cap=10)
    found = events(made.feed(stream(*(said({"content": "x"}) for _ in range(200)), said({}, "stop"))))
    assert made.cut
    assert found[-1]["type"] == "response.incomplete"
    assert len(found[-1]["response"]["output"][0]["content"][0]["text"]) == 10 + relay.SLACK_CHUNKS


def test_a_stream_that_breaks_off_has_failed_and_says_so_twice() -> None:
    made = reader()
    out = made.feed(stream(*HELLO, usage=None, done=False))
    with pytest.raises(relay.ProtocolError):
        made.close()
    usage = Raw(json.dumps({**USAGE, "cost": 0.5}).encode())
    found = events(out + made.failed(UpstreamError("It broke.", provider="p"), usage))
    failed, error = found[-2:]
    assert failed["response"]["error"] == {"code": "server_error", "message": "It broke."}
    assert (failed["response"]["status"], failed["response"]["usage"]) == ("failed", {**TOLD, "cost": 0.5})
    assert (error["type"], error["code"], error["error"]["message"]) == ("error", "provider_unavailable", "It broke.")


def test_one_that_fails_before_it_has_begun_begins_all_the_same() -> None:
    found = events(reader().failed(UpstreamError("It broke.", provider="p")))
    assert types(found) == ["created", "in_progress", "failed", "error"]


def test_what_came_before_an_error_is_told_before_it() -> None:
    made = reader()
    error = b'data: {"error": {"message": "no", "code": "overloaded"}}\n\n'
    with pytest.raises(relay.StreamedError) as raised:
        made.feed(stream(*HELLO, usage=None, done=False) + error)
    assert types(events(raised.value.before))[-1] == "output_text.delta"


def test_a_comment_keeps_the_connection_open() -> None:
    assert reader().feed(b": ping\n\n") == b": ping\n\n"


def test_a_character_that_was_cut_in_two_is_mended() -> None:
    made = reader()
    found = events(made.feed(stream(*HELLO, usage=None, done=False).replace("ü".encode(), b"\xc3")))
    assert "".join(event.get("delta", "") for event in found) == "Hello \ufffd!"


def test_what_nobody_can_read_is_left_out() -> None:
    made = reader()
    out = made.feed(b'data: {"id": "x", "choices": {"no": "list"}}\n\n' + stream(*WHOLE))
    assert events(out)[-1]["response"]["output"][0]["content"][0]["text"] == "Hello ü!"


ODD: list[Any] = [
    {"content": 7},
    {"content": [7, {"type": "text", "text": 7}, {"type": "thinking", "thinking": 7}]},
    {"reasoning_content": 7, "reasoning_details": [7, {"text": 7}]},
    {"refusal": 7},
    {"tool_calls": [7, {"function": 7}, {"index": "x", "id": 7, "function": {"name": 7, "arguments": 7}}]},
]


@pytest.mark.parametrize("delta", ODD)
def test_what_a_server_says_in_no_known_form_breaks_nothing(delta: dict[str, Any]) -> None:
    chunks = [said(delta, logprobs=7), *WHOLE]
    found = told(*chunks, include=["reasoning.encrypted_content"], top_logprobs=1)
    assert found[-1]["response"]["output"][-1]["type"] in {"message", "function_call"}
    answer, seen = whole(delta, include=["reasoning.encrypted_content"])
    assert (answer["status"], seen.usage is not None) == ("completed", True)


# --- whole answers --------------------------------------------------------------------------------


def whole(message: dict[str, Any], finish: str = "stop", charge: Any = None, **fields: Any) -> tuple[Any, Seen]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": USAGE}
    dialect, request = spoken(stream=False, **fields)
    told, seen = dialect.answer(json.dumps(body).encode(), request, TARGET, charge=charge, request_id=ID)
    found = json.loads(told)
    Response.model_validate(found)
    return found, seen


def test_a_whole_answer_is_a_response() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    found, seen = whole({"content": "Hi", "reasoning_content": "Hm", "tool_calls": [call]}, "tool_calls")
    assert [item["type"] for item in found["output"]] == ["reasoning", "message", "function_call"]
    assert (found["object"], found["status"], found["usage"]) == ("response", "completed", TOLD)
    assert seen.usage == Usage(input=12, cache_read=8, output=3, reasoning=2)


def test_a_whole_answer_says_the_same_as_a_stream_of_it() -> None:
    found, _ = whole({"content": "Hello ü!"})
    assert found == {**told(*WHOLE)[-1]["response"]}


def test_the_cost_is_in_a_whole_answer_too() -> None:
    settled = Settlement(1500, "completed", estimated=True, usage=Usage(input=3))
    found, _ = whole({"content": "Hi"}, charge=lambda _end, _seen: settled)
    assert (found["usage"]["cost"], found["usage"]["estimated"], found["usage"]["input_tokens"]) == (1.5e-06, True, 3)


def test_the_call_is_the_inner_one_s_and_so_is_what_makes_errors_readable() -> None:
    dialect, request = spoken()
    call = dialect.call(request, TARGET, cap=9, request_id=ID)
    assert call.url.endswith("/chat/completions")
    sent = json.loads(call.body)
    assert (sent["max_tokens"], sent["stream_options"]) == (9, {"include_usage": True})
    assert getattr(dialect, "refusal", None) is None


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=6)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=3), st.data())
def test_whatever_is_said_comes_out_as_it_went_in(
    thoughts: list[str], texts: list[str], calls: list[list[str]], data: st.DataObject
) -> None:
    chunks = [said({"reasoning_content": text}) for text in thoughts] + [said({"content": text}) for text in texts]
    for index, pieces in enumerate(calls):
        chunks += [called(index, f"c{index}", "f"), *(called(index, arguments=piece) for piece in pieces)]
    sent = stream(*chunks, said({}, "stop"))
    cut = data.draw(st.integers(0, len(sent)))
    made = reader()
    output = events(made.feed(sent[:cut]) + made.feed(sent[cut:]))[-1]["response"]["output"]
    thought = [item["summary"][0]["text"] for item in output if item["type"] == "reasoning"]
    spoken_ = [item["content"][0]["text"] for item in output if item["type"] == "message"]
    assert "".join(thought) == "".join(thoughts)
    assert "".join(spoken_) == "".join(texts)
    assert [(item["call_id"], item["arguments"]) for item in output if item["type"] == "function_call"] == [
        (f"c{index}", "".join(pieces)) for index, pieces in enumerate(calls)
    ]
