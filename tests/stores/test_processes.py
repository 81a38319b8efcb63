"""Every store that processes can share keeps its promises among them, and when one is killed."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from hpp_middleware.testing import check_crashes, check_shared_store

pytestmark = pytest.mark.anyio

KINDS = ["sqlite", "postgres", "redis"]


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The processes are on asyncio whatever the test is on."""
    backend: str = request.param
    return backend


@pytest.fixture(scope="module", autouse=True)
def _importable(monkeypatch_module: pytest.MonkeyPatch) -> None:
    monkeypatch_module.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty store of a kind."""
    if kind == "sqlite":
        return str(tmp_path / f"{uuid4().hex}.db")
    found: str = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
    return found


@pytest.mark.parametrize("kind", KINDS)
async def test_four_processes_share_a_store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    await check_shared_store(f"places:{kind}", place(kind, tmp_path, request))


@pytest.mark.parametrize("kind", KINDS)
async def test_killed_processes_lose_nothing(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    await check_crashes(f"places:{kind}", place(kind, tmp_path, request))


async def test_a_store_that_is_not_shared_is_found_out() -> None:
    with pytest.raises(AssertionError, match="never oversell"):
        await check_shared_store("places:alone", "nowhere")
    with pytest.raises(AssertionError, match="acknowledged"):
        await check_crashes("places:alone", "nowhere")
