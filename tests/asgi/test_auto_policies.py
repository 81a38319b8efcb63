"""Streams, conversations and policies with ``hpprouter/auto``: a fallback, a kept model, shadows, a host's own."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rig import BOB_KEY, Delegate, Witness, check_books, gateway

from asgi.choosing import LONG, NANO, POLICY, TALK, TOOL, answered, explained, models, routing, told, user
from hpp_middleware import SQLiteStore
from hpp_middleware.core.auto import AutoPolicy, Learned, Tier
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.auto import Asked, Candidate, Decision, Routed
from hpp_middleware.types.events import Shadowed
from hpp_middleware.types.operations import Reserve

pytestmark = pytest.mark.anyio


async def test_streams_go_to_the_fallback_where_it_is_set(fake_upstream: FakeUpstream) -> None:
    policy = {"streaming": "fallback", "streaming_fallback": "fake/t2"}
    async with routing(fake_upstream, policy) as found:
        _, headers, _ = await answered(found, stream=True, tools=[TOOL])
        assert headers == told("t2", "streaming-fallback", "streaming-fallback")
        assert (await answered(found, tools=[TOOL]))[1] == told("tool", "tool", "tool")


async def test_a_conversation_keeps_its_model_as_long_as_it_can(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream, known={"small": {"context": 1_500}}) as found:
        assert (await answered(found, messages=TALK))[1]["resolved-model"] == "fake/t1"  # nothing is known of it
        assert (await answered(found))[1]["resolved-model"] == "fake/small"
        assert (await answered(found, messages=TALK))[1] == told("small", "simple", "simple-tokens")
        assert (await answered(found, key=BOB_KEY, messages=TALK))[1]["resolved-model"] == "fake/t1"
        longer = [*TALK, {"role": "assistant", "content": LONG * 3}, *user("So?")]
        assert (await answered(found, messages=longer))[1] == told("t2", "complex", "complex-T2", "T2")
        assert (await answered(found, messages=TALK))[1]["resolved-model"] == "fake/t2"


async def test_a_conversation_goes_back_to_its_model_after_a_turn_that_another_answered(
    fake_upstream: FakeUpstream,
) -> None:
    async with routing(fake_upstream, {"simple": ("fake/small", "fake/t1")}) as found:
        assert (await answered(found))[1]["resolved-model"] == "fake/small"
        fake_upstream.next(Script(status=503))
        assert (await answered(found, messages=TALK))[0] == 200
        (first, second) = await check_books(found)
        assert (first.draft.model, second.draft.model) == ("fake/small", "fake/t1")
        _, route = await explained(found, messages=TALK)
        assert route["conversation_model"] == route["model"] == "fake/small"
        await answered(found, messages=TALK)
        assert fake_upstream.log[-1].json()["model"] == "small"


async def test_a_first_turn_is_decided_anew_each_time(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        assert (await answered(found, tools=[TOOL]))[1]["basket"] == "tool"
        assert (await answered(found))[1]["basket"] == "simple"


@pytest.mark.parametrize("way", ["body", "header"])
async def test_a_session_is_a_conversation_however_it_begins(fake_upstream: FakeUpstream, way: str) -> None:
    settings: dict[str, Any] = {"session_id": "s"} if way == "body" else {"headers": {"X-Session-Id": "s"}}
    async with routing(fake_upstream) as found:
        assert (await answered(found, messages=user(LONG), **settings))[1]["tier"] == "T1"
        assert (await answered(found, messages=user("Thanks"), **settings))[1]["tier"] == "T1"
        assert (await answered(found, messages=user("Thanks")))[1]["basket"] == "simple"


@pytest.mark.parametrize("session", ["", 5, "x" * 257])
async def test_a_session_that_is_none_is_refused(fake_upstream: FakeUpstream, session: object) -> None:
    async with routing(fake_upstream) as found:
        status, _, body = await answered(found, session_id=session)
        assert (status, b"session_id" in body) == (400, True)


class Scorer:
    """Hard is what says so."""

    def score(self, messages: Sequence[Any]) -> float:
        return 0.9 if "hard" in str(messages[-1]["content"]) else 0.1

    def explain(self, messages: Sequence[Any]) -> Sequence[tuple[str, float]]:
        return [("hard", self.score(messages))]


LEARNED = Learned(strong="fake/t3", weak="fake/small", quality=0.5, scorer=Scorer())


async def test_the_learned_policy_tells_its_score(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream, {"policy": "learned", "learned": LEARNED}) as found:
        assert (await answered(found, messages=user("hard")))[1] == told("t3", "complex", "learned-strong")
        assert (await answered(found, messages=user("easy")))[1] == told("small", "simple", "learned-weak")
        assert (await answered(found, tools=[TOOL]))[1] == told("tool", "tool", "tool")
        first, second, third = [entry.draft.routed for entry in await check_books(found)]
        assert first is not None
        assert (first.score, "hard" in first.reason) == (0.9, True)
        assert second is not None
        assert second.score == 0.1
        assert third is not None
        assert third.score is None


class Lengths(Scorer):
    """Knows how long answers are."""

    ordinary_answer = 90

    def answer_tokens(self, messages: Sequence[Any]) -> int:
        return 90 if "hard" in str(messages[-1]["content"]) else 900


def lengths(**settings: Any) -> dict[str, Any]:
    learned = Learned(strong="fake/t3", weak="fake/small", quality=0.5, scorer=Lengths(), **settings)
    return {"policy": "learned", "learned": learned}


@pytest.mark.parametrize(
    ("settings", "fields", "tokens"),
    [
        ({}, {"messages": user("hard")}, 90),
        ({}, {"messages": user("easy")}, 900),
        ({}, {"messages": user("easy"), "max_tokens": 50}, 50),
        ({"answer_tokens": 7}, {"messages": user("hard")}, 7),
        ({}, {"tools": [TOOL]}, 400),
    ],
)
async def test_how_long_an_answer_was_taken_to_be_is_explained(
    fake_upstream: FakeUpstream, settings: dict[str, Any], fields: dict[str, Any], tokens: int
) -> None:
    async with routing(fake_upstream, lengths(**settings)) as found:
        _, told = await explained(found, **fields)
        assert told["estimated_output_tokens"] == tokens
        by_model = {each["model"]: each for each in told["candidates"]}
        for name in ("small", "t3"):
            into, out = NANO[name]
            expected = told["estimated_input_tokens"] * into + tokens * out
            assert by_model[f"fake/{name}"]["estimated_cost"] == pytest.approx(expected / 10**9)


@pytest.mark.parametrize("cap", [None, 50])
async def test_what_is_held_never_goes_by_the_usual_length_of_an_answer(
    fake_upstream: FakeUpstream, cap: int | None
) -> None:
    held = []
    for usual in (1, 1_000_000):
        store = Delegate()
        async with routing(fake_upstream, lengths(answer_tokens=usual), store=store) as found:
            _, headers, _ = await answered(found, messages=user("hard"), max_tokens=cap)
            assert headers["resolved-model"] == "fake/t3"
            (reserved,) = store.asked(Reserve)
            held.append(reserved.want)
            await check_books(found)
    assert held[0] == held[1] >= (cap or 256) * NANO["t3"][1]


async def test_a_shadow_is_told_and_never_followed(fake_upstream: FakeUpstream) -> None:
    witness = Witness()
    async with routing(fake_upstream, {"shadow": "learned", "learned": LEARNED}, observers=[witness]) as found:
        assert (await answered(found, messages=user("hard")))[1]["resolved-model"] == "fake/small"
        (entry,) = await check_books(found)
        (shadow,) = [event for event in witness.events if isinstance(event, Shadowed)]
        assert shadow == Shadowed(
            request_id=entry.hold,
            consumer="alice",
            model="fake/small",
            rule="simple-tokens",
            shadow="fake/t3",
            shadow_rule="learned-strong",
            score=0.9,
        )


async def test_a_shadow_that_fails_changes_nothing(fake_upstream: FakeUpstream) -> None:
    class Broken(Scorer):
        def score(self, messages: Sequence[Any]) -> float:
            raise ValueError(messages)

    learned = Learned(strong="fake/t3", weak="fake/small", scorer=Broken())
    async with routing(fake_upstream, {"shadow": "learned", "learned": learned}) as found:
        assert (await answered(found))[0] == 200


MINE: dict[str, Any] = {"model": "fake/t2", "basket": "mine", "rule": "r"}


class Own:
    """A host's own."""

    models = ("fake/t1", "fake/t2")

    def __init__(self, decision: Decision | None) -> None:
        self.decision = decision
        self.asked: list[tuple[Asked, Sequence[Candidate]]] = []

    def decide(self, asked: Asked, candidates: Sequence[Candidate]) -> Decision | None:
        self.asked.append((asked, candidates))
        return self.decision


async def test_a_host_can_decide_itself(fake_upstream: FakeUpstream) -> None:
    policy = Own(Decision(model="fake/t2", basket="mine", rule="r1", version="v", score=float("nan"), reason="a\0b"))
    async with routing(fake_upstream, auto=policy) as found:
        _, headers, _ = await answered(found)
        assert headers["resolved-model"] == "fake/t2"
        assert (headers["basket"], headers["rule-id"], headers["rules-version"]) == ("mine", "r1", "v")
        (entry,) = await check_books(found)
        assert entry.draft.routed is not None
        assert (entry.draft.routed.score, entry.draft.routed.reason) == (None, "a b")
        assert [each.model for each in policy.asked[0][1]] == ["fake/t1", "fake/t2"]
        policy.decision = None
        assert (await answered(found))[0] == 400


class Basket(StrEnum):
    MINE = "mine"


async def test_what_a_host_decides_in_words_and_numbers_of_its_own_kinds_is_kept_as_plain_ones(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    own = {"basket": Basket.MINE, "score": np.float64(0.5), "reason": "a\ud800b", "samples": np.int64(1)}
    decision = Decision(**{**MINE, **own, "features": (("length", np.float32(0.5)),)})
    async with routing(fake_upstream, auto=Own(decision), store=SQLiteStore(tmp_path / "hpp.db")) as found:
        status, explanation = await explained(found)
        assert (status, explanation["basket"], explanation["features"]) == (
            200,
            "mine",
            [{"name": "length", "weight": 0.5}],
        )
        assert (await answered(found))[1]["basket"] == "mine"
        (entry,) = await check_books(found)
        assert entry.draft.routed == Routed(basket="mine", rule="r", score=0.5, reason="a b")


async def test_a_shadow_that_says_what_it_must_not_changes_nothing(fake_upstream: FakeUpstream) -> None:
    class Shady(Own):
        shadow = "own"

        def shadowed(self, _asked: Asked, _candidates: Sequence[Candidate]) -> str:
            return "fake/t1"

    async with routing(fake_upstream, auto=Shady(Decision(**MINE))) as found:
        assert (await answered(found))[0] == 200


@pytest.mark.parametrize(
    "decision",
    [
        Decision(model="fake/t3", basket="mine", rule="r"),
        Decision(model="fake/t1", basket="mine", rule="r"),
        Decision(model="fake/t2", basket="a\r\nX-Evil: 1", rule="r"),
        Decision(model="fake/t2", basket="mine", rule=""),
        Decision(**{**MINE, "basket": None}),
        Decision(**{**MINE, "version": None}),
        Decision(**{**MINE, "tier": 0}),
        Decision(**{**MINE, "score": "high"}),
        Decision(**{**MINE, "reason": None}),
        Decision(**{**MINE, "fallbacks": "fake/t1"}),
        Decision(**{**MINE, "samples": 1.5}),
        Decision(**{**MINE, "answer_tokens": 10**30}),
        "fake/t2",
    ],
)
async def test_what_a_host_must_not_decide_is_its_fault_and_costs_nothing(
    fake_upstream: FakeUpstream, decision: Any
) -> None:
    async with routing(fake_upstream, auto=Own(decision), known={"t1": {"context": 1}}) as found:
        status, _, body = await answered(found)
        assert (status, b"routing policy" in body) == (500, True)
        status, explanation = await explained(found)
        assert (status, explanation["error"]["code"]) == (500, "smart_routing_failed")
        assert await check_books(found) == []
        assert fake_upstream.log == []


@pytest.mark.parametrize(
    ("policy", "named"),
    [({"tool": ("fake/none",)}, "auto.tool"), ({"tiers": {"T2": Tier(models=("fake/t9",))}}, "auto.tiers.T2.models")],
)
def test_a_model_that_there_is_not_is_refused_when_the_gateway_is_built(policy: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        gateway("http://127.0.0.1:1/v1", models=models(), auto=AutoPolicy(**{**POLICY, **policy}))
    assert caught.value.param == named
    assert "is unknown or has no price" in caught.value.message


def test_what_decides_nothing_is_no_policy() -> None:
    with pytest.raises(ConfigurationError, match="auto must have models"):
        gateway("http://127.0.0.1:1/v1", auto="rules")


@pytest.mark.parametrize("named", [None, "fake/t1", (1,), iter(["fake/t1"])], ids=["none", "text", "numbers", "once"])
def test_a_policy_without_models_that_can_be_looked_through_is_refused(named: Any) -> None:
    policy = Own(None)
    policy.models = named
    with pytest.raises(ConfigurationError, match="auto must have models"):
        gateway("http://127.0.0.1:1/v1", models=models(), auto=policy)
