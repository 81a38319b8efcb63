"""What ``hpp-router doctor`` looks at on this side: what is installed, folders, stores, the way to each provider."""

import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import anyio
from anyio.streams.tls import TLSStream

from hpp_middleware.config import Settings
from hpp_middleware.config.folders import unwritable
from hpp_middleware.errors import GatewayError, NotOpenedError
from hpp_middleware.stores import urls
from hpp_middleware.stores.opening import cause
from hpp_middleware.transports.tls import context
from hpp_middleware.types.provider import Provider

__all__ = ["Finding", "installed", "placed", "reached", "stored"]

Verdict = Literal["good", "note", "wrong"]

EXTRAS = {
    "uvloop": ("fast", "a faster event loop"),
    "httptools": ("fast", "the router's own HTTP client"),
    "genai_prices": ("prices", "prices of models that the file has none for"),
    "tiktoken": ("tokens", "counting prompts of OpenAI's models, so that less is held"),
    "cryptography": ("replay", "giving answers again under their Idempotency-Key"),
    "prometheus_client": ("prometheus", "GET /metrics"),
}
"""What is missed without a module, and the extra that brings it."""

RELEASED = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
"""No clock that is right is before this release."""
STORE_S = 10.0


class Finding(NamedTuple):
    """
    Something that was looked at.

    Attributes:
        verdict: ``note`` is for what may be meant.
        about: What it is.
        words: What there is to say.
    """

    verdict: Verdict
    about: str
    words: str


def installed() -> Iterator[Finding]:
    """Versions, the clock, and the extras that are not there."""
    try:
        own = version("hpp_middleware")
    except PackageNotFoundError:
        own = "not installed as a package"
    yield Finding("good", "versions", f"hpp_middleware {own}, Python {platform.python_version()}")
    now = time.time()
    if now < RELEASED:
        yield Finding("wrong", "clock", f"it says {datetime.fromtimestamp(now, UTC):%Y-%m-%d}: before this release")
    for module, (extra, use) in EXTRAS.items():
        if find_spec(module) is None:
            words = f'{module} is not installed, which is for {use}: pip install "hpp_middleware[{extra}]"'
            yield Finding("note", "extras", words)


def placed(settings: Settings) -> Iterator[Finding]:
    """The folders, and whether there is anybody to forward to."""
    problems = unwritable(settings)
    for line in problems:
        about, _, words = line.partition(": ")
        yield Finding("wrong", about, words)
    if not problems:
        yield Finding("good", "folders", "what is to be written can be: database, settlement journal, ledger heads")
    if not settings.providers:
        yield Finding("wrong", "providers", "there is none; a router needs an upstream, such as [providers.openai]")


async def stored(settings: Settings) -> list[Finding]:
    """Whether the stores can be opened and read; a database file that is not there yet is not made."""
    where = settings.places.in_memory
    if where is not None:
        return [Finding("note", where, "in memory: accounts and keys end with the router's process")]
    file = urls.file_of(settings.places.store, settings.places.directory)
    if file is not None and not file.exists():
        return [Finding("note", "store.url", f"{file} is not there yet; the router makes it")]
    try:
        with anyio.fail_after(STORE_S):
            stores = settings.stores()
            async with stores.opened():
                await stores.store.balance("doctor")
                await (stores.credentials or stores.store).find(bytes(32))
    except NotOpenedError as error:
        return [Finding("wrong", "store", str(error))]
    except TimeoutError:
        return [Finding("wrong", "store", f"it did not answer within {STORE_S:g} s")]
    except (GatewayError, OSError) as error:
        return [Finding("wrong", "store", cause(error))]
    return [Finding("good", "store", "opened and read")]


async def reached(settings: Settings) -> list[Finding]:
    """Whether each provider takes a connection, and shows a certificate that is good; nothing is asked of it."""
    findings: dict[str, Finding] = {}

    async def look(name: str, provider: Provider) -> None:
        verdict, words = await _reached(provider)
        findings[name] = Finding(verdict, f"providers.{name}", words)

    async with anyio.create_task_group() as tasks:
        for name, provider in settings.providers.items():
            tasks.start_soon(look, name, provider)
    return [findings[name] for name in settings.providers]


async def _reached(provider: Provider) -> tuple[Verdict, str]:
    parts = urlsplit(provider.proxy or provider.base_url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    where = f"{'its proxy ' if provider.proxy else ''}{host}:{port}"
    try:
        with anyio.fail_after(provider.timeouts.connect):
            stream: anyio.abc.ByteStream = await anyio.connect_tcp(host, port)
            try:
                if secure:
                    await TLSStream.wrap(stream, hostname=host, ssl_context=context(provider.ca_file))
            finally:
                await anyio.aclose_forcefully(stream)
    except TimeoutError:
        return "wrong", f"{where} did not answer within {provider.timeouts.connect:g} s (timeouts.connect)"
    except Exception as error:  # noqa: BLE001  # whatever a resolver, a socket or TLS says
        return "wrong", f"{where} cannot be reached: {cause(error)}"
    return "good", f"{where} takes connections{', by a good certificate' if secure else ''}"
