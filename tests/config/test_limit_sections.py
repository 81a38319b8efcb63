"""``[[limits]]`` and ``[limit_store]``."""

from pathlib import Path

import pytest
from reading import LOCAL, read, refusal

from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.types.limits import RateLimit

TWO = (
    "[[limits]]\nrequests_per_minute = 60\ntokens_per_minute = 100_000\nconcurrency = 8\n"
    '[[limits]]\nconsumer = "alice"\nmodel = "local/*"\nper = "key"\nrequests_per_day = "unlimited"\n'
    "tokens_per_hour = 5\ntokens_burst = 2\n"
)


def test_the_limits_reach_the_gateway(tmp_path: Path) -> None:
    settings = read(tmp_path, LOCAL + TWO)
    assert settings.rate_limits == (
        RateLimit(requests_per_minute=60, tokens_per_minute=100_000, concurrency=8),
        RateLimit(
            consumer="alice",
            model="local/*",
            per="key",
            requests_per_day="unlimited",
            tokens_per_hour=5,
            tokens_burst=2,
        ),
    )
    backends = settings.gateway().setup.backends
    assert backends.limits is not None
    assert backends.needs_limits


def test_nobody_counts_where_nothing_is_limited(tmp_path: Path) -> None:
    assert read(tmp_path, LOCAL).gateway().setup.backends.limits is None


def test_another_store_counts_where_the_file_says_so(tmp_path: Path) -> None:
    section = '[limit_store]\nurl = "memory:"\noutage = "open"\n'
    backends = read(tmp_path, LOCAL + TWO + section).gateway().setup.backends
    assert isinstance(backends.limits, MemoryLimits)
    assert not backends.needs_limits


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[limits]\nn = 2",
            "limits: must be an array of tables, [[limits]]; bounds on one request are called [bounds]",
        ),
        ("[[limits]]\nper = 'key'", "limits[0]: names no figure, such as requests_per_minute"),
        (
            "[[limits]]\nconcurrency = 0",
            'limits[0].concurrency: must be a whole number from 1 to 10,000,000,000, or "unlimited"',
        ),
        (
            '[[limits]]\nrequests_per_day = "many"',
            'limits[0].requests_per_day: must be a whole number from 1 to 10,000,000,000, or "unlimited"',
        ),
        (
            "[[limits]]\nrequests_per_week = 1",
            "limits[0].requests_per_week: unknown key; did you mean requests_per_day?",
        ),
        ("[[limits]]\nconcurrency = 1\nper = 'model'", "limits[0].per: must be 'consumer' or 'key'"),
        ("[[limits]]\nconcurrency = 1\ntokens_burst = 5", "limits[0].tokens_burst: is there without a window"),
        (
            "[[limits]]\nconcurrency = 1\n[[limits]]\nconcurrency = 2",
            "limits[1].concurrency: is given in limits[0].concurrency already, for the same consumer and model",
        ),
        (
            "[[limits]]\nmodel = 'openai/gpt'\nconcurrency = 1",
            "limits[0].model: must be provider/model, or a glob; there is no provider 'openai'",
        ),
        ("[[limits]]\nmodel = 'gpt*'\nconcurrency = 1", "limits[0].model: must be provider/model, or a glob"),
        ('[limit_store]\noutage = "ajar"', "limit_store.outage: must be 'closed' or 'open'"),
        ('[limit_store]\nurl = "carrier:pigeon"', None),
    ],
)
def test_a_mistake_is_refused_with_its_path(tmp_path: Path, text: str, problem: str | None) -> None:
    (found,) = refusal(tmp_path, text)
    if problem is None:
        assert found.startswith("limit_store.url: ")
    else:
        assert found == problem
