"""One Idempotency-Key, whichever API it comes by: an answer is given again to the byte, and to its own API alone."""

import json
from typing import Any

import pytest
from rig import KEY, USAGE_NANO, check_books, gateway, question

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, Script, post

pytestmark = pytest.mark.anyio

ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/llm/v1/chat/completions", question()),
    "messages": ("/v1/messages", question()),
    "responses": (
        "/llm/v1/responses",
        {"model": "fake/fake-1", "input": "Hi", "max_output_tokens": 100, "store": False},
    ),
}


async def asked(found: Gateway, api: str, *, stream: bool) -> tuple[int, dict[str, str], bytes]:
    path, body = ASKED[api]
    headers = {"apikey": KEY, "idempotency-key": "order-66"}
    async with post(found.app, path, {**body, "stream": stream}, headers=headers, ahead=0) as call:
        status = await call.started()
        told = await call.read()
        await call.returned()
        return status, call.headers, told


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ASKED)
async def test_an_answer_is_given_again_to_the_byte(api: str, stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script = Script(texts=("Grüße", " an alle"))
    async with gateway(fake_upstream) as found:
        status, first, told = await asked(found, api, stream=stream)
        assert (status, first.get("idempotency-replayed")) == (200, None)
        for _ in range(2):
            status, again, replayed = await asked(found, api, stream=stream)
            assert (status, replayed, again["idempotency-replayed"]) == (200, told, "true")
            assert {name: again[name] for name in first if name != "x-hpp-router-cost"} == {
                name: value for name, value in first.items() if name != "x-hpp-router-cost"
            }
        assert len(fake_upstream.log) == 1
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("first", "other"), [(one, two) for one in ASKED for two in ASKED if one != two])
async def test_a_key_of_one_api_is_another_requests_in_the_others(
    first: str,
    other: str,
    stream: bool,  # noqa: FBT001  # a parameter of the test
    fake_upstream: FakeUpstream,
) -> None:
    async with gateway(fake_upstream) as found:
        assert (await asked(found, first, stream=stream))[0] == 200
        status, headers, told = await asked(found, other, stream=stream)
        assert (status, headers["x-should-retry"]) == (409, "false")
        assert "Idempotency-Key" in json.loads(told)["error"]["message"]
        assert len(fake_upstream.log) == 1
        assert len(await check_books(found)) == 1


@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_a_stream_that_was_left_is_read_on_and_given_later(api: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        _, _, whole = await asked(found, api, stream=True)
    fake_upstream.next(Script(delay_between_s=0.02))
    async with gateway(fake_upstream) as found:
        path, body = ASKED[api]
        headers = {"apikey": KEY, "idempotency-key": "order-66"}
        async with post(found.app, path, {**body, "stream": True}, headers=headers, ahead=0) as call:
            assert await call.event()
            call.disconnect()
            await call.returned()
        status, headers, told = await asked(found, api, stream=True)
        assert (status, headers["idempotency-replayed"]) == (200, "true")
        assert told.count(b"\n\n") == whole.count(b"\n\n")
        (line,) = await check_books(found)
        assert (line.report.outcome, line.amount, line.report.estimated) == ("abandoned", USAGE_NANO, False)
    assert len(fake_upstream.log) == 2
