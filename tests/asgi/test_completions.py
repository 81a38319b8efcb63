"""``POST /llm/v1/chat/completions`` as the contract has it: what goes up, what comes down, and its headers."""

import json
from typing import Any

import msgspec
import pytest
from rig import CHAT, KEY, MODEL, ask, check_books, chunks, gateway, question, read_chat

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, Script, post

pytestmark = pytest.mark.anyio

RAW_HEADERS = {"apikey": KEY, "content-type": "application/json"}


async def send_raw(found: Gateway, body: bytes) -> tuple[int, Any]:
    """Post these bytes; status and answer."""
    async with post(found.app, CHAT, body, headers=RAW_HEADERS) as call:
        return await call.started(), await call.json()


async def test_json_comes_as_the_upstream_made_it_but_for_the_model(fake_upstream: FakeUpstream) -> None:
    raw = (
        b'{"id":"x","zz":1e2,"choices":[{"index":0,"message":{"role":"assistant","content":"h\\u00e9"},'
        b'"finish_reason":"stop", "odd" : 1.0}],"model":"fake-1-2026",'
        b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
    )
    fake_upstream.script = Script(raw_body=raw, content_type="application/json")
    async with gateway(fake_upstream) as found, ask(found) as call:
        assert await call.started() == 200
        body = await call.read()
        assert body == raw.replace(b'"fake-1-2026"', b'"fake/fake-1"')
        assert call.headers["content-type"] == "application/json"
        assert call.headers["content-length"] == str(len(body))
        assert call.headers["x-hpp-router-resolved-model"] == MODEL
        assert call.headers["x-hpp-router-cost"] == "0.000013"
        assert call.headers["x-request-id"].startswith("req_")


async def test_a_stream_has_its_headers_and_ends_in_its_mark(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found, ask(found, stream=True) as call:
        assert await call.started() == 200
        assert call.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert call.headers["cache-control"] == "no-cache"
        assert call.headers["x-accel-buffering"] == "no"
        assert call.headers["x-hpp-router-resolved-model"] == MODEL
        assert call.headers["x-request-id"].startswith("req_")
        assert "content-length" not in call.headers
        assert "x-hpp-router-cost" not in call.headers
        *events, end = chunks(await call.read())
        assert end == "[DONE]"
        assert {event["model"] for event in events} == {MODEL}
        assert not any("usage" in event for event in events)


async def test_each_event_arrives_before_the_next_one_is_made(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    async with gateway(fake_upstream) as found, ask(found, stream=True) as call:
        assert b"assistant" in await call.event()
        assert b"Hello" in await call.event()
        assert not fake_upstream.log[0].finished


async def test_the_upstream_gets_the_clients_bytes_but_for_what_the_router_changes(fake_upstream: FakeUpstream) -> None:
    body = (
        b' {"model":"fake/fake-1", "messages": [ {"role":"user",'
        b'"content":[{"type":"text","text":"h\\u00e9 \xe2\x80\xa8"}'
        b',{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA","detail":"low"}}]},'
        b' {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function",'
        b'"function":{"name":"f","arguments":"{ }"}}]},{"role":"tool","tool_call_id":"c","content":"1.0"}],'
        b' "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object", "x":1.50}}}],'
        b' "temperature": 0.70, "seed": 12345678901234567890, "new_field_of_2027":{"a":[1,  2]}, "max_tokens": 50 }'
    )
    async with gateway(fake_upstream) as found:
        status, _ = await send_raw(found, body)
        assert status == 200
    sent, given = (msgspec.json.decode(each, type=dict[str, msgspec.Raw]) for each in (fake_upstream.log[0].body, body))
    assert bytes(sent.pop("model")) == b'"fake-1"'
    del given["model"]
    assert {name: bytes(value) for name, value in sent.items()} == {name: bytes(value) for name, value in given.items()}


async def test_a_key_that_is_given_twice_counts_once_for_router_and_upstream_alike(fake_upstream: FakeUpstream) -> None:
    body = b'{"model":"nobody/knows","messages":[{"role":"user","content":"Hi"}],"max_tokens":1,"model":"fake/fake-1"}'
    async with gateway(fake_upstream) as found:
        assert (await send_raw(found, body))[0] == 200
    assert fake_upstream.log[0].body.count(b'"model"') == 1
    assert fake_upstream.log[0].json()["model"] == "fake-1"


async def test_a_request_without_a_cap_gets_ours_and_a_stream_is_asked_for_its_usage(
    fake_upstream: FakeUpstream,
) -> None:
    async with gateway(fake_upstream) as found:
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        assert (await send_raw(found, json.dumps(asked).encode()))[0] == 200
        await read_chat(found, stream=True, stream_options={"include_obfuscation": False})
        first, second = (exchange.json() for exchange in fake_upstream.log)
        assert first["max_tokens"] == 16_384
        assert "stream_options" not in first
        assert second["max_tokens"] == 100
        assert second["stream_options"] == {"include_obfuscation": False, "include_usage": True}


async def test_only_the_first_slash_splits_a_models_name(fake_upstream: FakeUpstream) -> None:
    names = ("meta-llama/llama-3:120b", "a/b/c", "gpt@2026")
    models = {f"fake/{name}": {"input": "1", "output": "2"} for name in names}
    async with gateway(fake_upstream, models=models) as found:
        for name in names:
            status, body = await read_chat(found, model=f"fake/{name}")
            assert status == 200
            assert json.loads(body)["model"] == f"fake/{name}"
    assert [exchange.json()["model"] for exchange in fake_upstream.log] == list(names)


async def test_an_alias_is_resolved_and_both_names_are_in_the_ledger(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, aliases={"fast": MODEL}) as found:
        async with ask(found, model="fast") as call:
            assert (await call.json())["model"] == MODEL
            assert call.headers["x-hpp-router-resolved-model"] == MODEL
            await call.returned()
        (line,) = await check_books(found)
        assert (line.draft.requested_model, line.draft.model) == ("fast", MODEL)


@pytest.mark.parametrize("given", ["trace-1", "a" * 200, "A.b_c:d/e@f-g"])
async def test_a_clients_own_request_id_is_kept_in_the_ledger_and_ours_is_answered(
    given: str, fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream) as found:
        async with ask(found, headers={"x-request-id": given}) as call:
            await call.read()
            ours = call.headers["x-request-id"]
            await call.returned()
        (line,) = await check_books(found)
        assert (line.draft.client_request_id, line.hold) == (given, ours)
        assert fake_upstream.log[0].header("x-request-id") == ours


@pytest.mark.parametrize("given", ["", "a" * 201, "with space", "h\xe9", "<script>", "a\tb"])
async def test_a_request_id_that_could_do_harm_is_dropped(given: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        async with ask(found, headers={"x-request-id": given}) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        (line,) = await check_books(found)
        assert line.draft.client_request_id is None


async def test_a_body_may_arrive_in_pieces_cut_anywhere(fake_upstream: FakeUpstream) -> None:
    body = json.dumps(question(messages=[{"role": "user", "content": "h\xe9llo \u2028"}]), ensure_ascii=False).encode()
    async with gateway(fake_upstream) as found:
        pieces = [body[place : place + 1] for place in range(len(body))]
        async with post(found.app, CHAT, pieces, headers=RAW_HEADERS) as call:
            assert await call.started() == 200
            await call.read()
    assert fake_upstream.log[0].json()["messages"][0]["content"] == "h\xe9llo \u2028"


async def test_text_that_looks_like_framing_forges_no_event(fake_upstream: FakeUpstream) -> None:
    evil = '\n\ndata: [DONE]\n\ndata: {"error":{}}\r\rhi\u2028\u0085event: x'
    fake_upstream.script = Script(texts=(evil, "after"))
    async with gateway(fake_upstream) as found:
        _, body = await read_chat(found, stream=True)
        *events, end = chunks(body)
        assert end == "[DONE]"
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
        assert text == evil + "after"


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\n"])
@pytest.mark.parametrize("size", [1, 7, 64])
async def test_a_stream_is_the_same_however_it_is_cut(newline: str, size: int, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(newline=newline, chunk_size=size, texts=("h\xe9", "\u2028\u2029"))
    async with gateway(fake_upstream) as found:
        _, body = await read_chat(found, stream=True)
        *events, end = chunks(body)
        assert end == "[DONE]"
        assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == "h\xe9\u2028\u2029"
        (line,) = await check_books(found)
        assert not line.report.estimated
