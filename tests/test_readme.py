"""The README's first screen, as a newcomer would paste it."""

import ast
import os
import re
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pytest

from hpp_middleware import SQLiteStore
from hpp_middleware.testing import check_store

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")

pytestmark = pytest.mark.anyio


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


async def test_the_embed_of_the_first_screen_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", "sk-not-a-key")
    names: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "README.md", "exec"), names)

    transport = httpx2.ASGITransport(names["app"])
    async with names["gateway"], httpx2.AsyncClient(transport=transport, base_url="http://host") as client:
        assert (await client.get("/ai/readyz")).status_code == 200
        listed = (await client.get("/ai/llm/v1/models/openai/gpt-5-mini")).json()
        assert listed["pricing"]["input"] == 0.00000025
        assert (await client.post("/ai/llm/v1/chat/completions", json={})).status_code == 401


def test_every_link_of_the_readme_and_the_docs_leads_somewhere() -> None:
    root = Path(__file__).parent.parent
    for page in [root / "README.md", root / "CHANGELOG.md", root / "SECURITY.md", *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_block_of_python_is_python_and_imports_what_there_is() -> None:
    root, blocks_seen = Path(__file__).parent.parent, 0
    for page in [root / "README.md", *(root / "docs").glob("*.md")]:
        for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            tree = compile(block, page.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            blocks_seen += 1
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("hpp_middleware"):
                    module = import_module(str(node.module))
                    assert [name.name for name in node.names if not hasattr(module, name.name)] == [], page.name
    assert blocks_seen >= 20


def test_the_two_commands_are_there() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text("utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in README
        assert f"\n{command}:" in makefile


def test_the_suite_for_a_backend_is_run_as_its_page_says(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "backends.md").read_text("utf-8")
    assert "`anyio.run(check_store, make)`" in page

    async def make(*, clock: Callable[[], float] = time.time) -> SQLiteStore:
        return SQLiteStore(tmp_path / uuid4().hex, clock=clock)

    anyio.run(check_store, make)
