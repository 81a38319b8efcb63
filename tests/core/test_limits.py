"""Which limits apply, what they ask of a store, and what clients are told."""

from typing import Any

import pytest

from hpp_middleware.core.bound import Bound
from hpp_middleware.core.limits import Asked, Rules, duration, estimate, headers, refusal
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.limits import RateLimit, Standing

ALICE = Consumer(id="alice", key_id="key-1")


def asked(*limits: RateLimit, consumer: Consumer = ALICE, model: str = "fake/a", **more: Any) -> Asked:
    found = Rules(limits, {"fake"}).asked(consumer, model, **{"tokens": 10, "holder": "req-1", **more})
    assert found is not None
    return found


def names(found: Asked) -> list[tuple[str, int | None]]:
    return [(rule.name, rule.figure) for rule in (*found.drawn, *found.placed)]


def told(error: RequestError) -> tuple[str | None, str | None, bool]:
    return error.headers.get("Retry-After"), error.headers.get("retry-after-ms"), error.retryable


def test_everybodys_limit_gives_each_consumer_windows_of_its_own() -> None:
    limit = RateLimit(requests_per_minute=60, tokens_per_minute=1000, concurrency=8)
    mine, other = asked(limit), asked(limit, consumer=Consumer(id="bob"))
    assert names(mine) == [("requests_per_minute", 60), ("tokens_per_minute", 1000), ("concurrency", 8)]
    assert (mine.ask.home, other.ask.home) == ("alice", "bob")
    assert [draw.amount for draw in mine.ask.draws] == [10**6, 10 * 60_000]
    assert [(slot.most, slot.holder) for slot in mine.ask.slots] == [(8, "req-1")]


def test_a_named_consumers_figures_stand_in_the_place_of_everybodys() -> None:
    everybody = RateLimit(requests_per_minute=60, tokens_per_minute=1000, concurrency=8)
    alices = RateLimit(consumer="alice", requests_per_minute=600, concurrency="unlimited")
    assert names(asked(everybody, alices)) == [("requests_per_minute", 600), ("tokens_per_minute", 1000)]
    assert names(asked(alices, everybody)) == [("requests_per_minute", 600), ("tokens_per_minute", 1000)]
    assert len(names(asked(everybody, alices, consumer=Consumer(id="bob")))) == 3


def test_a_models_limit_and_a_keys_are_there_besides() -> None:
    limits = (
        RateLimit(requests_per_minute=60),
        RateLimit(consumer="alice", model="fake/*", requests_per_minute=30),
        RateLimit(per="key", requests_per_minute=10),
        RateLimit(model="fake/b", requests_per_minute=5),
    )
    assert names(asked(*limits)) == [
        ("requests_per_minute", 60),
        ("requests_per_minute", 10),
        ("requests_per_minute", 30),
    ]
    assert len(names(asked(*limits, model="fake/b"))) == 4
    assert len({draw.key for draw in asked(*limits, model="fake/b").ask.draws}) == 4


def test_keys_of_one_consumer_have_windows_of_their_own_only_where_it_says_so() -> None:
    another = Consumer(id="alice", key_id="key-2")
    for per, same in (("consumer", True), ("key", False)):
        limit = RateLimit(per=per, requests_per_minute=1)  # type: ignore[arg-type]  # one of the two
        (mine,), (other,) = asked(limit).ask.draws, asked(limit, consumer=another).ask.draws
        assert (mine.key == other.key) is same
    hosts = asked(RateLimit(per="key", requests_per_minute=1), consumer=Consumer(id="alice"))
    assert hosts.ask.draws[0].key.endswith("\n")


def test_models_with_one_pattern_share_its_window() -> None:
    limit = RateLimit(model="fake/*", requests_per_minute=1)
    assert asked(limit, model="fake/a").ask.draws == asked(limit, model="fake/b").ask.draws
    assert Rules([limit], {"fake"}).asked(ALICE, "other/a", tokens=1, holder="h") is None


def test_a_models_limit_counts_it_in_any_letter_case() -> None:
    for model in ("fake/Large", "fake/L*"):
        limits = RateLimit(requests_per_minute=60), RateLimit(model=model, requests_per_minute=5)
        for name, count in (("fake/Large", 2), ("fake/LARGE", 2), ("fake/small", 1)):
            assert len(names(asked(*limits, model=name))) == count


def test_a_fallback_takes_only_what_its_own_limits_ask_besides() -> None:
    rules = Rules(
        [RateLimit(requests_per_minute=60), RateLimit(model="fake/b", tokens_per_minute=50, concurrency=1)], {"fake"}
    )
    found = rules.asked(ALICE, "fake/b", tokens=10, holder="req-1", besides=("fake/a",))
    assert found is not None
    assert names(found) == [("tokens_per_minute", 50), ("concurrency", 1)]
    assert rules.asked(ALICE, "fake/c", tokens=10, holder="req-1", besides=("fake/a",)) is None


def test_a_figure_that_was_changed_begins_a_window_of_its_own() -> None:
    before, after = (asked(RateLimit(requests_per_minute=figure)).ask.draws[0].key for figure in (60, 61))
    assert before != after


@pytest.mark.parametrize(
    ("limits", "param"),
    [
        ([{"requests_per_minute": 1}, {"requests_per_minute": 2}], "rate_limits[1].requests_per_minute"),
        ([{"model": "nobody/a", "requests_per_minute": 1}], "rate_limits[0].model"),
        ([{"model": "fake", "requests_per_minute": 1}], "rate_limits[0].model"),
        ([{"requests_per_day": 1, "requests_burst": 10**10}], "rate_limits[0].requests_burst"),
    ],
)
def test_what_is_wrong_is_named(limits: list[dict[str, Any]], param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Rules([RateLimit(**limit) for limit in limits], {"fake"})
    assert caught.value.param == param
    assert caught.value.message.startswith(param)


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({}, ""),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"requests_per_minute": True}, "requests_per_minute"),
        ({"tokens_per_day": 10**10 + 1}, "tokens_per_day"),
        ({"concurrency": "none"}, "concurrency"),
        ({"requests_per_minute": 1, "requests_burst": "unlimited"}, "requests_burst"),
        ({"requests_per_minute": 1, "tokens_burst": 5}, "tokens_burst"),
        ({"requests_per_minute": "unlimited", "requests_burst": 5}, "requests_burst"),
        ({"requests_per_minute": 1, "model": "a\nb"}, "model"),
        ({"requests_per_minute": 1, "model": ""}, "model"),
        ({"requests_per_minute": 1, "per": "model"}, "per"),
        ({"requests_per_minute": 1, "consumer": ""}, "consumer"),
    ],
)
def test_a_limit_that_is_none_is_refused_by_its_field(values: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        RateLimit(**values)
    assert caught.value.param == param


def test_a_burst_is_of_the_shortest_window_that_is_given() -> None:
    found = asked(RateLimit(requests_per_minute=60, requests_per_day=1000, requests_burst=5))
    assert [rule.size.room // rule.size.each for rule in found.drawn] == [5, 1000]


def test_what_is_drawn_is_the_prompt_and_the_clients_own_cap_but_a_share_only_of_ours() -> None:
    bound = Bound(want=1, floor=1, prompt=1, out_rate=1, cap=5000, n=2, ours=False, prompt_estimate=7, orphan_amount=0)
    assert estimate(bound) == 7 + 2 * 5000
    ours = Bound(want=1, floor=1, prompt=1, out_rate=1, cap=5000, n=2, ours=True, prompt_estimate=7, orphan_amount=0)
    assert estimate(ours) == 7 + 2 * 1024


def test_a_correction_has_what_changed_and_gives_the_places_back() -> None:
    found = asked(RateLimit(requests_per_minute=60, tokens_per_minute=1000, concurrency=8), tokens=100)
    change = found.correction(130)
    assert change is not None
    assert [draw.amount for draw in change.draws] == [30 * 60_000]
    assert change.slots == found.ask.slots
    back = found.correction(0, requests=0)
    assert back is not None
    assert [draw.amount for draw in back.draws] == [-(10**6), -100 * 60_000]
    assert asked(RateLimit(requests_per_minute=60)).correction(3) is None


def test_a_refusal_tells_the_longest_wait_in_seconds_rounded_up_and_in_milliseconds() -> None:
    found = asked(RateLimit(requests_per_minute=60, tokens_per_minute=60, concurrency=2), tokens=5)
    refused = refusal(found, Standing(admitted=False, used=(60 * 10**6 - 500_000, 58 * 10**6), busy=(1,)))
    assert (refused.status, refused.code, refused.type) == (429, "rate_limit_exceeded", "rate_limit_error")
    assert told(refused) == ("3", "3000", True)
    assert "60 tokens per minute" in refused.message
    refused = refusal(found, Standing(admitted=False, used=(60 * 10**6 - 500_000, 0), busy=(1,)))
    assert told(refused) == ("1", "500", True)
    assert "60 requests per minute" in refused.message


def test_too_many_at_once_may_try_again_in_a_second() -> None:
    found = asked(RateLimit(concurrency=2, requests_per_minute=60))
    refused = refusal(found, Standing(admitted=False, used=(0,), busy=(2,)))
    assert told(refused) == ("1", "1000", True)
    assert "2 requests at once" in refused.message


def test_what_is_larger_than_its_window_need_not_try_again() -> None:
    found = asked(RateLimit(tokens_per_minute=60, model="fake/*", per="key"), tokens=61)
    refused = refusal(found, Standing(admitted=False, used=(0,), busy=()))
    assert told(refused) == (None, None, False)
    assert "60 tokens per minute to fake/* for each key" in refused.message
    assert "61 tokens" in refused.message


def test_the_window_with_the_fewest_left_is_told() -> None:
    found = asked(RateLimit(requests_per_minute=60, requests_per_day=1000, tokens_per_minute=100))
    standing = Standing(admitted=True, used=(59 * 10**6, 5 * 86_400_000, 0), busy=())
    assert headers(found, standing) == [
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "1"),
        ("x-ratelimit-reset-requests", "59s"),
        ("x-ratelimit-limit-tokens", "100"),
        ("x-ratelimit-remaining-tokens", "100"),
        ("x-ratelimit-reset-tokens", "0s"),
    ]
    standing = Standing(admitted=True, used=(0, 995 * 86_400_000, 0), busy=())
    assert headers(found, standing)[0] == ("x-ratelimit-limit-requests", "1000")
    assert headers(asked(RateLimit(concurrency=1)), Standing(admitted=True, used=(), busy=(1,))) == []


def test_a_window_in_debt_has_none_left() -> None:
    found = asked(RateLimit(tokens_per_minute=60))
    (_, remaining, reset) = headers(found, Standing(admitted=False, used=(90 * 10**6,), busy=()))
    assert (remaining[1], reset[1]) == ("0", "1m30s")


def test_anthropics_clients_are_told_in_its_own_names_and_times() -> None:
    found = asked(RateLimit(requests_per_minute=60))
    assert headers(found, Standing(admitted=True, used=(90_000_000,), busy=()), anthropic="in {} us".format) == [
        ("anthropic-ratelimit-requests-limit", "60"),
        ("anthropic-ratelimit-requests-remaining", "0"),
        ("anthropic-ratelimit-requests-reset", "in 90000000 us"),
    ]


@pytest.mark.parametrize(
    ("micro", "said"),
    [
        (0, "0s"),
        (1, "1ms"),
        (12_000, "12ms"),
        (999_001, "1s"),
        (1_000_000, "1s"),
        (1_500_000, "1.5s"),
        (60_000_000, "1m0s"),
        (360_000_000, "6m0s"),
        (61_020_000, "1m1.02s"),
        (3_600_000_000, "1h0m0s"),
        (90_061_001_000, "25h1m1.001s"),
    ],
)
def test_spans_are_written_as_go_writes_them(micro: int, said: str) -> None:
    assert duration(micro) == said
