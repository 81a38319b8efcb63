"""The Responses API passed on: the request nearly byte for byte, the answer but for its model, the usage billed."""

import json
from typing import Any

import pytest
from msgspec import Raw
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.dialects.openai_responses import COST_FIELDS, TOOL_TOKENS, OpenAIResponses, Stream
from hpp_middleware.dialects.presets import PRESETS
from hpp_middleware.dialects.presets import provider as preset
from hpp_middleware.errors import RequestError, UpstreamError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Limits, Model, Provider

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ID = "req_0199aabbccdd00112233445566778899"
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 25,
}
SPENT = Usage(input=10, cache_read=8, cache_write=2, output=3, reasoning=2)


def target(**provider: Any) -> Target:
    settings = {"base_url": "https://p.test/v1/", "api_key": "sk-operator", "native_apis": {"responses"}, **provider}
    return Target(
        id="p/real/model",
        provider_name="p",
        model_name="real/model",
        provider=Provider(**settings),
        model=Model(),
        price=Price(base=Rates(input=1, output=1)),
    )


TARGET = target()


def native(**provider: Any) -> OpenAIResponses:
    found: OpenAIResponses | None = OpenAI().native("responses", target(**provider).provider)
    assert found is not None
    return found


def asked(**fields: Any) -> Request:
    return RESPONSES.request(json.dumps({"model": "p/m", "input": "Hi", **fields}).encode(), Limits())


def call(cap: int | None = None, **fields: Any) -> HTTPCall:
    return native().call(asked(**fields), TARGET, cap=cap, request_id=ID)


# --- the request ----------------------------------------------------------------------------------


def test_a_provider_has_the_api_where_it_says_so() -> None:
    assert OpenAI().native("responses", target(native_apis=()).provider) is None
    assert OpenAI().native("nothing", target(native_apis={"nothing"}).provider) is None
    assert {name for name, found in PRESETS.items() if "responses" in found.native_apis} == {"openai"}
    assert "responses" in preset("openai", api_key="sk-x").native_apis


def test_the_body_is_the_clients_but_for_the_model_and_the_store() -> None:
    body = (
        b'{"model":"p/m","input":[ {"role":"user", "content":"\\u00e4 1.50"} ],"temperature":0.10,"odd":{"b":1,"a":2}}'
    )
    found = native().call(RESPONSES.request(body, Limits()), TARGET, cap=None, request_id=ID)
    assert found.body == (
        b'{"model":"real/model","input":[ {"role":"user", "content":"\\u00e4 1.50"} ],"temperature":0.10,'
        b'"odd":{"b":1,"a":2},"store":false}'
    )
    assert found.url == "https://p.test/v1/responses"
    headers = dict(found.headers)
    assert (headers["Authorization"], headers["Accept"], headers["X-Request-Id"]) == (
        "Bearer sk-operator",
        "application/json",
        ID,
    )
    assert dict(call(stream=True).headers)["Accept"] == "text/event-stream"


def test_a_cap_is_added_where_there_is_none() -> None:
    assert json.loads(call(cap=9).body)["max_output_tokens"] == 9
    assert json.loads(call(cap=9, max_output_tokens=None).body)["max_output_tokens"] == 9
    assert json.loads(call(max_output_tokens=7).body)["max_output_tokens"] == 7
    assert json.loads(call(store=None).body)["store"] is False


@pytest.mark.parametrize(
    "field", sorted(COST_FIELDS.keys() - {"conversation", "previous_response_id", "context_management", "moderation"})
)
def test_fields_without_a_price_are_refused(field: str) -> None:
    for name in (field, field.upper()):
        with pytest.raises(RequestError) as raised:
            call(**{name: 1})
        assert raised.value.param == name


def test_a_provider_may_have_more_of_them_and_tiers_have_other_prices() -> None:
    with pytest.raises(RequestError):
        native().call(asked(odd=1), target(cost_fields=frozenset({"odd"})), cap=None, request_id=ID)
    with pytest.raises(RequestError) as raised:
        call(service_tier="priority")
    assert raised.value.param == "service_tier"
    assert json.loads(call(service_tier="flex").body)["service_tier"] == "flex"
    with pytest.raises(RequestError):
        call(cache_control={"ttl": "1h"})


def test_tools_that_the_provider_describes_itself_are_held_for() -> None:
    function = {"type": "function", "name": "f", "parameters": {}}
    assert call(tools=[function, {"type": "custom", "name": "g"}]).more_tokens == 0
    assert call(tools=[{"type": "apply_patch"}, function, {"type": "shell"}]).more_tokens == 2 * TOOL_TOKENS


# --- streams --------------------------------------------------------------------------------------


def response(status: str = "in_progress", **fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_up",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "real-2025",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None,
        **fields,
    }


PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
PART = {"type": "output_text", "annotations": [], "logprobs": []}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{**PART, "text": "Hello ü!"}],
}
BEGIN: list[tuple[str, dict[str, Any]]] = [
    ("response.created", {"response": response()}),
    ("response.in_progress", {"response": response()}),
    ("response.output_item.added", {"output_index": 0, "item": {**MESSAGE, "content": [], "status": "in_progress"}}),
    ("response.content_part.added", {**PLACE, "part": {**PART, "text": ""}}),
    ("response.output_text.delta", {**PLACE, "delta": "Hello", "logprobs": [], "obfuscation": "xyz"}),
    ("response.output_text.delta", {**PLACE, "delta": " ü!", "logprobs": []}),
]
END: list[tuple[str, dict[str, Any]]] = [
    ("response.output_text.done", {**PLACE, "text": "Hello ü!", "logprobs": []}),
    ("response.content_part.done", {**PLACE, "part": {**PART, "text": "Hello ü!"}}),
    ("response.output_item.done", {"output_index": 0, "item": MESSAGE}),
    ("response.completed", {"response": response("completed", output=[MESSAGE], usage=USAGE)}),
]


def stream(*told: tuple[str, dict[str, Any]]) -> bytes:
    frames = []
    for number, (kind, fields) in enumerate(told):
        data = json.dumps({"type": kind, "sequence_number": number, **fields}, ensure_ascii=False)
        frames.append(f"event: {kind}\ndata: {data}\n\n")
    return "".join(frames).encode()


def reader(*, cap: int = 1000, charge: Any = None, **fields: Any) -> Stream:
    return native().stream(
        asked(stream=True, **fields), TARGET, event_bytes=100_000, cap=cap, charge=charge, request_id=ID
    )


def events(data: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in data.decode().split("\n\n"):
        if frame:
            name, told = frame.split("\n")
            found.append(json.loads(told.removeprefix("data: ")))
            EVENT.validate_python(found[-1])
            assert name == f"event: {found[-1]['type']}"
    return found


def test_events_pass_as_they_are_but_for_the_model_of_a_response() -> None:
    made = reader()
    data = stream(*BEGIN, *END)
    out = made.feed(data)
    assert made.done
    assert out.split(b"\n\n")[2:9] == data.split(b"\n\n")[2:9]
    found = events(out)
    assert {event["response"]["model"] for event in found if "response" in event} == {"p/real/model"}
    assert found[-1]["response"]["usage"] == USAGE
    assert found[-1]["response"]["output"] == [MESSAGE]


def test_every_cut_of_the_bytes_gives_the_same() -> None:
    data = stream(*BEGIN, *END)
    whole = reader().feed(data)
    for cut in range(len(data) + 1):
        made = reader()
        assert made.feed(data[:cut]) + made.feed(data[cut:]) + made.close() == whole
        assert made.seen.usage == SPENT


def test_what_it_has_shown_is_what_is_settled() -> None:
    made = reader()
    made.feed(stream(*BEGIN))
    assert made.seen == Seen(relayed_bytes=len("Hello ü!".encode()), texts=2, upstream_id="resp_up")
    made = reader()
    made.feed(stream(*BEGIN, *END))
    assert made.seen.usage == SPENT
    assert json.loads(bytes(made.seen.usage_raw or b"")) == USAGE
    assert (made.seen.finished, made.seen.texts, made.seen.usage_doubtful) == (True, 2, False)


def test_calls_and_thoughts_are_text_and_a_summary_is_none() -> None:
    made = reader()
    made.feed(
        stream(
            (
                "response.reasoning_summary_text.delta",
                {"item_id": "r", "output_index": 0, "summary_index": 0, "delta": "x" * 9},
            ),
            ("response.reasoning_text.delta", {"item_id": "r", "output_index": 0, "content_index": 0, "delta": "abc"}),
            ("response.function_call_arguments.delta", {"item_id": "f", "output_index": 1, "delta": '{"a"'}),
            ("response.refusal.delta", {**PLACE, "output_index": 2, "delta": "no"}),
        )
    )
    assert (made.seen.relayed_bytes, made.seen.texts) == (9, 4 - 1)


def test_an_item_that_comes_whole_is_counted_whole_and_no_other_one_twice() -> None:
    call_ = {
        "type": "local_shell_call",
        "id": "l",
        "call_id": "c",
        "status": "completed",
        "action": {"command": ["ls"]},
    }
    made = reader()
    made.feed(stream(*BEGIN, *END[:3], ("response.output_item.done", {"output_index": 1, "item": call_})))
    assert made.seen.relayed_bytes == len("Hello ü!".encode()) + len('{"command":["ls"]}')


@pytest.mark.parametrize("kind", ["incomplete", "failed"])
def test_an_answer_that_is_not_whole_is_billed_too(kind: str) -> None:
    error = {"code": "server_error", "message": "upstream secret"} if kind == "failed" else None
    last = (f"response.{kind}", {"response": response(kind, usage=USAGE, error=error)})
    made = reader()
    if kind == "incomplete":
        assert events(made.feed(stream(*BEGIN, last)))[-1]["type"] == "response.incomplete"
        assert made.done
    else:
        with pytest.raises(relay.StreamedError) as raised:
            made.feed(stream(*BEGIN, last))
        assert json.loads(raised.value.args[0])["code"] == "server_error"
        assert len(events(raised.value.before)) == len(BEGIN)
        found = events(made.failed(UpstreamError("No.", provider="p")))
        assert [event["sequence_number"] for event in found] == [len(BEGIN), len(BEGIN) + 1]
        assert found[0]["response"]["usage"] == USAGE
        assert b"secret" not in made.failed(UpstreamError("No.", provider="p"))
    assert made.seen.usage == SPENT


@pytest.mark.parametrize(
    "error",
    [{"code": "overloaded", "message": "no", "param": None}, {"error": {"code": "overloaded", "message": "no"}}],
)
def test_an_error_event_is_an_error_wherever_it_says_so(error: dict[str, Any]) -> None:
    made = reader()
    with pytest.raises(relay.StreamedError) as raised:
        made.feed(stream(*BEGIN, ("error", error)))
    assert json.loads(raised.value.args[0])["code"] == "overloaded"
    assert not made.done


@pytest.mark.parametrize("tail", [b"", b"data: [DONE]\n\n", b'event: response.completed\ndata: {"type":"resp'])
def test_a_stream_without_a_last_event_has_broken_off(tail: bytes) -> None:
    made = reader()
    out = made.feed(stream(*BEGIN))
    with pytest.raises(relay.ProtocolError) as raised:
        made.feed(tail) or made.close()
    assert len(events(out + raised.value.before)) == len(BEGIN)
    assert not made.done


@pytest.mark.parametrize(
    "data", [b"data: {no json\n\n", b"data: []\n\n", b'data: {"type": 7}\n\n', b'data: {"response": 7}\n\n']
)
def test_what_is_no_event_is_a_fault_of_the_upstream(data: bytes) -> None:
    made = reader()
    with pytest.raises(relay.ProtocolError) as raised:
        made.feed(stream(*BEGIN) + data)
    assert len(events(raised.value.before)) == len(BEGIN)


def test_an_event_that_is_too_large_is_too() -> None:
    made = native().stream(asked(stream=True), TARGET, event_bytes=4000, cap=9, request_id=ID)
    with pytest.raises(relay.ProtocolError):
        made.feed(b"data: " + b"x" * 5000)


def test_a_character_cut_in_two_is_mended() -> None:
    made = reader()
    kind, fields = BEGIN[4]
    data = stream((kind, {**fields, "delta": "XX"})).replace(b"XX", b"\xc3")
    assert "�".encode() in made.feed(data)
    assert made.seen.texts == 1


def test_a_stream_is_cut_past_its_cap() -> None:
    made = reader(cap=10)
    delta = ("response.output_text.delta", {**PLACE, "delta": "x", "logprobs": []})
    found = events(made.feed(stream(*BEGIN[:4], *[delta] * 200)))
    assert made.cut
    assert made.done
    assert sum(event["type"] == "response.output_text.delta" for event in found) == 10 + relay.SLACK_CHUNKS
    assert found[-1]["type"] == "response.incomplete"
    assert found[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    long = ("response.output_text.delta", {**PLACE, "delta": "x" * (10 * relay.BYTES_A_TOKEN + relay.SLACK_BYTES + 1)})
    made = reader(cap=10)
    made.feed(stream(long))
    assert made.cut


def settled(amount: int, usage: Usage, *, estimated: bool = False) -> Any:
    return lambda _end, _seen: Settlement(amount, "completed", estimated=estimated, usage=usage)


def test_the_cost_stands_in_the_usage_of_the_last_event() -> None:
    made = reader(charge=settled(1500, SPENT))
    assert events(made.feed(stream(*BEGIN, *END)))[-1]["response"]["usage"] == {**USAGE, "cost": 0.0000015}


def test_an_estimate_that_is_charged_is_told_in_this_api_s_words() -> None:
    last = ("response.completed", {"response": response("completed")})
    made = reader(charge=settled(1500, Usage(input=3, output=2), estimated=True))
    usage = events(made.feed(stream(*BEGIN, last)))[-1]["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cost"], usage["estimated"]) == (3, 2, 1.5e-06, True)


def test_a_cut_stream_says_its_cost() -> None:
    ends: list[End] = []

    def charge(end: End, seen: Seen) -> Settlement:
        ends.append(end)
        return Settlement(9, "completed", estimated=True, usage=seen.usage or Usage(output=1))

    made = reader(cap=1, charge=charge)
    delta = ("response.output_text.delta", {**PLACE, "delta": "x", "logprobs": []})
    last = events(made.feed(stream(*BEGIN[:4], *[delta] * 200)))[-1]
    assert (last["response"]["usage"]["cost"], ends) == (9e-09, [End.CUT])


def test_a_broken_stream_says_its_cost_and_begins_where_it_has_not() -> None:
    usage = Raw(json.dumps({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "cost": 0.5}).encode())
    found = events(reader().failed(UpstreamError("No.", provider="p"), usage))
    assert [event["type"] for event in found] == ["response.created", "response.failed", "error"]
    assert (found[1]["response"]["usage"]["input_tokens"], found[1]["response"]["usage"]["cost"]) == (3, 0.5)


def test_usage_that_cannot_be_read_leaves_the_one_before_in_doubt() -> None:
    early = ("response.in_progress", {"response": response(usage=USAGE)})
    for unreadable in ({"input_tokens": "many"}, [7], {**USAGE, "input_tokens_details": [1]}):
        last = ("response.completed", {"response": response("completed", usage=unreadable)})
        made = reader()
        assert json.loads(made.feed(stream(early, last)).split(b"data: ")[-1])["response"]["usage"] == unreadable
        assert (made.seen.usage, made.seen.usage_doubtful, made.done) == (SPENT, True, True)
        told, seen = native().answer(json.dumps(last[1]["response"]).encode(), asked(), TARGET, request_id=ID)
        assert (json.loads(told)["usage"], seen.usage) == (unreadable, None)
    made = reader()
    made.feed(stream(last))
    assert made.seen.usage is None


def test_usage_that_takes_back_what_text_has_borne_out_leaves_the_one_before_in_doubt() -> None:
    nothing = {**USAGE, "input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    early = ("response.in_progress", {"response": response(usage=USAGE)})
    delta = ("response.output_text.delta", {**PLACE, "delta": "x", "logprobs": []})
    last = ("response.completed", {"response": response("completed", usage=nothing)})
    made = reader()
    made.feed(stream(early, delta, last))
    assert (made.seen.usage, made.seen.usage_doubtful, made.done) == (SPENT, True, True)


# What llama.cpp's server leaves out: numbers of events, places in the output, and most of a Response.
BARE = b"".join(
    b"event: %s\ndata: %s\n\n" % (str(told["type"]).encode(), json.dumps(told).encode())
    for told in (
        {"type": "response.created", "response": {"id": "resp_up", "object": "response", "status": "in_progress"}},
        {"type": "response.output_item.added", "item": {"type": "reasoning", "id": "r", "content": []}},
        {"type": "response.reasoning_text.delta", "item_id": "r", "delta": "Hm"},
        {
            "type": "response.output_item.done",
            "item": {"type": "reasoning", "id": "r", "content": [{"type": "reasoning_text", "text": "Hm"}]},
        },
        {"type": "response.output_item.added", "item": {**MESSAGE, "content": []}},
        {"type": "response.content_part.added", "item_id": "msg_1", "part": {"type": "output_text", "text": ""}},
        {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "Hi"},
        {"type": "response.output_text.done", "item_id": "msg_1", "text": "Hi"},
        {
            "type": "response.output_item.added",
            "item": {"type": "function_call", "id": "f", "call_id": "c", "name": "g", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": "{}"},
        {"type": "response.function_call_arguments.done", "item_id": "f", "arguments": "{}"},
        {"type": "response.reasoning_summary_text.delta", "item_id": "r", "delta": "x"},
        {
            "type": "response.completed",
            "response": {
                "id": "resp_up",
                "status": "completed",
                "output": [],
                "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
            },
        },
    )
)


def test_what_a_server_leaves_out_that_openais_sdks_rely_on_is_filled_in() -> None:
    made = reader(temperature=0.5)
    found = events(made.feed(BARE))
    assert [event["sequence_number"] for event in found] == list(range(13))
    assert [event.get("output_index") for event in found[1:12]] == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 0]
    assert found[10]["name"] == "g"
    assert found[-1]["response"]["temperature"] == 0.5
    assert found[-1]["response"]["usage"]["output_tokens_details"] == {"reasoning_tokens": 0}
    assert (made.seen.usage, made.seen.relayed_bytes, made.seen.texts) == (Usage(input=3, output=2), 6, 3)


# --- whole answers --------------------------------------------------------------------------------


def answer(body: Any, charge: Any = None, **fields: Any) -> tuple[Any, Seen]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    told, seen = native().answer(data, asked(**fields), TARGET, charge=charge, request_id=ID)
    found = json.loads(told)
    Response.model_validate(found)
    return found, seen


def test_a_whole_response_passes_but_for_its_model() -> None:
    whole = response("completed", output=[MESSAGE], usage=USAGE, odd={"b": 1})
    found, seen = answer(whole)
    assert {name: found[name] for name in whole} == {**whole, "model": "p/real/model"}
    assert seen == Seen(
        usage=SPENT,
        usage_raw=seen.usage_raw,
        relayed_bytes=len("Hello ü!".encode()),
        texts=1,
        finished=True,
        upstream_id="resp_up",
    )
    assert answer(whole, settled(1500, SPENT))[0]["usage"] == {**USAGE, "cost": 0.0000015}


def test_a_provider_s_own_cost_makes_way_for_ours() -> None:
    whole = response("completed", usage={**USAGE, "cost": 3, "cost_details": {}})
    assert answer(whole)[0]["usage"]["cost"] == 3
    assert answer(whole, settled(1500, SPENT))[0]["usage"] == {**USAGE, "cost": 0.0000015}


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b"{}", b'{"output": 7}', b'{"output": {}}'])
def test_what_is_no_response_is_a_fault_of_the_upstream(body: bytes) -> None:
    with pytest.raises(relay.ProtocolError):
        answer(body)


@pytest.mark.parametrize("failed", [{"status": "failed"}, {"error": {"code": "server_error", "message": "no"}}])
def test_a_response_that_has_failed_is_an_error_that_says_what_it_used(failed: dict[str, Any]) -> None:
    with pytest.raises(relay.StreamedError) as raised:
        answer({**response("completed", usage=USAGE), **failed})
    assert raised.value.args[1].usage == SPENT


def test_items_that_nobody_knows_count_nothing_and_broken_characters_count() -> None:
    odd = b'{"output":[7,{"content":[{"text":"\xc3"}]},{"content":7}],"status":"completed","parallel_tool_calls":true}'
    told, seen = native().answer(odd, asked(), TARGET, request_id=ID)
    assert seen.relayed_bytes == len("�".encode())
    assert b'"model":"p/real/model"' in told
