"""What a log may say of a foreign error: where it was raised, and never its text."""

import json
from collections.abc import Callable, Sequence

import pytest

from hpp_middleware.core.raised_at import raised_at, root
from hpp_middleware.core.route import Catalog
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Model, Provider


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises((KeyError, ValueError)) as caught:
        call()
    return caught.value


def test_the_place_names_file_and_function() -> None:
    def hook() -> None:
        raise KeyError("secret")

    found = raised_at(raised(hook))
    assert found.startswith(" at test_raised_at.py:")
    assert ".hook)" in found
    assert "secret" not in found


def test_where_it_lies_deeper_the_function_that_was_called_is_named_too() -> None:
    def hook() -> None:
        json.loads("secret")

    found = raised_at(raised(hook))
    assert found.startswith(" at decoder.py:")
    assert ", called from test_raised_at.py:" in found


def test_what_this_package_has_called_is_named_and_not_who_has_called_it() -> None:
    class Prices:
        def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
            json.loads(model)
            return None

        def models(self, provider: str) -> Sequence[str]:
            return ()

    catalog = Catalog(providers={"fake": Provider(base_url="http://fake/v1")}, models={}, aliases={}, prices=Prices())
    found = raised_at(raised(lambda: catalog.find("fake/secret")))
    assert found.startswith(" at decoder.py:")
    assert found.endswith("Prices.find)")


def test_an_error_that_nobody_raised_has_no_place() -> None:
    assert raised_at(KeyError("x")) == ""


def test_the_root_is_what_an_error_was_raised_from_first() -> None:
    first, second, third = KeyError(), ValueError(), OSError()
    third.__cause__, second.__cause__ = second, first
    assert root(third) is first
    assert root(first) is first


def test_one_that_was_raised_from_itself_ends() -> None:
    error = KeyError()
    error.__cause__ = error
    assert root(error) is error
