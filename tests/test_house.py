"""The rules of the house that no linter knows."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpp_middleware

PACKAGE = Path(hpp_middleware.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

BANNED_METHODS = {
    "splitlines": "splits on U+2028 and its like, and loses usage",
    "iter_lines": "as splitlines",
    "aiter_lines": "as splitlines",
    "raise_for_status": "its text holds the URL",
    "form": "only JSON bodies are read",
}
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_IMPORTS = {"pickle", "shelve", "marshal", "yaml", "subprocess"}


def nodes(kind: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, kind):
                yield file, node


def test_no_method_is_called_that_loses_or_leaks() -> None:
    found = [
        f"{file.name}:{node.lineno} {node.attr}: {BANNED_METHODS[node.attr]}"
        for file, node in nodes(ast.Attribute)
        if isinstance(node, ast.Attribute) and node.attr in BANNED_METHODS
    ]
    assert found == []


def test_nothing_is_evaluated_or_unpickled() -> None:
    calls = [
        f"{file.name}:{node.lineno}"
        for file, node in nodes(ast.Call)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BANNED_CALLS
    ]
    imports = [
        f"{file.name}:{node.lineno} {alias.name}"
        for file, node in nodes(ast.Import)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name.partition(".")[0] in BANNED_IMPORTS
    ]
    assert calls == []
    assert imports == []


def test_sqlites_parameters_have_no_numbers() -> None:
    """Python 3.12 before 3.12.4 warns that ``?1`` is a name, which no sequence has: an error, where a host says so."""
    found = [
        f"{file.name}:{node.lineno}"
        for file, node in nodes(ast.Constant)
        if "sqlite" in file.parts and isinstance(node, ast.Constant) and re.search(r"\?[0-9]", str(node.value))
    ]
    assert found == []


def test_sql_is_never_built_from_values() -> None:
    formatted = [
        f"{file.name}:{node.lineno}"
        for file, node in nodes(ast.JoinedStr)
        if isinstance(node, ast.JoinedStr)
        and "stores" in file.parts
        and ast.unparse(node)[2:8].upper() in {"SELECT", "INSERT", "UPDATE", "DELETE"}
        and any(
            not (isinstance(part.value, ast.Name) and (part.value.id.isupper() or part.value.id == "columns"))
            for part in node.values
            if isinstance(part, ast.FormattedValue)
        )
    ]
    assert formatted == []


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").glob("[!_]*.py")), ids=lambda file: file.stem)
def test_every_core_module_has_its_own_test_file(file: Path) -> None:
    assert (TESTS / "core" / f"test_{file.name}").is_file()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_every_file_can_be_read_in_one_go(file: Path) -> None:
    assert len(file.read_text("utf-8").split("\n")) <= 400


def test_importing_the_package_is_cheap_and_importing_the_core_pulls_in_no_http_library() -> None:
    program = (
        "import sys, hpp_middleware; front = set(sys.modules);"
        "from hpp_middleware.core import auth, bound, parse, price, quota, relay, reply, route, settlement, sse, usage;"
        "heavy = {'starlette', 'httpx2', 'httpx', 'anyio', 'sqlite3', 'asyncio', 'genai_prices', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules)), sorted({'msgspec'} & front))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


def test_the_front_door_names_under_a_dozen_things_and_each_is_there() -> None:
    assert len(hpp_middleware.__all__) < 12
    for name in hpp_middleware.__all__:
        assert getattr(hpp_middleware, name) is not None
    assert dir(hpp_middleware) == hpp_middleware.__all__
    with pytest.raises(AttributeError):
        _ = hpp_middleware.nothing_of_this_name


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
