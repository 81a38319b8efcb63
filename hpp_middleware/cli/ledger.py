"""``hpp-router ledger``: seal the ledger, check it, take it away, and move it, while the router runs or not."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import anyio
import typer

from hpp_middleware.audit import Audited, Auditor, Checked, Heads, Known, Sealed, Sealer
from hpp_middleware.cli.common import AsJSON, Config, Fault, as_json, found, table
from hpp_middleware.cli.export import Export
from hpp_middleware.config import Settings, load
from hpp_middleware.core.ledger import Finding
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stores.memory import MemoryStore
from hpp_middleware.stores.opening import opening

if TYPE_CHECKING:
    from hpp_middleware.stores.archived import ArchivedLedger

__all__ = ["app"]

app = typer.Typer(help="Seal, check, export and move the ledger.", no_args_is_help=True)

_T = TypeVar("_T")

Account = Annotated[str | None, typer.Argument(help="Whose lines; everybody's, if left out.")]


@app.command()
def seal(config: Config = None, json: AsJSON = False) -> None:
    """Chain the lines that were written since the last pass, and export the chains' heads."""

    async def work(store: Audited, settings: Settings) -> Sealed:
        if settings.sealing is None:
            raise ConfigurationError("ledger.seal_key: is missing; write it as env:NAME, or set HPP_SEAL_KEY")
        return await Sealer(store, settings.sealing).seal()

    done = _in_ledger(config, work)
    if json:
        as_json({"sealed": done.seals, "findings": [finding._asdict() for finding in done.findings]})
    else:
        print(f"sealed    {done.seals} {'account' if done.seals == 1 else 'accounts'}")
    _end(done.findings, json=json)


@app.command()
def verify(account: Account = None, config: Config = None, json: AsJSON = False) -> None:
    """Compute the chains again, and compare them with the seals and the exported heads. Exit code 1 on any finding."""

    async def work(store: Audited, settings: Settings) -> tuple[list[Checked], list[Finding]]:
        sealing = settings.sealing
        known = await Heads(sealing.heads).read() if sealing is not None and sealing.heads is not None else None
        auditor = Auditor(store, keys=sealing.keys if sealing is not None else None, known=known)
        checked = [await auditor.verify(name) for name in await _named(auditor, account)]
        return checked, _of_the_file(settings, known, checked)

    checked, findings = _in_ledger(config, work)
    if load(found(config), secrets=False).sealing is None:
        sys.stderr.write("hpp-router: no seal key is set ([ledger] seal_key): the seals, if any, were not checked\n")
    _print(checked, findings, json=json, sealed=True)


@app.command()
def reconcile(account: Account = None, config: Config = None, json: AsJSON = False) -> None:
    """Compare accounts with the sums of grants, lines and holds, and each line with its usage and prices."""

    async def work(store: Audited, settings: Settings) -> list[Checked]:
        auditor = Auditor(store, holds=settings.places.ledger == settings.places.store)
        checked = [await auditor.reconcile(name) for name in await _named(auditor, account)]
        return [await auditor.shared(each) for each in checked]

    _print(_in_ledger(config, work), [], json=json, sealed=False)


@app.command()
def export(
    account: Account = None,
    config: Config = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="jsonl: all of it; csv: a flat table.")] = (
        "jsonl"
    ),
    after: Annotated[int, typer.Option(min=0, help="Only lines with a higher number.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The file to write; standard output, if left out.")] = None,
) -> None:
    """Write the lines out, account by account and in order."""

    async def work(store: Audited, _: Settings) -> None:
        names = await _named(Auditor(store), account)
        if out is None:
            await Export(store, sys.stdout, form).run(names, after)
            return
        with out.open("w", encoding="utf-8", newline="") as file:
            await Export(store, file, form).run(names, after)

    _in_ledger(config, work)


@app.command()
def move(config: Config = None, json: AsJSON = False) -> None:
    """Move what the Redis store has written to [ledger] url; a served router does so every second."""

    async def work(ledger: "ArchivedLedger") -> tuple[int, Sequence[str]]:
        return await ledger.move(), ledger.unreadable

    count, unreadable = _moving(config, work)
    if json:
        as_json({"moved": count, "unreadable": list(unreadable)})
    else:
        print(f"moved     {count} {'line or grant' if count == 1 else 'lines and grants'}")
    for name in unreadable:
        sys.stderr.write(f"hpp-router: {name} cannot be read, and stays where it is\n")
    if unreadable:
        raise typer.Exit(1)


@app.command()
def rebuild(
    config: Config = None,
    yes: Annotated[bool, typer.Option("--yes", help="Every router is stopped; what was not moved is lost.")] = False,
    json: AsJSON = False,
) -> None:
    """Make the Redis store's accounts anew from [ledger] url, when it refuses because its server has lost some."""

    async def work(ledger: "ArchivedLedger") -> int | None:
        if not yes:
            raise ConfigurationError(
                "--yes: is missing; stop every router first: holds, and lines that were not moved, are lost"
            )
        return await ledger.rebuild()

    count = _moving(config, work)
    if count is None:
        raise Fault("the store is not behind its archive: there is nothing to rebuild")
    if json:
        as_json({"accounts": count})
    else:
        print(f"rebuilt   {count} {'account' if count == 1 else 'accounts'}")


def _moving(config: Path | None, work: Callable[["ArchivedLedger"], Awaitable[_T]]) -> _T:
    """Do some work on a ledger that is moved, and on the store it is moved from; neither is open but the archive."""
    settings = load(found(config), secrets=False)

    async def opened() -> _T:
        stores = settings.stores()
        if stores.ledger is None:
            raise ConfigurationError("ledger.url: is missing; only a Redis store's ledger is moved, and to another one")
        async with AsyncExitStack() as stack:
            for each in (stores.ledger, stores.store):
                stack.push_async_callback(each.aclose)
            with opening("ledger.url"):
                await stores.ledger.open()
            return await work(stores.ledger)

    return anyio.run(opened)


def _in_ledger(config: Path | None, work: Callable[[Audited, Settings], Awaitable[_T]]) -> _T:
    settings = load(found(config), secrets=False)

    async def opened() -> _T:
        async with _opened(settings) as store:
            return await work(store, settings)

    return anyio.run(opened)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Audited]:
    stores = settings.stores()
    store = stores.audited
    if isinstance(store, MemoryStore) or not isinstance(store, Audited):
        raise ConfigurationError("store.url: the ledger of this store cannot be reached by another command")
    if stores.ledger is None:
        async with stores.opened():
            yield store
        return
    try:  # the archive alone: it can be checked while the server is away
        with opening("ledger.url"):
            await stores.ledger.open()
        yield store
    finally:
        await stores.ledger.aclose()


async def _named(auditor: Auditor, account: str | None) -> list[str]:
    return [account] if account is not None else await auditor.accounts()


def _of_the_file(settings: Settings, known: Known | None, checked: list[Checked]) -> list[Finding]:
    """What is wrong with the heads file itself."""
    if settings.sealing is None or settings.sealing.heads is None:
        return []
    if known is None:
        sealed = any(each.sealed for each in checked)
        return [Finding("", "heads", f"there are seals, but no file {settings.sealing.heads}")] if sealed else []
    return [Finding("", "heads", f"line {number} of the heads file is no record") for number in known.unreadable]


def _print(checked: list[Checked], others: list[Finding], *, json: bool, sealed: bool) -> None:
    findings = [*others, *(finding for each in checked for finding in each.findings)]
    if json:
        rows = [
            {"account": each.account, "lines": each.lines, **({"sealed": each.sealed} if sealed else {})}
            for each in checked
        ]
        as_json({"good": not findings, "accounts": rows, "findings": [finding._asdict() for finding in findings]})
    else:
        head = ("ACCOUNT", "LINES", *(["SEALED"] if sealed else []), "STATE")
        table(head, [_row(each, sealed=sealed) for each in checked])
    _end(findings, json=json)


def _row(checked: Checked, *, sealed: bool) -> tuple[str, ...]:
    state = f"{len(checked.findings)} wrong" if checked.findings else "good"
    return (checked.account, str(checked.lines), *([str(checked.sealed)] if sealed else []), state)


def _end(findings: Any, *, json: bool) -> None:
    """Say what was found, and end with 1 if anything was."""
    for finding in findings:
        if not json:
            sys.stderr.write(f"hpp-router: {finding.account or 'ledger'}: {finding.kind}: {finding.detail}\n")
    if findings:
        raise typer.Exit(1)
