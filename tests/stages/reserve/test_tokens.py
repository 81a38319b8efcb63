"""A gateway's tokenizer: less is held for a prompt, and an estimate goes by its count."""

import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from rig import ALICE, Delegate, check_books, gateway, question

from hpp_middleware import ConfigurationError, Gateway, Provider
from hpp_middleware.catalog import tokens
from hpp_middleware.core.bound import COUNT_VERSION, ESTIMATOR_VERSION
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.operations import Reserve

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import holds

pytestmark = pytest.mark.anyio

PROVIDERS = {"openai": Provider(base_url="http://127.0.0.1:9/v1")}


class Seven:
    """A tokenizer by which every text is seven tokens."""

    def __init__(self, answer: int | None = 7) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    def count(self, text: str, model: str) -> int | None:
        self.asked.append((text, model))
        return self.answer


async def reserved(upstream: FakeUpstream, **settings: Any) -> Reserve:
    store = Delegate()
    async with gateway(upstream, store=store, **settings) as found:
        await found.complete(ALICE, question(messages=[{"role": "user", "content": "Grüße\n" * 50}]))
    (only,) = store.asked(Reserve)
    assert isinstance(only, Reserve)
    return only


async def test_a_counted_prompt_is_held_for_with_a_tenth_more() -> None:
    tokenizer = Seven()
    async with FakeUpstream() as upstream:
        found = await reserved(upstream, tokenizer=tokenizer)
    assert found.want == 8 * 1_000 + 100 * 2_000
    assert found.orphan_amount == 7 * 1_000
    assert found.draft.estimator_version == COUNT_VERSION
    ((text, model),) = tokenizer.asked
    assert model == "fake-1"
    assert "Grüße\nGrüße" in text
    assert '"max_tokens":100' in text


@pytest.mark.parametrize("tokenizer", [None, Seven(None), "auto"])
async def test_what_nobody_counts_is_held_for_by_its_bytes(tokenizer: Any) -> None:
    async with FakeUpstream() as upstream:
        found = await reserved(upstream, tokenizer=tokenizer)
        sent = len(upstream.log[0].body)
    assert found.want == -(-sent // 2) * 1_000 + 100 * 2_000
    assert found.draft.estimator_version == ESTIMATOR_VERSION


async def test_an_answer_without_usage_is_charged_by_the_count() -> None:
    async with FakeUpstream() as upstream:
        upstream.next(Script(usage=None))
        async with gateway(upstream, tokenizer=Seven()) as found:
            await found.complete(ALICE, question())
            (line,) = await check_books(found)
    assert line.report.estimated
    assert line.report.usage.input == 7


async def test_a_gateway_reads_the_ranks_of_the_models_it_lists_when_it_starts() -> None:
    settings: dict[str, Any] = {"providers": PROVIDERS, "prices": None, "consumers": {}}
    listed = Gateway(models={"openai/gpt-4o": {"input": "1", "output": "2"}}, **settings)
    assert isinstance(listed.setup.tokenizer, tokens.OpenAITokenizer)
    assert listed.setup.tokenizer.count("hello world", "gpt-4o") is None
    async with listed:
        assert listed.setup.tokenizer.count("hello world", "gpt-4o") == 2
    other = Gateway(models={"openai/m": {"input": "1", "output": "2"}}, **settings)
    assert isinstance(other.setup.tokenizer, tokens.OpenAITokenizer)
    async with other:
        assert other.setup.tokenizer.count("hello world", "gpt-4o") is None


def test_without_tiktoken_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "find_spec", lambda _: None)
    assert Gateway(providers=PROVIDERS).setup.tokenizer is None


def test_what_cannot_count_is_no_tokenizer() -> None:
    with pytest.raises(ConfigurationError, match="tokenizer"):
        Gateway(providers=PROVIDERS, tokenizer="tiktoken")  # type: ignore[arg-type]


def test_over_the_recorded_mix_a_hold_is_never_too_small_and_seldom_twice_too_large() -> None:
    bench = holds.Bench()
    for counted, most in ((True, 2), (False, 4)):
        rows = [bench.row(one, counted=counted) for one in holds.recorded()]
        capped = [row.hold for row in rows if row.capped]
        assert len(rows) >= 60
        assert len(rows) - len(capped) >= 10
        assert min(row.hold for row in rows) >= 1
        assert min(row.prompt for row in rows) >= 1
        assert median(capped) <= most


def test_the_mix_is_one_request_a_line_each_with_its_answer() -> None:
    for line in holds.MIX.read_text("utf-8").splitlines():
        found = json.loads(line)
        assert found["answer"] or found["tool_calls"]
        assert found["request"]["messages"]
