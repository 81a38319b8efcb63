"""
A process of its own whose store fails. Its arguments say how: ``URL FOLDER locked|full|unopened``.

It prints a line of JSON for each thing that it saw, and goes on wherever it is told to by a line on its input.
"""

import json
import resource
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from rig import ALICE, Delegate, gateway, question

from hpp_middleware import Gateway, SQLiteStore, StoreError
from hpp_middleware.stages.settle import journal
from hpp_middleware.testing import get
from hpp_middleware.types.events import Alarm, Event
from hpp_middleware.types.operations import Operation, Settle


def say(**words: Any) -> None:
    """A line to whoever started this process, at once."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


class Teller:
    """An observer that says each alarm."""

    def observe(self, event: Event) -> None:
        """Say it."""
        if isinstance(event, Alarm):
            say(alarm=event.kind, detail=event.detail)


async def locked(url: str, folder: Path) -> None:
    """Answer three streams; before they are settled, the database is somebody else's. Then wait to be killed."""
    found = gateway(url, store=SQLiteStore(folder / "hpp.db", busy_s=0.05), observers=[Teller()])
    await found.worker()
    thief = sqlite3.connect(folder / "hpp.db", isolation_level=None)
    waiting, all_wait = 3, anyio.Event()
    answered: list[str] = []

    async def one() -> None:
        first = True

        async def send(_: bytes) -> None:
            nonlocal first, waiting
            waiting, first = waiting - first, False
            if not waiting and not thief.in_transaction:
                thief.execute("BEGIN EXCLUSIVE")
                all_wait.set()
            await all_wait.wait()

        answered.append((await found.complete(ALICE, question(stream=True), send=send)).id)

    async with anyio.create_task_group() as tasks:
        for _ in range(waiting):
            tasks.start_soon(one)
    say(answered=answered, pending=found.journal.pending)
    sys.stdin.readline()


async def full(url: str, folder: Path) -> None:
    """A disk that takes nothing more, in the middle of an outage; then it does again."""
    store = Delegate()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def refuse(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            raise OSError

    async with gateway(url, store=store, journal=folder / "journal", observers=[Teller()]) as found:
        await found.balance(ALICE)
        store.before = refuse
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        reply = await found.complete(ALICE, question())
        say(answered=reply.status, pending=found.journal.pending)
        await refused(found)
        sys.stdin.readline()
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        reply = await found.complete(ALICE, question())  # it can be written again, whatever the store does
        say(answered=reply.status, pending=found.journal.pending)
        sys.stdin.readline()


async def refused(found: Gateway) -> None:
    """Nothing is admitted, and readiness says so."""
    try:
        await found.complete(ALICE, question())
    except StoreError as error:
        say(refused=error.code)
    async with get(found.app, "/readyz") as call:
        say(ready=await call.started(), standing=await call.json())


async def unopened(url: str, folder: Path) -> None:
    """A disk on which there is no room for the journal at the start; then there is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    found = gateway(url, journal=folder / "journal", observers=[Teller()])
    await refused(found)
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    say(answered=(await found.complete(ALICE, question())).status, pending=found.journal.pending)
    async with found:
        pass


journal.MEND_AFTER_S = 0.0
anyio.run({"locked": locked, "full": full, "unopened": unopened}[sys.argv[3]], sys.argv[1], Path(sys.argv[2]))
