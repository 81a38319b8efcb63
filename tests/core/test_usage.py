"""Usage as upstreams report it, into disjoint buckets."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core import price as pricing
from hpp_middleware.core.usage import MOST_TOKENS, Reading, read_openai, read_responses, reading, told, told_responses
from hpp_middleware.types.price import Price, Rates, Usage

PRICE = Price(base=Rates(input=10**12, output=4 * 10**12, cache_read=10**11, reasoning=5 * 10**12))


def read(usage: Any) -> Reading | None:
    return read_openai(json.dumps(usage).encode())


def report(prompt: Any = 100, completion: Any = 50, **more: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, **more}


def test_zero_is_a_report_and_costs_nothing() -> None:
    found = read(report(0, 0, total_tokens=0))
    assert found == Reading(Usage(), doubtful=False)
    assert pricing.cost(found.usage, PRICE) == 0


CLEAN: list[tuple[str, dict[str, Any], Usage]] = [
    ("plain", report(total_tokens=150), Usage(input=100, output=50)),
    ("no total", report(), Usage(input=100, output=50)),
    ("null total", report(total_tokens=None), Usage(input=100, output=50)),
    ("null details", report(prompt_tokens_details=None, completion_tokens_details=None), Usage(input=100, output=50)),
    (
        "OpenAI, cached and reasoning inside",
        report(
            total_tokens=150,
            prompt_tokens_details={"cached_tokens": 60, "audio_tokens": 0},
            completion_tokens_details={
                "reasoning_tokens": 20,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        ),
        Usage(input=40, cache_read=60, output=30, reasoning=20),
    ),
    (
        "OpenAI, audio both ways",
        report(prompt_tokens_details={"audio_tokens": 70}, completion_tokens_details={"audio_tokens": 40}),
        Usage(input=30, input_audio=70, output=10, output_audio=40),
    ),
    (
        "OpenRouter, cache write and cost",
        report(
            total_tokens=150,
            cost=0.0123,
            is_byok=False,
            prompt_tokens_details={"cached_tokens": 10, "cache_write_tokens": 80},
        ),
        Usage(input=10, cache_read=10, cache_write=80, output=50),
    ),
    (
        "DeepSeek",
        report(total_tokens=150, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=36),
        Usage(input=36, cache_read=64, output=50),
    ),
    (
        "DeepSeek, with both names",
        report(total_tokens=150, prompt_cache_hit_tokens=64, prompt_tokens_details={"cached_tokens": 64}),
        Usage(input=36, cache_read=64, output=50),
    ),
    (
        "DeepSeek, behind a server that fills in OpenAI's place with nothing",
        report(
            total_tokens=150,
            prompt_cache_hit_tokens=64,
            prompt_tokens_details={"cached_tokens": 0},
            reasoning_tokens=20,
            completion_tokens_details={"reasoning_tokens": 0},
        ),
        Usage(input=36, cache_read=64, output=30, reasoning=20),
    ),
    ("Moonshot", report(total_tokens=150, cached_tokens=99), Usage(input=1, cache_read=99, output=50)),
    (
        "xAI, reasoning beside the completion",
        report(100, 50, total_tokens=450, completion_tokens_details={"reasoning_tokens": 300}),
        Usage(input=100, output=50, reasoning=300),
    ),
    (
        "a cache beside the prompt",
        report(100, 50, total_tokens=1170, prompt_tokens_details={"cached_tokens": 1000, "cache_write_tokens": 20}),
        Usage(input=100, cache_read=1000, cache_write=20, output=50),
    ),
    (
        "and reasoning beside the completion",
        report(
            total_tokens=1180,
            prompt_tokens_details={"cached_tokens": 1000},
            completion_tokens_details={"reasoning_tokens": 30},
        ),
        Usage(input=100, cache_read=1000, output=50, reasoning=30),
    ),
    ("reasoning at the top", report(total_tokens=150, reasoning_tokens=20), Usage(input=100, output=30, reasoning=20)),
    (
        "xAI, images",
        report(total_tokens=150, prompt_tokens_details={"text_tokens": 40, "image_tokens": 60, "cached_tokens": 0}),
        Usage(input=40, input_image=60, output=50),
    ),
    (
        "images that are cached in part",
        report(total_tokens=150, prompt_tokens_details={"text_tokens": 40, "image_tokens": 60, "cached_tokens": 70}),
        Usage(cache_read=70, input_image=30, output=50),
    ),
    ("all cached", report(prompt_tokens_details={"cached_tokens": 100}), Usage(cache_read=100, output=50)),
    ("an empty usage event", report(100, 0, total_tokens=100), Usage(input=100)),
]


@pytest.mark.parametrize(("raw", "usage"), [row[1:] for row in CLEAN], ids=[row[0] for row in CLEAN])
def test_every_providers_report_comes_to_disjoint_buckets(raw: dict[str, Any], usage: Usage) -> None:
    assert read(raw) == Reading(usage, doubtful=False)


DOUBTFUL: list[tuple[str, dict[str, Any], Usage]] = [
    ("total is below the sum", report(total_tokens=149), Usage(input=100, output=50)),
    (
        "Google behind OpenAI's API: its thoughts are in the total alone",
        report(9, 3, total_tokens=105),
        Usage(input=9, output=3, reasoning=93),
    ),
    (
        "the same, and some of them told",
        report(total_tokens=250, completion_tokens_details={"reasoning_tokens": 20}),
        Usage(input=100, output=30, reasoning=120),
    ),
    (
        "the same, of nothing but thoughts, where a count of 0 is left out",
        {"prompt_tokens": 9, "total_tokens": 105, "prompt_tokens_details": {"cached_tokens": 4}},
        Usage(input=5, cache_read=4, output=96),
    ),
    (
        "Mistral: what the total has more is sound that was heard",
        report(5, 24, total_tokens=404, prompt_audio_seconds=5),
        Usage(input=5, output=24),
    ),
    ("cached above prompt", report(prompt_tokens_details={"cached_tokens": 500}), Usage(cache_read=100, output=50)),
    (
        "cached and written above prompt",
        report(prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 60}),
        Usage(cache_read=60, cache_write=40, output=50),
    ),
    (
        "images above prompt",
        report(prompt_tokens_details={"image_tokens": 101}),
        Usage(input_image=100, output=50),
    ),
    (
        "reasoning above completion",
        report(completion_tokens_details={"reasoning_tokens": 51}),
        Usage(input=100, reasoning=50),
    ),
]


@pytest.mark.parametrize(("raw", "usage"), [row[1:] for row in DOUBTFUL], ids=[row[0] for row in DOUBTFUL])
def test_a_report_that_contradicts_itself_is_taken_in_doubt(raw: dict[str, Any], usage: Usage) -> None:
    assert read(raw) == Reading(usage, doubtful=True)


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b"[1,2]",
        b"{}",
        b'"12"',
        b"12",
        b"true",
        b"",
        b"{",
        b'{"prompt_tokens": 1}',
        b'{"completion_tokens": 1}',
        b'{"prompt_tokens": 9, "total_tokens": 9}',
        b'{"prompt_tokens": -1, "completion_tokens": 1}',
        b'{"prompt_tokens": 1.5, "completion_tokens": 1}',
        b'{"prompt_tokens": 1.0, "completion_tokens": 1}',
        b'{"prompt_tokens": "12", "completion_tokens": 1}',
        b'{"prompt_tokens": true, "completion_tokens": 1}',
        b'{"prompt_tokens": null, "completion_tokens": 1}',
        b'{"prompt_tokens": 9223372036854775808, "completion_tokens": 1}',
        b'{"prompt_tokens": 1e400, "completion_tokens": 1}',
        b'{"prompt_tokens": NaN, "completion_tokens": 1}',
        b'{"prompt_tokens": ' + b"9" * 5000 + b', "completion_tokens": 1}',
        b'{"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": -2}',
        b'{"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": -5}}',
        b'{"prompt_tokens": 1, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": -5}}',
        b'{"prompt_tokens": 1, "completion_tokens": 1, "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_count_of_tokens_is_no_report(raw: bytes) -> None:
    assert read_openai(raw) is None


def test_a_count_that_no_request_can_reach_is_no_report() -> None:
    assert read(report(MOST_TOKENS, 0)) is not None
    assert read(report(MOST_TOKENS + 1, 0)) is None
    assert read(report(1, 2**63)) is None


odd = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(0, 200),
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)
small = st.integers(0, 300)
details = st.none() | st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens"), small | odd),
)
reports = st.fixed_dictionaries(
    {"prompt_tokens": small | odd, "completion_tokens": small | odd},
    optional={
        "total_tokens": small | odd,
        "prompt_tokens_details": details | odd,
        "completion_tokens_details": details | odd,
        "prompt_cache_hit_tokens": small | odd,
        "cached_tokens": small | odd,
        "reasoning_tokens": small | odd,
        "cost": odd,
    },
)


@settings(max_examples=rounds(400, soak=2_000), deadline=None)
@given(reports)
def test_buckets_are_disjoint_whole_and_sum_to_prompt_and_completion(raw: dict[str, Any]) -> None:
    found = read(raw)
    if found is None:
        return
    usage = found.usage
    parts = [getattr(usage, name) for name in usage.__struct_fields__]
    assert all(type(part) is int and part >= 0 for part in parts)
    completion = raw["completion_tokens"]
    if completion is None:
        assert (usage.total, found.doubtful) == (raw["total_tokens"], True)
        return
    beside, thought = usage.prompt - raw["prompt_tokens"], usage.completion - completion
    assert beside in {0, usage.cache_read + usage.cache_write}
    assert 0 <= thought <= usage.reasoning
    assert (beside, thought) == (0, 0) or raw["total_tokens"] == usage.total
    assert usage.total == sum(parts)
    assert 0 <= pricing.cost(usage, PRICE) <= 1000 * usage.prompt * 1000 + 5000 * 1000 * usage.completion


buckets = st.builds(Usage, **dict.fromkeys(Usage.__struct_fields__, st.integers(0, 10**6)))


@given(buckets)
def test_buckets_are_told_with_each_token_once_in_its_whole(usage: Usage) -> None:
    found = told(usage)
    assert found["total_tokens"] == found["prompt_tokens"] + found["completion_tokens"] == usage.total
    parts = found.get("prompt_tokens_details", {})
    assert parts.get("cached_tokens", 0) == usage.cache_read + usage.cache_read_audio
    assert sum(parts.values()) + usage.input + usage.tool_prompt == found["prompt_tokens"]
    assert sum(found.get("completion_tokens_details", {}).values()) + usage.output == found["completion_tokens"]


@given(buckets)
def test_what_openai_s_shape_can_say_is_read_back_as_it_was(usage: Usage) -> None:
    beyond = dict.fromkeys(("cache_write_1h", "cache_read_audio", "tool_prompt", "web_searches"), 0)
    sayable = msgspec.structs.replace(usage, **beyond)
    found = read(told(sayable))
    assert found is not None
    assert not found.doubtful
    assert found.usage == sayable


def test_images_that_came_out_are_taken_out_of_the_completion() -> None:
    found = read(report(10, 1300, completion_tokens_details={"image_tokens": 1290, "reasoning_tokens": 4}))
    assert found == Reading(Usage(input=10, output=6, reasoning=4, output_image=1290), doubtful=False)


@pytest.mark.parametrize("usage", [Usage(input=-1), Usage(web_searches=-1), Usage(output=MOST_TOKENS + 1)])
def test_buckets_that_no_request_could_fill_are_no_report(usage: Usage) -> None:
    assert reading(usage) is None


# --- the Responses API ----------------------------------------------------------------------------


RESPONSES: list[tuple[dict[str, Any], Usage]] = [
    ({"input_tokens": 9, "output_tokens": 2}, Usage(input=9, output=2)),
    (
        {
            "input_tokens": 100,
            "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 150,
        },
        Usage(input=30, cache_read=60, cache_write=10, output=30, reasoning=20),
    ),
    ({"input_tokens": 3, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 0}}, Usage(input=3, output=2)),
]


@pytest.mark.parametrize(("report_", "usage"), RESPONSES)
def test_a_response_s_usage_is_read_in_its_buckets_and_told_as_it_was(report_: dict[str, Any], usage: Usage) -> None:
    found = read_responses(json.dumps(report_).encode())
    assert found == Reading(usage, doubtful=False)
    told = told_responses(usage)
    assert read_responses(json.dumps(told).encode()) == found
    assert told["total_tokens"] == report_.get("total_tokens", usage.total)


@pytest.mark.parametrize(
    "report_", [{}, {"input_tokens": -1, "output_tokens": 2}, {"input_tokens": 1, "output_tokens": MOST_TOKENS + 1}, 7]
)
def test_what_is_no_response_s_usage_is_no_report(report_: Any) -> None:
    assert read_responses(json.dumps(report_).encode()) is None


def test_a_response_s_usage_that_contradicts_itself_is_doubtful() -> None:
    parts = {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 9}, "output_tokens": 1}
    assert read_responses(json.dumps(parts).encode()) == Reading(Usage(cache_read=5, output=1), doubtful=True)
