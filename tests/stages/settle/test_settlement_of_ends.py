"""The settlement table, end to end: every way an upstream can fail, what the client got, and what the ledger says."""

import json
from typing import Any

import anyio
import pytest
from rig import USAGE_NANO, ask, check_books, chunks, gateway, read_chat
from servers import free_port

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.provider import Limits, Timeouts
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

SHORT = Timeouts(connect=0.2, first_byte=0.2, idle=0.2, total=5)
BOTH = pytest.mark.parametrize("stream", [False, True])
KEPT = {400, 404, 408, 409, 413, 415, 422, 429}
USAGE_TEXT = b'"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}'


async def only_line(found: Gateway) -> Entry:
    """The one ledger line, the books being in order."""
    (line,) = await check_books(found)
    return line


def estimate(upstream: FakeUpstream, text: str = "") -> int:
    """What an estimate comes to, by the witness: a token for four bytes of what was sent and relayed."""
    return -(-len(upstream.log[0].body) // 4) * 1_000 + -(-len(text.encode()) // 4) * 2_000


async def error_of(found: Gateway, **fields: Any) -> tuple[int, dict[str, Any]]:
    """Status and error of an exchange that fails, be it before the head or as the last event of a stream."""
    status, body = await read_chat(found, **fields)
    if status != 200:
        return status, json.loads(body)["error"]
    assert b"[DONE]" not in body
    last = chunks(body)[-1]
    assert last["choices"][0]["finish_reason"] == "error"
    return status, last["error"]


@BOTH
@pytest.mark.parametrize("status", [*range(400, 430), 451, 499, 500, 501, 502, 503, 504, 507, 520, 529, 599])
async def test_an_upstreams_refusal_costs_nothing(stream: bool, status: int, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script = Script(status=status)
    async with gateway(fake_upstream) as found:
        told, error = await error_of(found, stream=stream)
        assert told == (status if status in KEPT else 504 if status == 504 else 502)
        assert (error["type"], error["provider"], error["upstream_status"]) == ("upstream_error", "fake", status)
        assert error["retryable"] == (status in {408, 409, 429} or status >= 500)
        line = await only_line(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (0, "failed", False)
        assert line.report.attempts[0].status == status
    assert len(fake_upstream.log) == 1


@BOTH
async def test_a_refusal_that_reports_usage_is_charged_it(stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script = Script(status=500, error=json.loads(b'{"error":{"message":"no"},' + USAGE_TEXT + b"}"))
    async with gateway(fake_upstream) as found:
        assert (await error_of(found, stream=stream))[0] == 502
        line = await only_line(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (USAGE_NANO, "failed", False)


@BOTH
async def test_an_upstream_that_is_not_there_costs_nothing(stream: bool) -> None:  # noqa: FBT001
    async with gateway(f"http://127.0.0.1:{free_port()}/v1") as found:
        status, error = await error_of(found, stream=stream)
        assert (status, error["code"], error["upstream_status"]) == (502, "provider_unavailable", None)
        assert error["retryable"] is True
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (0, "failed")


@BOTH
@pytest.mark.parametrize("reset", [False, True])
async def test_an_upstream_that_closes_before_the_head_costs_nothing(
    stream: bool,  # noqa: FBT001
    reset: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(close_before_head=True, reset=reset)
    async with gateway(fake_upstream) as found:
        status, error = await error_of(found, stream=stream)
        assert (status, error["retryable"]) == (502, True)
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (0, "failed")
    assert len(fake_upstream.log) == 1  # and was not asked twice


@BOTH
async def test_an_upstream_that_hangs_before_the_head_costs_the_prompt(
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(delay_head_s=60)
    async with gateway(fake_upstream, timeouts=SHORT) as found:
        status, error = await error_of(found, stream=stream)
        assert (status, error["code"]) == (504, "timeout")
        with anyio.fail_after(5):
            await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (estimate(fake_upstream), "failed")
        assert line.report.estimated


@BOTH
async def test_an_upstream_that_goes_on_for_ever_is_left_at_the_total_deadline(
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(endless=True, delay_between_s=0.05, texts=("so",))
    timeouts = Timeouts(connect=1, first_byte=1, idle=1, total=0.4)
    async with gateway(fake_upstream, timeouts=timeouts) as found:
        _, error = await error_of(found, stream=stream)
        assert error["code"] == "timeout"
        with anyio.fail_after(5):
            await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        line = await only_line(found)
        assert (line.report.outcome, line.report.estimated) == ("failed", True)
        assert estimate(fake_upstream) <= line.amount <= line.held


BODIES = {
    "html": (Script(raw_body=b"<html>Login</html>", content_type="text/html"), 0),
    "empty": (Script(raw_body=b"", content_type="application/json"), 0),
    "204": (Script(raw_body=b"", status=204), 0),
    "205": (Script(raw_body=b"", status=205), 0),
    "array": (Script(raw_body=b"[1]", content_type="application/json"), 0),
    "error": (Script(raw_body=b'{"error":{"message":"sorry","code":503}}', content_type="application/json"), 0),
    "error text": (Script(raw_body=b'{"error":"sorry"}', content_type="application/json"), 0),
    "error and usage": (
        Script(raw_body=b'{"error":{"message":"sorry"},' + USAGE_TEXT + b"}", content_type="application/json"),
        USAGE_NANO,
    ),
    "gzip": (Script(content_encoding="gzip"), 0),
    "br, it says": (Script(content_encoding="br"), 0),
}


@BOTH
@pytest.mark.parametrize("kind", BODIES)
async def test_a_200_that_is_no_answer_is_a_502(kind: str, stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script, amount = BODIES[kind]
    async with gateway(fake_upstream) as found:
        status, error = await error_of(found, stream=stream)
        assert (status, error["type"]) == (502, "upstream_error")
        assert "sorry" not in error["message"]
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (amount, "failed")


@pytest.mark.parametrize(
    ("body", "amount"),
    [
        (b'{"id":"x","choi', None),
        (b'{"id":"x"}', None),
        (b'{"choices":{}}', None),
        (b'{"choices":[]} trailing', None),
        (b"{" + USAGE_TEXT + b"}", USAGE_NANO),
    ],
)
async def test_broken_json_costs_no_more_than_the_prompt(
    body: bytes, amount: int | None, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(raw_body=body, content_type="application/json")
    async with gateway(fake_upstream) as found:
        status, _ = await error_of(found)
        assert status == 502
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (amount or estimate(fake_upstream), "failed")
        assert line.report.estimated == (amount is None)


async def test_json_cut_at_any_byte_is_a_502_and_costs_no_more_than_the_prompt(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        await read_chat(found)
        size = fake_upstream.log[0].bytes_sent
        for cut in range(0, size, 7):
            fake_upstream.script = Script(truncate_at_byte=cut, reset=cut % 2 == 0)
            assert (await error_of(found))[0] == 502
        lines = await check_books(found)
        for line, exchange in zip(lines[1:], fake_upstream.log[1:], strict=True):
            most = estimate(fake_upstream) if exchange.bytes_sent else 0
            assert line.amount in {0, most}
            assert line.report.outcome == "failed"


@BOTH
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(stream: bool, status: int, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    async with FakeUpstream() as evil, gateway(fake_upstream) as found:
        fake_upstream.script = Script(status=status, headers=[("Location", evil.url + "/chat/completions")])
        assert (await error_of(found, stream=stream))[0] == 502
        assert evil.log == []
        assert evil._connections == 0
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (0, "failed")


async def test_a_json_answer_that_is_too_large_is_a_502_and_not_read_to_its_end(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(endless=True, texts=("so" * 1000,))
    async with gateway(fake_upstream, limits=Limits(response_bytes=100_000)) as found:
        assert (await error_of(found))[0] == 502
        with anyio.fail_after(5):
            await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        assert (await only_line(found)).report.outcome == "failed"


@pytest.mark.parametrize(("policy", "share"), [("estimate", None), ("hold", "hold"), ("free", "nothing")])
async def test_a_whole_answer_without_usage_is_charged_by_the_policy(
    policy: str, share: str | None, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(usage=None)
    async with gateway(fake_upstream, missing_usage=policy) as found:
        for stream in (False, True):
            assert (await read_chat(found, stream=stream))[0] == 200
        for line, exchange in zip(await check_books(found), fake_upstream.log, strict=True):
            guess = -(-len(exchange.body) // 4) * 1_000 + 3 * 2_000  # "Hello world" has 11 bytes
            assert line.amount == {None: guess, "hold": line.held, "nothing": 0}[share]
            assert (line.report.outcome, line.report.estimated) == ("completed", True)


async def test_every_charge_is_the_price_of_what_the_witness_reported(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        for number in range(6):
            usage = {"prompt_tokens": number, "completion_tokens": 7 * number, "total_tokens": 8 * number}
            fake_upstream.script = Script(usage=usage)
            async with ask(found, stream=number % 2 == 1) as call:
                assert await call.started() == 200
                await call.read()
                await call.returned()
        reported = fake_upstream.usage_total()
        lines = await check_books(found)
        assert sum(line.amount for line in lines) == reported.prompt * 1_000 + reported.completion * 2_000
        assert not any(line.report.estimated for line in lines)
