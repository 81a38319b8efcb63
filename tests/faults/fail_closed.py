"""A gateway whose store fails while a stream is in flight, and what it owes to everybody until it is well again."""

import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from rig import ALICE, KEY, USAGE_NANO, ask, gateway

from hpp_middleware import Gateway
from hpp_middleware.audit import Auditor
from hpp_middleware.stages.reserve import lease
from hpp_middleware.stages.settle import settling
from hpp_middleware.testing import FakeUpstream, get
from hpp_middleware.types.quota import Entry

__all__ = ["PEPPER", "TIMEOUT_S", "lines_once_settled", "opened", "quick", "reconciled", "survives"]

PEPPER = b"a pepper for the tests"
TIMEOUT_S = 0.7
"""Of the stores: short, since each fault is waited for several times; a loaded machine answers well within it."""


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every request renew, and so write; and give a store that fails up sooner."""
    monkeypatch.setattr(lease, "RENEW_AFTER_S", 0.2)
    monkeypatch.setattr(settling, "PATIENCE_S", TIMEOUT_S)
    monkeypatch.setattr(settling, "_PAUSES_S", (0.05,))


@asynccontextmanager
async def opened(store: Any, upstream: FakeUpstream | str, tmp_path: Path, **settings: Any) -> AsyncGenerator[Gateway]:
    """A gateway with a journal, opened as by a lifespan."""
    made = gateway(upstream, store=store, **{"pepper": PEPPER, "journal": tmp_path / "journal", **settings})
    async with made as found:
        yield found


async def survives(found: Gateway, upstream: FakeUpstream, fault: AbstractAsyncContextManager[None]) -> None:
    """
    Let a fault begin in mid-stream.

    While it lasts everybody gets a 503, nothing is forwarded, and the gateway says that it is not ready; the stream is
    relayed to its end. Once it is over the next request is served, the stream is charged once, and the books agree.
    """
    unseen = await found.accounts.create_key("carol", quota="1")  # a key that only the store knows
    await _answered(found)
    async with ask(found, stream=True) as call:
        assert await call.started() == 200
        assert await call.event()
        async with fault:
            sent = len(upstream.log)
            await _refused_by_all(found, unseen.key)
            assert len(upstream.log) == sent == 2, "while unsure, nothing is forwarded"
            rest = await call.read()
            await call.returned()
            assert rest.endswith(b"data: [DONE]\n\n"), "what was in flight is relayed to its end"
            assert found.journal.pending == 1, "and written down, since the store does not take it"
    await _answered(found)
    await _answered(found, key=unseen.key)
    assert len(upstream.log) == 4
    lines = await lines_once_settled(found)
    assert [(line.line, line.amount) for line in lines] == [("resolution", USAGE_NANO)] * 3
    assert {line.report.outcome for line in lines} == {"completed"}
    assert sorted(line.draft.stream for line in lines) == [False, False, True]
    assert found.journal.pending == 0
    await reconciled(found.store)


async def lines_once_settled(found: Gateway) -> list[Entry]:
    """Alice's ledger, when nothing of hers is held any more: what was refused is given back as soon as it can be."""
    with anyio.fail_after(20):
        while (await found.balance(ALICE)).held:  # noqa: ASYNC110  # each look replays what is owed
            await anyio.sleep(0.05)
    lines = await found.store.lines("alice")
    assert (await found.balance(ALICE)).used == sum(line.amount for line in lines)
    return lines


async def reconciled(store: Any) -> None:
    """The auditor finds nothing in any account."""
    auditor = Auditor(store)
    names = await auditor.accounts()
    assert "alice" in names
    checked = [await auditor.reconcile(name) for name in names]
    assert [finding for each in checked for finding in each.findings] == []


async def _answered(found: Gateway, *, key: str = KEY) -> None:
    async with ask(found, key=key) as call:
        assert await call.started() == 200, await call.read()
        await call.read()
        await call.returned()


async def _refused_by_all(found: Gateway, unseen: str) -> None:
    async with anyio.create_task_group() as asking:
        asking.start_soon(_is_refused, found, KEY)
        asking.start_soon(_is_refused, found, unseen)
        asking.start_soon(_is_not_ready, found)
    async with get(found.app, "/healthz") as call:
        assert await call.started() == 200, "the process itself is well"


async def _is_refused(found: Gateway, key: str) -> None:
    async with ask(found, key=key) as call:
        status, told = await call.started(), json.loads(await call.read())
        assert (status, told["error"]["code"]) == (503, "quota_unavailable"), "never 401, 429 or 500"


async def _is_not_ready(found: Gateway) -> None:
    """A store that can be read is not ready when it could not be written to as the lease was due."""
    with anyio.fail_after(10):
        while True:
            async with get(found.app, "/readyz") as call:
                status, told = await call.started(), await call.json()
            if status != 200:
                break
            await anyio.sleep(0.05)
    assert (status, told["stores"]) == (503, "unreachable")
