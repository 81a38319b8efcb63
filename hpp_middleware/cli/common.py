"""What the commands share: their options, the configuration they find, and how they print."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio
import msgspec
import typer
from msgspec import Raw

from hpp_middleware.accounts import Accounts
from hpp_middleware.config import Settings, load
from hpp_middleware.core import price as pricing
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stores.opening import opening

__all__ = ["AsJSON", "Config", "Fault", "accounts", "as_json", "dollars", "found", "in_office", "moment", "table"]

_T = TypeVar("_T")

DEFAULT = Path("router.toml")

Config = Annotated[Path | None, typer.Option("--config", "-c", help="The TOML file; router.toml if it is here.")]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Fault(Exception):
    """What a command was asked for cannot be done; the message is the line that is printed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def found(config: Path | None) -> Path:
    """
    The configuration file to use.

    Raises:
        ConfigurationError: None was named, and there is none of the default name.
    """
    if config is not None:
        return config
    if DEFAULT.exists():
        return DEFAULT
    raise ConfigurationError(f"--config is missing, and there is no {DEFAULT} here")


def in_office(config: Path | None, work: Callable[[Accounts, Settings], Awaitable[_T]]) -> _T:
    """Do some work on the keys and accounts of a configuration; the router may be running meanwhile."""
    settings = load(found(config), secrets=False)

    async def opened() -> _T:
        async with accounts(settings) as office:
            return await work(office, settings)

    return anyio.run(opened)


@asynccontextmanager
async def accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """
    The keys and accounts of a configuration's store.

    Raises:
        ConfigurationError: A store lives in the router's own process.
        StoreError: It cannot be opened.
    """
    where = settings.places.in_memory
    if where is not None:
        raise ConfigurationError(
            f"{where}: a memory store lives in the router's own process, where no other command can reach it; declare "
            "consumers and their keys under [consumers.NAME], or use a sqlite:/// store"
        )
    stores = settings.stores()
    keys = stores.credentials or stores.store
    async with stores.opened():
        with opening("store.url" if keys is stores.store else "credentials.url"):
            pepper = settings.pepper or keys.pepper()
        if pepper is None:
            raise ConfigurationError("keys.pepper: this store has none of its own; set HPP_PEPPER")
        yield Accounts(stores.store, keys, pepper, previous_pepper=settings.previous_pepper)


def as_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def dollars(nano: int) -> Raw:
    """Dollars as an exact JSON number."""
    return Raw(pricing.dollars(nano).encode())


def moment(seconds: float | None) -> str | None:
    """A time as it is printed: UTC, to the second."""
    return None if seconds is None else datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in columns."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")
