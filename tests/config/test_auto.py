"""``[auto]``: the names of the file, and a wrong value by its key."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from reading import LOCAL, read, refusal

from hpp_middleware.core.auto import AutoPolicy, Learned, Tier
from hpp_middleware.errors import ConfigurationError

MODELS = "".join(
    f'[models."local/{name}"]\ninput = "1"\noutput = "2"\n' for name in ("tool", "small", "t1", "t2", "t3")
)
AUTO = """
[auto]
policy = "rules"
rules_version = "2026-11-01"
streaming = "classify"
tool = ["local/tool"]
simple = ["local/small"]
simple_keywords = ["summarize", "translate"]
simple_max_tokens = 60
margin = 1.1
[auto.tiers]
T1 = { max_tokens = 500, models = ["local/t1"] }
T2 = { max_tokens = 4000, models = ["local/t2", "local/t3"] }
T3 = { models = ["local/t3"] }
[auto.learned]
strong = "local/t3"
weak = "local/small"
quality = 0.5
"""


def test_the_section_becomes_a_policy(tmp_path: Path) -> None:
    settings = read(tmp_path, LOCAL + MODELS + AUTO)
    assert settings.auto == AutoPolicy(
        policy="rules",
        rules_version="2026-11-01",
        streaming="classify",
        tool=("local/tool",),
        simple=("local/small",),
        simple_keywords=("summarize", "translate"),
        simple_max_tokens=60,
        margin=1.1,
        tiers={
            "T1": Tier(models=("local/t1",), max_tokens=500),
            "T2": Tier(models=("local/t2", "local/t3"), max_tokens=4000),
            "T3": Tier(models=("local/t3",)),
        },
        learned=Learned(strong="local/t3", weak="local/small", quality=0.5),
    )
    gateway = settings.gateway()
    assert gateway.setup.auto is not None
    assert gateway.setup.auto.policy is settings.auto


@pytest.mark.parametrize("text", ["", "[auto]\n"])
def test_without_anything_in_it_there_is_no_policy(tmp_path: Path, text: str) -> None:
    settings = read(tmp_path, LOCAL + text)
    assert settings.auto is None
    assert settings.gateway().setup.auto is None


def test_every_other_key_is_taken_over(tmp_path: Path) -> None:
    text = (
        '[auto]\nstreaming = "fallback"\nstreaming_fallback = "local/t1"\nsticky = "upwards"\nshadow = "rules"\n'
        "cascade = true\n"
        'rules = { tool = "r-1" }\n[auto.learned]\nstrong = "local/t3"\nweak = "local/t1"\nbudget = "0.002"\n'
        "answer_tokens = 250\n"
    )
    policy = read(tmp_path, LOCAL + MODELS + text).auto
    assert policy is not None
    assert (policy.streaming, policy.streaming_fallback) == ("fallback", "local/t1")
    assert (policy.sticky, policy.shadow, policy.rules, policy.cascade) == ("upwards", "rules", {"tool": "r-1"}, True)
    assert policy.learned is not None
    assert (policy.learned.budget, policy.learned.answer_tokens) == (2_000_000, 250)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('policy = "magic"', "auto.policy: "),
        ("margin = 0", "auto.margin: "),
        ("simple_max_tokens = -1", "auto.simple_max_tokens: "),
        ('tool = "local/tool"', "auto.tool: "),
        ("magic = 1", "auto.magic: "),
        ('simple = ["local/small"]\nstreaming = "fallback"', "auto.streaming_fallback: is missing"),
        ('simple = ["local/small"]\npolicy = "learned"', "auto.learned: is missing"),
        ('simple_keywords = ["a"]', "auto: names no model"),
        ('simple = ["local/small"]', "auto.simple: can never be chosen: set simple_keywords or simple_max_tokens"),
        ('simple = ["local/small"]\nsimple_max_tokens = 9\ncascade = true', "auto.cascade: has nobody to ask next"),
        ('simple = ["local/small"]\nrules = { magic = "r" }', "auto.rules.magic: is no rule"),
        ("[auto.tiers]\nT4 = { models = [] }", "auto.tiers.T4: "),
        ("[auto.tiers]\nT1 = { models = [] }", "auto.tiers.T1.models: "),
        ('[auto.tiers]\nT1 = { models = ["local/t1"] }\nT2 = { models = ["local/t1"] }', "auto.tiers.T2: can never be"),
        ('[auto.learned]\nstrong = "local/t3"', "auto.learned.weak: is missing"),
        ('[auto.learned]\nstrong = "local/t3"\nweak = "local/t1"\nquality = 2.0', "auto.learned.quality: "),
        ('[auto.learned]\nstrong = "local/t3"\nweak = "local/t1"\nanswer_tokens = 0', "auto.learned.answer_tokens: "),
        (
            '[auto.learned]\nstrong = "local/t3"\nweak = "local/t1"\nquality = 0.5\nshare = 0.5',
            "auto.learned.share: cannot be set beside quality",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(tmp_path: Path, text: str, problem: str) -> None:
    (line,) = refusal(tmp_path, f"{LOCAL}{MODELS}[auto]\n{text}\n")
    assert line.startswith(problem)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('tool = ["local/none"]', "auto.tool", "'local/none' is unknown or has no price"),
        ('tool = ["local/smal"]', "auto.tool", "did you mean local/small?"),
        ('tool = ["swift"]', "auto.tool", "'swift' is an alias: write 'local/small'"),
        ('[auto.tiers]\nT2 = { models = ["nobody/t2"] }', "auto.tiers.T2.models", "there is no provider 'nobody'"),
        ('[auto.tiers]\nT2 = { models = ["locl/t2"] }', "auto.tiers.T2.models", "'locl'; did you mean local?"),
        ('[auto.learned]\nstrong = "local/none"\nweak = "local/t1"', "auto.learned.strong", "is unknown"),
    ],
)
def test_a_model_that_there_is_not_is_refused_before_anything_is_served(
    tmp_path: Path, text: str, key: str, problem: str
) -> None:
    settings = read(tmp_path, f'{LOCAL}{MODELS}[aliases]\nswift = "local/small"\n[auto]\n{text}\n')
    with pytest.raises(ConfigurationError) as caught:
        settings.gateway()
    assert caught.value.param == key
    assert problem in caught.value.message


def test_tags_of_models_and_what_consumers_require(tmp_path: Path) -> None:
    text = '[models."local/m"]\ninput = "1"\noutput = "1"\ntags = ["eu"]\n[consumers.alice]\nrequires = ["eu"]\n'
    settings = read(tmp_path, LOCAL + text)
    assert settings.models["local/m"].tags == ("eu",)
    assert settings.consumers["alice"].requires == ("eu",)


class Refitted:
    """A scorer that takes one file, and no other."""

    def __init__(self, data: bytes) -> None:
        if data != b"good":
            raise ConfigurationError("this is no model file of the learned policy")

    def score(self, _messages: Sequence[Any]) -> float:
        return 0.5

    def explain(self, _messages: Sequence[Any]) -> Sequence[tuple[str, float]]:
        return []


def test_a_refitted_scorer_is_read_from_its_file_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("learned")
    module.Scorer = Refitted  # type: ignore[attr-defined]  # all that is needed of it
    monkeypatch.setitem(sys.modules, "hpp_middleware.core.auto.learned", module)
    text = f'{LOCAL}{MODELS}[auto.learned]\nstrong = "local/t3"\nweak = "local/t1"\nfile = "scorer"\n'
    assert "auto.learned.file: " in refusal(tmp_path, text)[0]
    assert "cannot be read" in refusal(tmp_path, text)[0]
    (tmp_path / "scorer").write_bytes(b"bad")
    assert "no model file" in refusal(tmp_path, text)[0]
    (tmp_path / "scorer").write_bytes(b"good")
    policy = read(tmp_path, text).auto
    assert policy is not None
    assert policy.learned is not None
    assert isinstance(policy.learned.scorer, Refitted)
