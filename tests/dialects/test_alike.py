"""The dialects that come with the package, all alike to who calls them."""

import inspect

import pytest

from hpp_middleware.dialects import known
from hpp_middleware.ports import Dialect


def words(method: object) -> list[str]:
    assert callable(method)
    return list(inspect.signature(method).parameters)


@pytest.mark.parametrize("name", known.names())
def test_each_takes_the_words_that_the_port_has(name: str) -> None:
    dialect = known.find(name)
    for method in ("call", "stream", "answer"):
        assert words(getattr(dialect, method)) == words(getattr(Dialect, method))[1:]
