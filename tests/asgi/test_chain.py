"""An attempt that fails is followed by another: one hold, one entry, each attempt charged at its own model's price."""

from typing import Any

import msgspec
import pytest
from chains import A_NANO, B_NANO, answered, pair, the_entry
from rig import CHAT, KEY, chunks

from hpp_middleware import SQLiteStore
from hpp_middleware.core import ledger
from hpp_middleware.testing import Script, post
from hpp_middleware.types.provider import Timeouts

pytestmark = pytest.mark.anyio

FAILURES: dict[str, tuple[Script, int | None, str]] = {
    "500": (Script(status=500), 500, "server"),
    "503": (Script(status=503), 503, "provider_overloaded"),
    "429": (Script(status=429), 429, "rate_limit_exceeded"),
    "400": (Script(status=400), 400, "invalid_request"),
    "404": (Script(status=404), 404, "not_found"),
    "401": (Script(status=401), 401, "provider_unavailable"),
    "403": (Script(status=403), 403, "provider_unavailable"),
    "context": (
        Script(status=400, error={"error": {"message": "too long", "code": "context_length_exceeded"}}),
        400,
        "context_length_exceeded",
    ),
    "closed": (Script(close_before_head=True), None, "provider_unavailable"),
    "reset": (Script(close_before_head=True, reset=True), None, "provider_unavailable"),
    "garbage": (Script(raw_body=b"<html>", content_type="text/html"), 200, "provider_unavailable"),
}
STREAMED: dict[str, Script] = {
    "cut before the first byte": Script(truncate_after_events=0),
    "an error where the first event was": Script(
        raw_body=b'data: {"error": {"message": "busy", "code": 503}}\n\n', content_type="text/event-stream"
    ),
    "a comment and the end": Script(raw_body=b": wait\n\n", content_type="text/event-stream"),
    "no stream at all": Script(raw_body=b"<html>", content_type="text/html"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_model_that_fails_is_followed_by_its_fallback(failure: str, *, stream: bool) -> None:
    script, said, code = FAILURES[failure]
    async with pair() as found:
        found.fake.script = script
        status, headers, body = await answered(found.gateway, stream=stream)
        assert status == 200
        assert b"From" in body
        assert (headers["resolved-model"], headers["attempts"]) == ("other/c", "2")
        assert found.asked == (["a"], ["c"])
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (B_NANO, "other/c", "completed")
        assert (entry.draft.requested_model, entry.report.estimated) == ("fake/a", False)
        assert ledger.recomputed(entry) == B_NANO
        first, second = entry.report.attempts
        assert (first.provider, first.model, first.status, first.error, first.cost) == ("fake", "a", said, code, 0)
        assert (second.provider, second.model, second.status, second.cost) == ("other", "c", 200, B_NANO)
        if stream:
            assert chunks(body)[-1] == "[DONE]"
            assert {each["model"] for each in chunks(body)[:-1]} == {"other/c"}
        else:
            assert msgspec.json.decode(body)["model"] == "other/c"
            assert round(float(headers["cost"]) * 10**9) == B_NANO


ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 100, "store": False},
}


@pytest.mark.parametrize("path", ASKED)
async def test_a_comment_is_no_beginning_in_the_words_of_any_api(path: str) -> None:
    async with pair() as found:
        found.fake.script = Script(raw_events=[b": wait\n\n"] * 3, content_type="text/event-stream")
        body = {"model": "fake/a", "stream": True, **ASKED[path]}
        async with post(found.gateway.app, path, body, headers={"apikey": KEY}) as call:
            assert await call.started() == 200
            told = await call.read()
            await call.returned()
        assert call.headers["x-hpp-router-resolved-model"] == "other/c"
        assert b"From" in told
        assert b"error" not in told.replace(b'"error":null', b"")
        assert found.asked == (["a"], ["c"])
        await the_entry(found.gateway)


async def test_a_ping_of_a_provider_of_messages_is_no_beginning() -> None:
    async with pair(provider={"native_apis": {"messages"}}) as found:
        ping = b'event: ping\ndata: {"type": "ping"}\n\n'
        found.fake.script = found.other.script = Script(raw_events=[ping] * 3, content_type="text/event-stream")
        body = {"model": "fake/a", "stream": True, **ASKED["/v1/messages"]}
        async with post(found.gateway.app, "/v1/messages", body, headers={"apikey": KEY}) as call:
            assert await call.started() == 502
            assert (await call.json())["type"] == "error"
            await call.returned()
        assert (len(found.fake.log), len(found.other.log)) == (1, 1)
        await the_entry(found.gateway)


@pytest.mark.parametrize("failure", STREAMED)
async def test_a_stream_that_fails_before_its_first_event_is_begun_anew(failure: str) -> None:
    async with pair() as found:
        found.fake.script = STREAMED[failure]
        status, headers, body = await answered(found.gateway, stream=True)
        assert (status, headers["resolved-model"], headers["attempts"]) == (200, "other/c", "2")
        assert chunks(body)[-1] == "[DONE]"
        assert b"error" not in body
        entry = await the_entry(found.gateway)
        assert entry.amount == B_NANO + entry.report.attempts[0].cost
        assert entry.draft.model == "other/c"


@pytest.mark.parametrize("events", [1, 2])
async def test_a_stream_that_has_begun_is_never_begun_anew(events: int) -> None:
    async with pair(retries=1) as found:
        found.fake.script = Script(truncate_after_events=events)
        status, headers, body = await answered(found.gateway, stream=True)
        assert (status, headers["resolved-model"], headers["attempts"]) == (200, "fake/a", "1")
        assert chunks(body)[-1]["error"]["code"] == "provider_unavailable"
        assert found.asked == (["a"], [])
        entry = await the_entry(found.gateway)
        assert (entry.report.outcome, entry.report.estimated) == ("failed", True)


async def test_a_connection_that_is_refused_is_followed_too() -> None:
    async with pair(retries=1, fallbacks={"gone/x": ["fake/a"]}) as found:
        _, headers, _ = await answered(found.gateway, model="gone/x")
        assert (headers["resolved-model"], headers["attempts"]) == ("fake/a", "3")
        entry = await the_entry(found.gateway)
        assert (entry.amount, ledger.recomputed(entry)) == (A_NANO, A_NANO)
        assert [(each.status, each.cost) for each in entry.report.attempts] == [(None, 0), (None, 0), (200, A_NANO)]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_attempt_that_took_too_long_is_charged_and_told_with_the_other(*, stream: bool) -> None:
    async with pair(timeouts=Timeouts(connect=5, first_byte=0.4, idle=20, total=30)) as found:
        found.fake.script = Script(delay_head_s=60)
        status, headers, body = await answered(found.gateway, stream=stream)
        assert (status, headers["resolved-model"]) == (200, "other/c")
        entry = await the_entry(found.gateway)
        first, second = entry.report.attempts
        assert (first.error, second.cost) == ("timeout", B_NANO)
        assert first.cost > 0
        assert entry.amount == first.cost + B_NANO
        assert (entry.report.estimated, entry.report.outcome) == (True, "completed")
        assert stream or round(float(headers["cost"]) * 10**9) == entry.amount
        assert b"From" in body


async def test_a_failure_that_costs_is_charged_at_its_own_price() -> None:
    async with pair() as found:
        error = {"error": {"message": "broke", "code": "server"}, "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
        found.fake.script = Script(status=500, error=error)
        _, headers, _ = await answered(found.gateway)
        entry = await the_entry(found.gateway)
        assert entry.amount == 5 * 1_000 + 2_000 + B_NANO == ledger.recomputed(entry)
        assert round(float(headers["cost"]) * 10**9) == entry.amount
        assert not entry.report.estimated


@pytest.mark.parametrize("stream", [False, True])
async def test_where_all_fail_the_last_error_is_told(*, stream: bool) -> None:
    async with pair(fallbacks={"fake/a": ["other/c", "other/d"]}) as found:
        found.fake.script = Script(status=500)
        found.other.next(Script(status=429, headers=[("retry-after", "7")]), Script(status=404))
        status, headers, body = await answered(found.gateway, stream=stream)
        assert status == 404
        assert msgspec.json.decode(body)["error"]["provider"] == "other"
        assert (headers["resolved-model"], headers["attempts"], headers["cost"]) == ("other/d", "3", "0")
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (0, "other/d", "failed")
        assert [each.error for each in entry.report.attempts] == ["server", "rate_limit_exceeded", "not_found"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure", [*(FAILURES[name][0] for name in ("500", "503", "429", "closed", "reset", "garbage"))]
)
async def test_what_passes_is_asked_again_of_the_same_model(failure: Script, *, stream: bool) -> None:
    async with pair(retries=1, fallbacks={}) as found:
        found.fake.next(failure)
        status, headers, _ = await answered(found.gateway, stream=stream)
        assert (status, headers["resolved-model"], headers["attempts"]) == (200, "fake/a", "2")
        assert found.asked == (["a", "a"], [])
        entry = await the_entry(found.gateway)
        assert (entry.amount, ledger.recomputed(entry)) == (A_NANO, A_NANO)
        assert [each.cost for each in entry.report.attempts] == [0, A_NANO]


@pytest.mark.parametrize("failure", ["400", "404", "401", "403", "context"])
async def test_what_would_be_the_same_again_is_not_asked_again(failure: str) -> None:
    async with pair(retries=3, fallbacks={}) as found:
        found.fake.script = FAILURES[failure][0]
        _, headers, _ = await answered(found.gateway)
        assert headers["attempts"] == "1"
        assert found.asked == (["a"], [])


async def test_an_attempt_that_was_charged_is_not_repeated() -> None:
    async with pair(retries=3, fallbacks={}, timeouts=Timeouts(connect=5, first_byte=0.4, idle=20, total=30)) as found:
        found.fake.script = Script(delay_head_s=60)
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["attempts"]) == (504, "1")
        assert found.asked == (["a"], [])
        assert (await the_entry(found.gateway)).report.attempts[0].price is None


async def test_a_request_is_answered_once_where_nothing_fails() -> None:
    async with pair(retries=2) as found:
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["resolved-model"], headers["attempts"]) == (200, "fake/a", "1")
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model) == (A_NANO, "fake/a")
        assert [each.price for each in entry.report.attempts] == [None]


async def test_without_either_nothing_is_said_of_attempts() -> None:
    async with pair(fallbacks={}) as found:
        found.fake.script = Script(status=500)
        status, headers, _ = await answered(found.gateway)
        assert status == 502
        assert "attempts" not in headers
        assert found.asked == (["a"], [])


@pytest.mark.parametrize("wait", ["0", "0.05"])
async def test_a_wish_to_be_left_alone_is_respected_before_the_same_model_is_asked_again(wait: str) -> None:
    async with pair(retries=1) as found:
        found.fake.next(Script(status=429, headers=[("retry-after", wait)]))
        _, headers, _ = await answered(found.gateway)
        assert (headers["resolved-model"], headers["attempts"]) == ("fake/a", "2")


async def test_one_that_lasts_too_long_leads_to_the_next_model_or_to_the_client() -> None:
    async with pair(retries=1) as found:
        found.fake.script = Script(status=429, headers=[("retry-after", "20")])
        _, headers, _ = await answered(found.gateway)
        assert (headers["resolved-model"], headers["attempts"]) == ("other/c", "2")
    async with pair(retries=1, fallbacks={}) as found:
        found.fake.script = Script(status=429, headers=[("retry-after", "31")])
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["attempts"]) == (429, "1")


async def test_a_chain_is_not_followed_further_than_it_says() -> None:
    async with pair(fallbacks={"fake/a": ["other/c"], "other/c": ["other/d"]}) as found:
        found.fake.script = found.other.script = Script(status=500)
        _, headers, _ = await answered(found.gateway)
        assert headers["attempts"] == "2"
        assert found.asked == (["a"], ["c"])


async def test_an_alias_has_a_chain_of_its_own(tmp_path: Any) -> None:
    async with pair(
        aliases={"fast": "fake/a", "last": "other/d"},
        fallbacks={"fast": ["last"], "fake/a": ["other/c"]},
        store=SQLiteStore(tmp_path / "hpp.db"),
    ) as found:
        found.fake.script = Script(status=500)
        assert (await answered(found.gateway, model="fast"))[1]["resolved-model"] == "other/d"
        entry = await the_entry(found.gateway)
        assert (entry.draft.requested_model, entry.amount) == ("fast", B_NANO)
        assert (await answered(found.gateway))[1]["resolved-model"] == "other/c"


USED = {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}
ENDS: dict[str, tuple[Script, int]] = {
    "free": (Script(status=503), 0),
    "used": (Script(status=500, error={"error": {"message": "broke"}, **USED}), 5 * 1 + 1 * 2),
    "empty": (Script(status=400), 0),
    "garbage": (Script(raw_body=b"<html>", content_type="text/html"), 0),
    "answered": (Script(usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}), 7 * 1 + 3 * 2),
}
"""What an attempt comes to, and what it costs at $1 and $2 a million tokens, in thousands of nano-dollars."""

FACTORS = {"fake/a": 1_000, "other/c": 3_000, "other/d": 500}
PRICED = {name: {"input": str(factor / 1000), "output": str(factor / 500)} for name, factor in FACTORS.items()}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("first", ["free", "used", "empty", "garbage"])
@pytest.mark.parametrize("second", ["free", "used", "garbage", "answered"])
@pytest.mark.parametrize("third", ["used", "empty", "answered"])
async def test_the_charge_is_the_sum_of_what_each_attempt_costs(
    first: str, second: str, third: str, *, stream: bool
) -> None:
    ends = [first, second, third] if second != "answered" else [first, second]
    async with pair(models=PRICED, fallbacks={"fake/a": ["other/c", "other/d"]}) as found:
        found.fake.script = ENDS[first][0]
        found.other.next(ENDS[second][0], ENDS[third][0])
        status, headers, _ = await answered(found.gateway, stream=stream)
        assert (status == 200) == (ends[-1] == "answered")
        costs = [ENDS[end][1] * factor for end, factor in zip(ends, FACTORS.values(), strict=False)]
        entry = await the_entry(found.gateway)
        assert [each.cost for each in entry.report.attempts] == costs
        assert entry.amount == ledger.recomputed(entry) == sum(costs)
        assert headers["attempts"] == str(len(ends))
        assert (stream and status == 200) or round(float(headers["cost"]) * 10**9) == sum(costs)
