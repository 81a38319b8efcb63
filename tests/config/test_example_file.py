"""The example is good, and shows every key."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
from reading import EXAMPLE

from hpp_middleware.config import load
from hpp_middleware.config.limits import LimitSection
from hpp_middleware.config.sections import (
    BreakerSection,
    ConsumerSection,
    File,
    LearnedSection,
    ModelSection,
    ProviderSection,
    Section,
    TierSection,
    TiersSection,
    TimeoutsSection,
    UpstreamSection,
)
from hpp_middleware.config.streams import KeepAliveSection
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.load import Load
from hpp_middleware.types.provider import Limits, Timeouts


def documented() -> dict[str, str]:
    """The variables that the example's own head names, with a value each."""
    (line,) = [line for line in EXAMPLE.read_text("utf-8").split("\n") if line.startswith("#     export ")]
    return {name: f"{name}-of-an-example" for name in re.findall(r"([A-Z_]+)=", line)}


def test_the_example_is_good_with_only_the_variables_that_it_documents() -> None:
    settings = load(EXAMPLE, environment=documented())
    gateway = settings.gateway()
    assert set(settings.providers) == {"openai", "research", "acme"}
    assert gateway.catalog.find("acme/acme-large") is not None
    assert settings.consumers["alice"].quota == 9_000 * 10**9


WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Installed(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in sys.argv[2:] else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Installed if each is PathFinder else each for each in sys.meta_path]
from hpp_middleware.config import load
print(len(load(sys.argv[1]).gateway().catalog.targets()))
"""
"""A router put together where some packages are not installed."""


def test_the_example_needs_no_extra_but_those_that_the_readme_installs() -> None:
    root = EXAMPLE.parent.parent
    extras = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (installed,) = re.findall(r"hpp_middleware\[(cli[^\]]*)\]", (root / "README.md").read_text("utf-8"))
    kept = {line.split(">")[0] for extra in installed.split(",") for line in extras[extra]}
    names = {re.split(r"[>\[;=<]", line)[0] for extra in extras["all"][0][15:-1].split(",") for line in extras[extra]}
    missing = sorted(name.replace("-", "_") for name in names - kept)
    assert {"cryptography", "tiktoken", "redis", "asyncpg"} <= set(missing)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(EXAMPLE), *missing],
        env={**os.environ, **documented()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 3


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "ACME_API_KEY", "ALICE_KEY"])
def test_the_example_names_each_variable_that_it_needs(variable: str) -> None:
    environment = {name: value for name, value in documented().items() if name != variable}
    with pytest.raises(ConfigurationError, match=f"the environment variable {variable} is not set"):
        load(EXAMPLE, environment=environment)


def test_the_example_shows_every_key_of_every_section() -> None:
    text = EXAMPLE.read_text("utf-8")
    sections: list[type[Section]] = [ProviderSection, ModelSection, ConsumerSection, TimeoutsSection]
    sections += [TiersSection, TierSection, LearnedSection, BreakerSection, UpstreamSection, LimitSection]
    sections += [KeepAliveSection]
    sections += [
        field.annotation
        for field in File.model_fields.values()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    ]
    assert len(sections) == 29
    missing = [
        f"{section.__name__}.{key}"
        for section in sections
        for key in section.model_fields
        if not re.search(rf"(^|[{{,] ?|^# ){key} = |^\[+[\w.]+\.{key}\]+$", text, re.MULTILINE)
    ]
    assert missing == []
    assert [name for name in File.model_fields if not re.search(rf"^\[\[?{name}[\].]", text, re.MULTILINE)] == []


def test_the_examples_defaults_are_the_defaults() -> None:
    settings = load(EXAMPLE, environment=documented())
    assert settings.limits == Limits()
    assert settings.gateway().setup.load == Load()
    for name in ("store", "errors", "server", "billing"):
        assert getattr(settings.file, name) == File.model_fields[name].default
    assert settings.providers["openai"].timeouts == Timeouts()
    assert settings.providers["openai"].breaker == Breaker()
