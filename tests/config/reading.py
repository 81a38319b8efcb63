"""What the tests of the configuration share: a file that is read, or refused."""

from pathlib import Path

import pytest

from hpp_middleware.config import Settings, load
from hpp_middleware.errors import ConfigurationError

__all__ = ["EXAMPLE", "KEY", "LOCAL", "read", "refusal"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "router.toml"
LOCAL = '[providers.local]\nbase_url = "http://127.0.0.1:9/v1"\n'
KEY = "a-secret-of-20-characters"


def read(folder: Path, text: str, **environment: str) -> Settings:
    path = folder / "router.toml"
    path.write_text(text, "utf-8")
    return load(path, environment=environment)


def refusal(folder: Path, text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text, **environment)
    return str(caught.value).split("\n")
