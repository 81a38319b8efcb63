"""Every transport of ours, held to the public suite."""

from collections.abc import Callable
from typing import Any

import pytest
from rounds import rounds

from hpp_middleware.testing.transports import MakeTransport, TransportPromise, bench, keeping, promises_of
from hpp_middleware.transports.aiohttp import AiohttpTransport
from hpp_middleware.transports.httpx import HttpxTransport
from hpp_middleware.transports.native import NativeTransport

pytestmark = pytest.mark.anyio


def native(*, connections: int = 1000, ca_file: str | None = None) -> NativeTransport:
    return NativeTransport(connections=connections, ca_file=ca_file)


MAKERS: dict[str, Callable[..., Any]] = {"native": native, "aiohttp": AiohttpTransport, "httpx": HttpxTransport}
EVENT_LOOPS = {
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
    "trio": ("trio", {}),
}
KNOWN = {
    ("aiohttp", "interim_responses_without_end_are_refused"): "aiohttp skips any number of them",
    ("aiohttp", "a_chunks_extension_without_end_is_refused"): "aiohttp skips any length of it",
    ("httpx", "interim_responses_without_end_are_refused"): "httpx2 skips any number of them",
    ("httpx", "no_answer_goes_to_whom_it_is_not_for"): "httpx2 reads what came with one answer as the next one",
}
"""What a library does not keep; docs/performance.md says so, and why httpx comes last."""


def marks(name: str, promise: TransportPromise) -> list[pytest.MarkDecorator]:
    reason = KNOWN.get((name, promise.__name__))
    return [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)]


CASES = [
    pytest.param(
        EVENT_LOOPS[loop], name, make, promise, id=f"{name}-{loop}-{promise.__name__}", marks=marks(name, promise)
    )
    for name, make in MAKERS.items()
    for loop in EVENT_LOOPS
    if loop != "trio" or name == "httpx"
    for promise in promises_of(make)
]


@pytest.mark.parametrize(("anyio_backend", "name", "make", "promise"), CASES)
async def test_every_transport_keeps_every_promise(
    anyio_backend: object, name: str, make: MakeTransport, promise: TransportPromise, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (name, promise.__name__) in KNOWN:
        monkeypatch.setattr(bench, "PATIENCE_S", 2.0)  # what never ends is not waited for
    if (name, anyio_backend) != ("native", EVENT_LOOPS["asyncio"]):
        monkeypatch.setattr(keeping, "CANCELLED", rounds(2_000, soak=keeping.CANCELLED))
    await promise(make)
