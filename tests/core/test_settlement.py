"""The settlement table: every way a request can end, and what it is then charged."""

from itertools import product
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hpp_middleware.core import price as pricing
from hpp_middleware.core.settlement import TABLE, End, Settlement, plus, settle, together, tokens_of
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import MissingUsage

PRICE = Price(base=Rates(input=2 * 10**9, output=10 * 10**9))
HOLD = 100_000
PROMPT = 300
RELAYED = 401
ESTIMATE = 300 * 2 + 101 * 10
USED = Usage(input=250, output=90)
COST = 250 * 2 + 90 * 10
ABOVE = Usage(input=250, output=20_000)
ABOVE_COST = 250 * 2 + 20_000 * 10
EARLY = Seen(usage=Usage(input=250, output=1), text_after_usage=True, relayed_bytes=RELAYED, texts=150)
BEGUN = Seen(usage=Usage(input=250, output=1), usage_early=True, relayed_bytes=RELAYED)
EARLY_COST = 250 * 2 + 1 * 10
OUTRUN = 250 * 2 + 150 * 10

REPORTS: dict[str, Seen] = {
    "reported": Seen(usage=USED, relayed_bytes=RELAYED),
    "zero": Seen(usage=Usage(), relayed_bytes=RELAYED),
    "absent": Seen(relayed_bytes=RELAYED),
    "doubtful": Seen(usage=USED, usage_doubtful=True, relayed_bytes=RELAYED),
    "above": Seen(usage=ABOVE, relayed_bytes=RELAYED),
    "doubtful, above": Seen(usage=ABOVE, usage_doubtful=True, relayed_bytes=RELAYED),
    "early": EARLY,
}

# Rows of the table: outcome; and where usage is absent: the charge and whether it is flagged, or "policy".
ROWS: dict[End, tuple[str | None, tuple[int, bool] | str]] = {
    End.UNSENT: (None, (0, False)),
    End.REFUSED: ("failed", (0, False)),
    End.COMPLETED: ("completed", "policy"),
    End.LEFT: ("abandoned", (ESTIMATE, True)),
    End.UNAWAITED: ("abandoned", (HOLD, True)),
    End.DEADLINE: ("failed", (ESTIMATE, True)),
    End.LAPSED: ("failed", (ESTIMATE, True)),
    End.BROKEN: ("failed", (ESTIMATE, True)),
    End.CUT: ("completed", (HOLD, True)),
}
POLICIES = {"estimate": (ESTIMATE, True), "hold": (HOLD, True), "free": (0, True)}
SEEN = {
    "reported": (COST, False),
    "zero": (0, False),
    "doubtful": (COST, True),
    "above": (ABOVE_COST, False),
    "doubtful, above": (HOLD, True),
    "early": (EARLY_COST, False),
}
INTERRUPTED = {
    End.LEFT: OUTRUN,
    End.UNAWAITED: HOLD,
    End.DEADLINE: OUTRUN,
    End.LAPSED: OUTRUN,
    End.BROKEN: OUTRUN,
    End.CUT: HOLD,
}
"""What a report costs that text has outrun, where the answer was not heard to its end."""
OUTRUN_WHOLE = {"estimate": OUTRUN, "hold": HOLD, "free": EARLY_COST}
"""The same of a whole answer, by the policy for missing usage."""


def settled(end: End, seen: Seen, **settings: Any) -> Settlement:
    return settle(end, seen, **{"price": PRICE, "hold": HOLD, "prompt_estimate": PROMPT, **settings})


def test_the_table_has_a_row_for_every_end() -> None:
    assert set(TABLE) == set(ROWS) == set(End)
    assert set(POLICIES) == set(get_args(MissingUsage))


@pytest.mark.parametrize(("end", "report", "policy"), list(product(End, REPORTS, POLICIES)))
def test_every_row_of_the_table(end: End, report: str, policy: MissingUsage) -> None:
    outcome, absent = ROWS[end]
    found = settled(end, REPORTS[report], missing_usage=policy)
    if outcome is None:
        expected = (0, False)
    elif report == "early" and end in INTERRUPTED:
        expected = (INTERRUPTED[end], True)
    elif report == "early" and end is End.COMPLETED:
        expected = (OUTRUN_WHOLE[policy], True)
    elif report != "absent":
        expected = SEEN[report]
    else:
        expected = absent if isinstance(absent, tuple) else POLICIES[policy]
    assert (found.outcome, found.amount, found.estimated) == (outcome, *expected)


@pytest.mark.parametrize("end", list(End))
def test_hidden_reasoning_costs_the_hold_only_where_the_client_ended_it_without_usage(end: End) -> None:
    hidden = settled(end, REPORTS["absent"], hidden_reasoning=True)
    shown = settled(end, REPORTS["absent"])
    if end in {End.LEFT, End.LAPSED}:
        assert (hidden.amount, hidden.outcome, hidden.estimated) == (HOLD, ROWS[end][0], True)
    else:
        assert hidden == shown
    assert settled(end, REPORTS["reported"], hidden_reasoning=True) == settled(end, REPORTS["reported"])


def test_the_usage_of_an_entry_is_what_its_amount_stands_for() -> None:
    assert settled(End.COMPLETED, REPORTS["reported"]).usage == USED
    assert settled(End.COMPLETED, REPORTS["absent"]).usage == Usage(input=PROMPT, output=101)
    assert settled(End.COMPLETED, REPORTS["absent"], missing_usage="free").usage == Usage()
    assert settled(End.REFUSED, REPORTS["absent"]).usage == Usage()


def test_after_sending_a_deadline_is_never_free() -> None:
    nothing = Seen()
    for end in (End.LEFT, End.UNAWAITED, End.DEADLINE, End.LAPSED, End.BROKEN, End.CUT):
        assert settled(end, nothing).amount >= PROMPT * 2


@pytest.mark.parametrize(("text_bytes", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (401, 101)])
def test_an_estimate_is_a_quarter_of_the_bytes_rounded_up(text_bytes: int, tokens: int) -> None:
    assert tokens_of(text_bytes) == tokens


@pytest.mark.parametrize(
    ("text_bytes", "texts", "tokens"), [(0, 0, 0), (3, 3, 3), (40, 3, 10), (40, 10, 10), (40, 11, 11)]
)
def test_each_piece_of_text_is_a_token_at_least(text_bytes: int, texts: int, tokens: int) -> None:
    assert tokens_of(text_bytes, texts) == tokens
    left = settled(End.LEFT, Seen(relayed_bytes=text_bytes, texts=texts))
    assert (left.usage, left.estimated) == (Usage(input=PROMPT, output=tokens), True)


def test_many_pieces_are_never_estimated_above_the_hold() -> None:
    assert settled(End.LEFT, Seen(relayed_bytes=10, texts=10**6)).amount == HOLD


@pytest.mark.parametrize(
    ("seen", "usage"),
    [
        (EARLY, Usage(input=250, output=150)),
        (
            Seen(usage=Usage(cache_read=200, input=50, reasoning=7), text_after_usage=True, texts=90),
            Usage(cache_read=200, input=50, output=83, reasoning=7),
        ),
        (Seen(usage=USED, text_after_usage=True, texts=90, relayed_bytes=RELAYED), USED),
        (Seen(usage=Usage(input=250), text_after_usage=False, texts=90, relayed_bytes=RELAYED), Usage(input=250)),
        (
            Seen(usage=Usage(input=250, output=1), text_after_usage=True, texts=1, relayed_bytes=32),
            Usage(input=250, output=8),
        ),
        (
            Seen(usage=Usage(input=250, output=1), text_after_usage=True, texts=1, relayed_bytes=31),
            Usage(input=250, output=1),
        ),
    ],
    ids=[
        "outrun",
        "outrun, with other tokens in it",
        "as many tokens as pieces",
        "no text since",
        "outrun by one long piece",
        "one piece that may be a token",
    ],
)
def test_only_a_report_that_text_has_outrun_is_a_lower_bound(seen: Seen, usage: Usage) -> None:
    left = settled(End.LEFT, seen)
    assert (left.usage, left.estimated) == (usage, usage != seen.usage)
    assert left.amount == pricing.cost(usage, PRICE)


def test_a_report_at_the_beginning_counts_what_went_in_and_never_what_came_out() -> None:
    used = Usage(input=250, output=101)
    for end in (End.LEFT, End.DEADLINE, End.LAPSED, End.BROKEN, End.COMPLETED):
        found = settled(end, BEGUN)
        assert (found.usage, found.amount, found.estimated) == (used, pricing.cost(used, PRICE), True)
    assert settled(End.LEFT, BEGUN, hidden_reasoning=True).amount == HOLD
    assert settled(End.CUT, BEGUN).amount == HOLD
    for found in (settled(End.REFUSED, BEGUN), settled(End.COMPLETED, BEGUN, missing_usage="free")):
        assert (found.usage, found.amount, found.estimated) == (Usage(input=250, output=1), EARLY_COST, True)


def test_a_lower_bound_above_the_hold_is_charged_as_it_is() -> None:
    seen = Seen(usage=ABOVE, text_after_usage=True, texts=ABOVE.output + 1)
    found = settled(End.LEFT, seen)
    assert (found.amount, found.estimated) == (ABOVE_COST, True)
    assert settled(End.LEFT, replace(seen, usage_doubtful=True)).amount == HOLD


@pytest.mark.parametrize(
    ("bucket", "rate"),
    [
        ("input_audio", "input_audio"),
        ("cache_read_audio", "input_audio"),
        ("output_audio", "output_audio"),
        ("output_image", "output_image"),
        ("web_searches", "web_search"),
    ],
)
def test_tokens_that_have_no_rate_pass_for_no_clean_charge(bucket: str, rate: str) -> None:
    seen = Seen(usage=Usage(input=250, output=90, **{bucket: 3}))
    found = settled(End.COMPLETED, seen)
    as_text = {"input_audio": 2, "cache_read_audio": 2, "web_searches": 0}.get(bucket, 10)
    assert (found.amount, found.estimated) == (COST + 3 * as_text, True)
    priced = replace(PRICE, base=replace(PRICE.base, **{rate: 10**9}))
    assert not settled(End.COMPLETED, seen, price=priced).estimated
    dear = replace(priced, tiers=((200, PRICE.base),))  # of the tier that is charged
    assert settled(End.COMPLETED, seen, price=dear).estimated


count = st.integers(0, 10**6)
usages = st.builds(Usage, input=count, cache_read=count, output=count, reasoning=count)
seens = st.builds(
    Seen,
    usage=st.none() | usages,
    usage_doubtful=st.booleans(),
    relayed_bytes=st.integers(0, 10**7),
    texts=st.integers(0, 10**6),
    text_after_usage=st.booleans(),
    finished=st.booleans(),
)


@given(
    end=st.sampled_from(End),
    seen=seens,
    hold=st.integers(0, 10**10),
    prompt=st.integers(0, 10**6),
    hidden=st.booleans(),
    policy=st.sampled_from(sorted(POLICIES)),
)
def test_no_charge_is_negative_and_no_estimate_above_the_hold(
    end: End, *, seen: Seen, hold: int, prompt: int, hidden: bool, policy: MissingUsage
) -> None:
    found = settle(
        end, seen, price=PRICE, hold=hold, prompt_estimate=prompt, hidden_reasoning=hidden, missing_usage=policy
    )
    assert found.amount >= 0
    if seen.usage is None or seen.usage_doubtful:
        assert found.amount <= hold or not found.estimated
    elif found.estimated:
        assert found.amount <= max(hold, pricing.cost(seen.usage, PRICE))
        assert found.amount >= pricing.cost(seen.usage, PRICE)
    else:
        assert found.amount == (0 if end is End.UNSENT else pricing.cost(seen.usage, PRICE))


TOKENS = st.builds(Usage, **{name: st.integers(0, 1000) for name in Usage.__struct_fields__})


@given(TOKENS, TOKENS)
def test_two_calls_have_the_tokens_of_both_and_their_amounts(one: Usage, other: Usage) -> None:
    assert plus(one, other).total == one.total + other.total
    assert plus(one, other).web_searches == one.web_searches + other.web_searches
    before = Settlement(7, "completed", estimated=False, usage=one)
    found = together(before, Settlement(5, "failed", estimated=True, usage=other))
    assert found == Settlement(12, "failed", estimated=True, usage=plus(one, other))


def test_a_second_call_that_nothing_was_sent_for_changes_nothing() -> None:
    before = Settlement(7, "completed", estimated=False, usage=USED)
    assert together(before, Settlement(0, None, estimated=False, usage=Usage())) == before
