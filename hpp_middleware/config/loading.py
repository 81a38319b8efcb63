"""Read the file, and say what is wrong with it: a line a problem, each beginning with the key's path."""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hpp_middleware.config.section import Section
from hpp_middleware.config.sections import File
from hpp_middleware.config.settings import Settings, settle
from hpp_middleware.config.values import Context, key_path
from hpp_middleware.core.did_you_mean import did_you_mean
from hpp_middleware.errors import ConfigurationError

__all__ = ["load"]

ALIKE = 0.75
"""How like a key must be to one that is known, for that to be meant."""

_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_SAID = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "list_type": "must be an array",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
}


def load(path: str | Path, *, environment: Mapping[str, str] | None = None, secrets: bool = True) -> Settings:
    """
    Read and check a configuration file. Nothing is opened or written.

    Args:
        path: The TOML file.
        environment: Where ``env:NAME`` looks; the process's own if None.
        secrets: False leaves upstreams' and consumers' secrets unread, for a command that has no use for them.
    Raises:
        ConfigurationError: A line a problem, each beginning with the key's path.
    """
    path = Path(path)
    context = Context(os.environ if environment is None else environment, secrets=secrets)
    try:
        file = File.model_validate(_parsed(path), context=context)
    except ValidationError as error:
        raise ConfigurationError("\n".join(map(_line, error.errors()))) from None
    return settle(file, directory=path.resolve().parent, context=context)


def _parsed(path: Path) -> dict[str, object]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # some editors put a mark before it
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        found = _LINE.search(said)
        number = (found and found[1]) or text.rstrip().count("\n") + 1
        raise ConfigurationError(f"{path}: line {number}: is not valid TOML: {_LINE.sub('', said)}") from None


def _line(error: ErrorDetails) -> str:
    said = _SAID.get(error["type"]) or error["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "extra_forbidden":
        said += _near(error["loc"])
    return f"{key_path(*error['loc'])}: {said}"


def _near(place: tuple[int | str, ...]) -> str:
    """Which key of the same table may have been meant."""
    tables: list[type[Section]] = [File]
    for part in place[:-1]:
        found = [each for table in tables for each in _tables(table, part)]
        tables = found or tables  # else it is a name of the operator's, or a number in a list
    known = [name for table in tables for name in table.model_fields]
    return did_you_mean(str(place[-1]).replace("-", "_"), known, alike=ALIKE)


def _tables(table: type[Section], key: int | str) -> list[type[Section]]:
    """What tables a key of a table may hold."""
    field = table.model_fields.get(str(key))
    kinds, found = [field.annotation] if field is not None else [], list[type[Section]]()
    for kind in kinds:
        kinds += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, Section):
            found.append(kind)
    return found
