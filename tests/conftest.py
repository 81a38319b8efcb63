"""Fixtures for all tests: both event loops, and the real parts."""

import faulthandler
import functools
import gc
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator

import aimock as protocol_mock
import anyio
import databases
import httpcore2
import hypothesis
import llama as llama_server
import pytest
import thinning
from background import BackgroundUpstream, running_upstream
from rounds import SOAK

from hpp_middleware.testing import FakeUpstream

BODY_S = 100
TEARDOWN_S = 120


def pytest_configure() -> None:
    """
    Whom clients trust is read once, and not for each of the thousands of them, which takes 40 ms.

    What Hypothesis draws is the same at each run, so that one which fails says something of the change; a soak draws
    anew each time, and what it finds becomes an example.
    """
    httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)
    if not SOAK:
        hypothesis.settings.register_profile("everyday", derandomize=True, database=None)
        hypothesis.settings.load_profile("everyday")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """
    No garbage is looked for among what stays.

    That is a third of the time it takes to find the tests; later, every look would go through all of them once more.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A run of everything leaves the most of some long tables to ``make soak``: see :mod:`thinning`."""
    left = thinning.left_out(items)
    if left:
        config.hook.pytest_deselected(items=left)
        dropped = set(left)
        items[:] = [item for item in items if item not in dropped]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """
    An async test that hangs fails within its event loop.

    pytest-timeout's signal, which comes later, would leave anyio's runner in the test, and every teardown waiting.
    """
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):
        pyfuncitem.obj = _bounded(test)
    return (yield)


def _bounded(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def run(**values: object) -> None:
        with anyio.fail_after(BODY_S):
            await test(**values)

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None]:
    """
    What hangs after a test ends its process, and all stacks are told.

    Nobody else watches there: once a test has failed, pytest-timeout and pytest's own fault handler leave it alone.
    """
    faulthandler.dump_traceback_later(TEARDOWN_S, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test runs on both, unless its module says otherwise."""
    backend: str = request.param
    return backend


@pytest.fixture
async def fake_upstream() -> AsyncGenerator[FakeUpstream]:
    """A fault-injecting provider in the test's own event loop."""
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_server.Llama]:
    """llama.cpp's own server with a tiny random model: an upstream that nobody here wrote."""
    with llama_server.running(tmp_path_factory.mktemp("llama")) as server:
        yield server


@pytest.fixture(scope="session")
def aimock_server() -> Iterator[protocol_mock.AIMock]:
    """A mock of many providers' protocols, which nobody here wrote; it runs on Node.js."""
    with protocol_mock.running() as server:
        yield server


@pytest.fixture
def aimock(aimock_server: protocol_mock.AIMock) -> protocol_mock.AIMock:
    """The mock, with nothing to answer yet, and nothing received."""
    aimock_server.reset()
    return aimock_server


@pytest.fixture
def background_upstream() -> Iterator[BackgroundUpstream]:
    """A fault-injecting provider in a thread of its own."""
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a real PostgreSQL; HPP_TEST_POSTGRES_DSN names another one."""
    with databases.postgres(tmp_path_factory.mktemp("postgres")) as dsn:
        yield dsn


@pytest.fixture
def postgres_dsn(postgres_server: str) -> Iterator[str]:
    """The DSN of an empty database of the test's own."""
    with databases.fresh_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey; HPP_TEST_REDIS_URL names another one."""
    with databases.valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis database."""
    return databases.emptied(redis_server)
