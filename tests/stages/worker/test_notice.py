"""What observers are told, and that what they raise is theirs."""

import logging

import pytest
from rig import ALICE, CANARY, KEY, Witness, ask, gateway, question, read_chat

from hpp_middleware.observers.logging import LoggingObserver
from hpp_middleware.testing import FakeUpstream, Script, get
from hpp_middleware.types.events import Event

pytestmark = pytest.mark.anyio


class Broken:
    """An observer that raises."""

    def observe(self, event: Event) -> None:
        raise ValueError(CANARY)


async def test_what_an_observer_raises_is_logged_by_its_type_and_dropped(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    witness = Witness()
    async with gateway(fake_upstream, observers=[Broken(), witness]) as found:
        assert (await found.complete(ALICE, question())).status == 200
        async with ask(found, key="a-key-that-nobody-has-given") as call:
            assert await call.started() == 401
    assert len(witness.settled) == 1
    assert len(witness.refused) == 1
    assert "an observer failed: Broken, by ValueError" in caplog.text
    assert CANARY not in caplog.text


async def test_a_refusal_is_told_once_and_an_upstreams_failure_is_a_settlement(fake_upstream: FakeUpstream) -> None:
    witness = Witness()
    fake_upstream.script = Script(status=500)
    async with gateway(fake_upstream, observers=[witness]) as found:
        assert (await read_chat(found))[0] == 502
        assert (len(witness.settled), len(witness.refused)) == (1, 0)
        async with ask(found, model="nobody/knows") as call:
            await call.started()
            request_id = call.headers["x-request-id"]
        (told,) = witness.refused
        assert (told.request_id, told.status, told.code) == (request_id, 400, "unsupported_model")


async def test_a_release_is_no_settlement(fake_upstream: FakeUpstream) -> None:
    witness = Witness()
    async with gateway(fake_upstream, observers=[witness]) as found, ask(found) as call:
        call.disconnect()
        await call.returned()
    assert witness.settled == []


async def test_a_usage_that_contradicts_itself_is_charged_within_the_hold_and_alarmed(
    fake_upstream: FakeUpstream,
) -> None:
    witness = Witness()
    fake_upstream.script = Script(usage={"prompt_tokens": 10**6, "completion_tokens": 2, "total_tokens": 11})
    async with gateway(fake_upstream, observers=[witness]) as found:
        await found.complete(ALICE, question())
        (told,) = witness.settled
        assert witness.alarms == ["doubtful_usage"]
        assert told.entries[0].amount == told.held
        assert told.entries[0].report.estimated


async def test_the_log_has_a_line_a_request_and_no_secret_or_prompt(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    prompt = "the-prompt-that-nobody-may-log"
    async with gateway(fake_upstream, observers=[LoggingObserver()]) as found:
        for stream in (False, True):
            await read_chat(found, stream=stream, messages=[{"role": "user", "content": prompt}])
        fake_upstream.script = Script(status=400, error={"error": {"message": f"{CANARY} {prompt}"}})
        await read_chat(found, messages=[{"role": "user", "content": prompt}])
        async with get(found.app, "/api/usage", headers={"apikey": f"{KEY}x"}) as call:
            await call.read()
    ours = [record.getMessage() for record in caplog.records if record.name == "hpp_middleware"]
    assert [line.split()[0] for line in ours] == ["completed", "completed", "failed", "refused"]
    everything = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    for secret in (KEY, CANARY, prompt, "Hello world"):
        assert secret not in everything
