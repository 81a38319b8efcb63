"""``hpprouter/auto`` over the whole path: what is called is what is billed, and how it was chosen is told and kept."""

from collections.abc import Sequence
from typing import Any

import pytest
from rig import ALICE, BOB_KEY, KEY, Delegate, Witness, ask, check_books, chunks, gateway, read

from hpp_middleware import Gateway, RequestError
from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.core.auto import AutoPolicy, Learned, Tier
from hpp_middleware.core.ledger import canonical
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.auto import Asked, Candidate, Decision
from hpp_middleware.types.events import Shadowed
from hpp_middleware.types.operations import Reserve
from hpp_middleware.types.provider import Declared

pytestmark = pytest.mark.anyio

AUTO = "hpprouter/auto"
NANO = {"tool": (1_000, 2_000), "small": (100, 300), "t1": (500, 700), "t2": (5_000, 9_000), "t3": (20_000, 60_000)}
"""Nano-dollars a token in and out."""
POLICY: dict[str, Any] = {
    "rules_version": "2026-11-01",
    "tool": ("fake/tool",),
    "simple": ("fake/small",),
    "simple_keywords": ("summarize", "translate"),
    "simple_max_tokens": 60,
    "margin": 1.1,
    "tiers": {
        "T1": Tier(models=("fake/t1",), max_tokens=500),
        "T2": Tier(models=("fake/t2",), max_tokens=4000),
        "T3": Tier(models=("fake/t3",)),
    },
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
LONG = "word " * 300
HEADERS = ("resolved-model", "basket", "rule-id", "rules-version", "tier")


def models(**known: dict[str, Any]) -> dict[str, Any]:
    return {
        f"fake/{name}": {"input": str(into / 1000), "output": str(out / 1000), **known.get(name, {})}
        for name, (into, out) in NANO.items()
    }


def routing(
    upstream: FakeUpstream, policy: dict[str, Any] | None = None, known: dict[str, Any] | None = None, **settings: Any
) -> Gateway:
    auto = settings.pop("auto", None) or AutoPolicy(**{**POLICY, **(policy or {})})
    return gateway(upstream, models=models(**(known or {})), auto=auto, **settings)


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def answered(found: Gateway, *, key: str = KEY, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Status, what the headers say of the choice, and the body."""
    async with ask(found, key=key, headers=headers, **{"model": AUTO, **fields}) as call:
        status = await call.started()
        body = await call.read()
        await call.returned()
    told = dict(call.headers)
    return status, {name: told.get(f"x-hpp-router-{name}") for name in HEADERS}, body


def told(model: str, basket: str, rule: str, tier: str | None = None) -> dict[str, str | None]:
    return {
        "resolved-model": f"fake/{model}",
        "basket": basket,
        "rule-id": rule,
        "rules-version": "2026-11-01",
        "tier": tier,
    }


CASES: list[Any] = [
    ({"tools": [TOOL]}, told("tool", "tool", "tool")),
    ({"messages": user(LONG + "Translate!")}, told("small", "simple", "simple-keyword")),
    ({}, told("small", "simple", "simple-tokens")),
    ({"messages": user(LONG)}, told("t1", "complex", "complex-T1", "T1")),
    ({"messages": user(LONG * 3)}, told("t2", "complex", "complex-T2", "T2")),
    ({"messages": user(LONG * 12)}, told("t3", "complex", "complex-T3", "T3")),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "expected"), CASES)
async def test_what_is_chosen_is_called_told_billed_and_kept(
    fake_upstream: FakeUpstream, fields: dict[str, Any], expected: dict[str, str | None], *, stream: bool
) -> None:
    async with routing(fake_upstream) as found:
        fake_upstream.next(Script(usage={"prompt_tokens": 31, "completion_tokens": 17, "total_tokens": 48}))
        status, headers, _ = await answered(found, stream=stream, **fields)
        assert (status, headers) == (200, expected)
        (entry,) = await check_books(found)
        name = str(expected["resolved-model"]).partition("/")[2]
        assert fake_upstream.log[-1].json()["model"] == name
        assert entry.amount == 31 * NANO[name][0] + 17 * NANO[name][1]
        assert (entry.draft.model, entry.draft.requested_model) == (f"fake/{name}", AUTO)
        assert entry.draft.policy == "2026-11-01"
        audit = await read(found, f"/api/user/audit/{entry.hold}")
        assert audit["routing"] == {
            "basket": expected["basket"],
            "rule": expected["rule-id"],
            "version": "2026-11-01",
            "tier": expected["tier"],
            "score": None,
            "reason": audit["routing"]["reason"],
        }
        assert audit["routing"]["reason"]
        assert b'"routed":{"basket":' in canonical(entry)


async def test_the_answer_names_the_model_that_was_called(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        async with ask(found, model=AUTO) as call:
            assert (await call.json())["model"] == "fake/small"
        async with ask(found, model=AUTO, stream=True) as call:
            assert {each["model"] for each in chunks(await call.read())[:-1]} == {"fake/small"}


async def test_a_model_that_the_client_names_is_not_said_to_be_chosen(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        _, headers, _ = await answered(found, model="fake/t2")
        assert headers == {"resolved-model": "fake/t2", **dict.fromkeys(HEADERS[1:])}
        (entry,) = await check_books(found)
        assert entry.draft.routed is None
        assert b"routed" not in canonical(entry)
        assert (await read(found, f"/api/user/audit/{entry.hold}"))["routing"] is None


async def test_the_hold_is_by_the_price_of_the_chosen_model(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream, nano=500_000) as found:
        assert (await answered(found))[0] == 200
        status, _, body = await answered(found, messages=user(LONG * 12))
        assert (status, b"insufficient_quota" in body) == (429, True)


async def test_a_provider_that_fails_is_told_with_what_was_chosen(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        fake_upstream.next(Script(status=503))
        status, headers, _ = await answered(found)
        assert (status, headers) == (502, told("small", "simple", "simple-tokens"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/llm/v1/messages", {"max_tokens": 100, "messages": user("Hi"), "tools": [{"name": "f", "input_schema": {}}]}),
        (
            "/llm/v1/responses",
            {"input": "Hi", "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
        ),
    ],
)
async def test_other_apis_are_classified_as_the_chats_that_they_are(
    fake_upstream: FakeUpstream, path: str, body: dict[str, Any], *, stream: bool
) -> None:
    async with routing(fake_upstream) as found:
        for tools, expected in ((body["tools"], "fake/tool"), ([], "fake/small")):
            asked = {**body, "model": AUTO, "tools": tools, "stream": stream}
            async with post(found.app, path, asked, headers={"apikey": KEY}, ahead=0) as call:
                assert await call.started() == 200, await call.read()
                await call.read()
                await call.returned()
            assert dict(call.headers)["x-hpp-router-resolved-model"] == expected
        assert [entry.draft.model for entry in await check_books(found)] == ["fake/tool", "fake/small"]


async def test_what_cannot_be_said_as_a_chat_goes_to_whom_takes_it_as_it_is(fake_upstream: FakeUpstream) -> None:
    body = {"model": AUTO, "input": "Hi", "previous_response_id": "resp_1"}
    async with routing(fake_upstream) as found:
        with pytest.raises(RequestError) as caught:
            await found.complete(ALICE, body, api=RESPONSES)
        assert caught.value.code in {"smart_routing_failed", "invalid_request"}


@pytest.mark.parametrize("path", ["/llm/v1/embeddings", "/llm/v1/images/generations"])
async def test_what_is_no_chat_is_not_routed(fake_upstream: FakeUpstream, path: str) -> None:
    body = {"model": AUTO, "input": "Hi", "prompt": "Hi"}
    wanted = {"model", "input"} if "embeddings" in path else {"model", "prompt"}
    async with routing(fake_upstream) as found:
        asked = {name: value for name, value in body.items() if name in wanted}
        async with post(found.app, path, asked, headers={"apikey": KEY}) as call:
            assert await call.started() == 400
            assert (await call.json())["error"]["code"] == "smart_routing_failed"


async def test_tokens_of_a_prompt_can_be_counted_for_it(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        body = {"model": AUTO, "messages": user("Hi there")}
        async with post(found.app, "/v1/messages/count_tokens", body, headers={"apikey": KEY}) as call:
            assert (await call.json())["input_tokens"] > 0


# --- nothing is left ------------------------------------------------------------------------------


async def test_nothing_configured_is_refused_as_ever(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        status, _, body = await answered(found)
        assert (status, b"smart_routing_failed" in body) == (400, True)
        assert fake_upstream.log == []


async def test_nothing_left_is_a_400_that_says_why_for_each(fake_upstream: FakeUpstream) -> None:
    known = {name: {"tool": False} for name in NANO} | {"t1": {"context": 10}}
    async with routing(fake_upstream, known=known) as found:
        async with ask(found, model=AUTO, tools=[TOOL]) as call:
            assert await call.started() == 400
            error = (await call.json())["error"]
        assert (error["code"], error["param"]) == ("smart_routing_failed", "model")
        assert error["availability"]["fake/tool"] == "it cannot call tools"
        assert "its context of 10 tokens is too small" in error["availability"]["fake/t1"]
        assert error["availability"].keys() == {f"fake/{name}" for name in NANO}
        assert "fake/t3: it cannot call tools" in error["message"]
        assert await check_books(found) == []
        assert fake_upstream.log == []


async def test_a_key_is_given_what_it_may_use_and_else_nothing(fake_upstream: FakeUpstream) -> None:
    consumers = {
        "alice": Declared(quota=10**10, keys=(KEY,), models=("fake/t?",)),
        "bob": Declared(quota=10**10, keys=(BOB_KEY,), models=("other/*",)),
    }
    async with routing(fake_upstream, consumers=consumers) as found:
        assert (await answered(found))[1]["resolved-model"] == "fake/t1"
        status, _, body = await answered(found, key=BOB_KEY)
        assert (status, b"smart_routing_failed" in body, b"this key may not use it" in body) == (400, True, True)


async def test_an_unhealthy_model_is_passed_over_until_it_is_well(fake_upstream: FakeUpstream) -> None:
    ill = {"fake/small"}
    async with routing(fake_upstream, unhealthy=ill.__contains__) as found:
        assert (await answered(found))[1]["resolved-model"] == "fake/t1"
        ill.clear()
        assert (await answered(found))[1]["resolved-model"] == "fake/small"


async def test_a_data_policy_is_kept_whoever_asks_for_it(fake_upstream: FakeUpstream) -> None:
    consumers = {
        "alice": Declared(quota=10**10, keys=(KEY,)),
        "bob": Declared(quota=10**10, keys=(BOB_KEY,), requires=("eu",)),
    }
    known = {"t2": {"tags": ("eu", "zdr")}, "t1": {"tags": ("eu",)}}
    async with routing(fake_upstream, known=known, consumers=consumers) as found:
        assert (await answered(found))[1]["resolved-model"] == "fake/small"
        assert (await answered(found, key=BOB_KEY))[1]["resolved-model"] == "fake/t1"
        require = {"X-HPP-Router-Require": "eu, zdr"}
        assert (await answered(found, headers=require))[1]["resolved-model"] == "fake/t2"
        assert (await answered(found, headers={"X-HPP-Router-Require": "moon"}))[0] == 400


# --- streams, conversations, policies -------------------------------------------------------------


async def test_streams_go_to_the_fallback_where_it_is_set(fake_upstream: FakeUpstream) -> None:
    policy = {"streaming": "fallback", "streaming_fallback": "fake/t2"}
    async with routing(fake_upstream, policy) as found:
        _, headers, _ = await answered(found, stream=True, tools=[TOOL])
        assert headers == told("t2", "streaming-fallback", "streaming-fallback")
        assert (await answered(found, tools=[TOOL]))[1] == told("tool", "tool", "tool")


TALK = [*user("Hi"), {"role": "assistant", "content": "Yes?"}, *user(LONG)]


async def test_a_conversation_keeps_its_model_as_long_as_it_can(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream, known={"small": {"context": 1_500}}) as found:
        assert (await answered(found, messages=TALK))[1]["resolved-model"] == "fake/t1"  # nothing is known of it
        assert (await answered(found))[1]["resolved-model"] == "fake/small"
        assert (await answered(found, messages=TALK))[1] == told("small", "simple", "simple-tokens")
        assert (await answered(found, key=BOB_KEY, messages=TALK))[1]["resolved-model"] == "fake/t1"
        longer = [*TALK, {"role": "assistant", "content": LONG * 3}, *user("So?")]
        assert (await answered(found, messages=longer))[1] == told("t2", "complex", "complex-T2", "T2")
        assert (await answered(found, messages=TALK))[1]["resolved-model"] == "fake/t2"


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


@pytest.mark.parametrize(
    "decision",
    [
        Decision(model="fake/t3", basket="mine", rule="r"),
        Decision(model="fake/t1", basket="mine", rule="r"),
        Decision(model="fake/t2", basket="a\r\nX-Evil: 1", rule="r"),
        Decision(model="fake/t2", basket="mine", rule=""),
    ],
)
async def test_what_a_host_must_not_decide_is_its_fault_and_costs_nothing(
    fake_upstream: FakeUpstream, decision: Decision
) -> None:
    async with routing(fake_upstream, auto=Own(decision), known={"t1": {"context": 1}}) as found:
        status, _, body = await answered(found)
        assert (status, b"routing policy" in body) == (500, True)
        assert await check_books(found) == []
        assert fake_upstream.log == []


@pytest.mark.parametrize(
    ("policy", "named"),
    [({"tool": ("fake/none",)}, "auto.tool"), ({"tiers": {"T2": Tier(models=("no/t1",))}}, "auto.tiers.T2.models")],
)
def test_a_model_that_there_is_not_is_refused_when_the_gateway_is_built(policy: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        gateway("http://127.0.0.1:1/v1", models=models(), auto=AutoPolicy(**{**POLICY, **policy}))
    assert caught.value.param == named
    assert "is unknown or has no price" in caught.value.message


def test_what_decides_nothing_is_no_policy() -> None:
    with pytest.raises(ConfigurationError, match="auto must have models"):
        gateway("http://127.0.0.1:1/v1", auto="rules")


# --- to explain, and to list ----------------------------------------------------------------------


async def explained(found: Gateway, key: str | None = KEY, path: str = "/llm/v1/route", **fields: Any) -> Any:
    body = {"model": AUTO, "messages": user("Hi"), **fields}
    async with post(found.app, path, body, headers={"apikey": key} if key else {}) as call:
        return await call.started(), await call.json()


@pytest.mark.parametrize("path", ["/llm/v1/route", "/v1/route"])
async def test_what_would_be_chosen_is_told_and_nothing_is_done(fake_upstream: FakeUpstream, path: str) -> None:
    async with routing(fake_upstream, known={"t2": {"context": 5}}) as found:
        status, told = await explained(found, path=path, max_tokens=50)
        assert status == 200
        assert (told["model"], told["basket"], told["rule"]) == ("fake/small", "simple", "simple-tokens")
        by_model = {each["model"]: each for each in told["candidates"]}
        assert by_model.keys() == {f"fake/{name}" for name in NANO}
        assert by_model["fake/small"] == {
            "model": "fake/small",
            "eligible": True,
            "chosen": True,
            "why_not": [],
            "estimated_input_tokens": 1,
            "estimated_cost": pytest.approx((1 * 100 + 50 * 300) / 10**9),
        }
        assert by_model["fake/t2"]["why_not"] == ["its context of 5 tokens is too small for 1 and an answer of 50"]
        assert (await found.balance(ALICE)).requests == 0
        assert await check_books(found) == []
        assert fake_upstream.log == []


async def test_what_is_explained_is_what_is_done(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        for fields, expected in CASES:
            _, told = await explained(found, **fields)
            assert told["model"] == expected["resolved-model"]
            assert (told["basket"], told["rule"], told["tier"]) == (
                expected["basket"],
                expected["rule-id"],
                expected["tier"],
            )
        assert (await explained(found, messages=TALK))[1]["model"] == "fake/t1"  # nothing was remembered


async def test_to_explain_needs_a_key_and_a_request_and_says_where_nothing_is_left(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream, known={name: {"tool": False} for name in NANO}) as found:
        assert (await explained(found, key=None))[0] == 401
        assert (await explained(found, messages=[]))[0] == 400
        status, told = await explained(found, tools=[TOOL])
        assert (status, told["model"]) == (200, None)
        assert {each["eligible"] for each in told["candidates"]} == {False}
        assert "it cannot call tools" in told["reason"]


async def test_a_model_that_is_named_is_explained_too(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        status, told = await explained(found, model="fake/t3")
        assert (status, told["model"], told["policy"], told["rule"]) == (200, "fake/t3", "direct", "direct")
        assert (await explained(found, model="fake/none"))[1]["error"]["code"] == "unsupported_model"
    async with gateway(fake_upstream) as found:
        assert (await explained(found))[1]["error"]["code"] == "smart_routing_failed"


async def test_it_is_listed_first_where_it_is_configured(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        data = (await read(found, "/llm/v1/models"))["data"]
        assert [each["id"] for each in data] == [AUTO, *(f"fake/{name}" for name in NANO)]
        assert data[0]["pricing"] is None
        assert data[0].keys() == data[1].keys()
        assert await read(found, f"/llm/v1/models/{AUTO}") == data[0]
    async with gateway(fake_upstream) as found:
        assert AUTO not in {each["id"] for each in (await read(found, "/llm/v1/models"))["data"]}
