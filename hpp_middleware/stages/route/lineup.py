"""
The line-up: whom a request may be asked of, in order, and what each must pass before it is.

The first that can be asked is planned before anything is held. The others are looked at only when their turn comes:
each then has to pass every gate that the first has, and those of ``hpprouter/auto`` besides.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from hpp_middleware.apis.chat import CHAT
from hpp_middleware.core import preferences, route
from hpp_middleware.core.auto import facts, filters
from hpp_middleware.errors import RequestError, UpstreamError, UpstreamUnavailableError
from hpp_middleware.ports import API
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stages.route import auto, speak
from hpp_middleware.stages.route.auto import Chosen
from hpp_middleware.stages.setup.setup import Setup
from hpp_middleware.stages.upstream.health import Health
from hpp_middleware.types.auto import AUTO, Asked, Hints
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.preferences import Preferences

__all__ = ["Lineup", "explain"]


class Lineup:
    """
    One request's.

    Args:
        setup: The gateway's.
        api: What the client speaks.
        request: What it asks, in that API's words.
        consumer: Whose key may not use every model.
        chosen: The model that it named, or that was chosen for it.
        health: Knows whom to leave alone.
        request_id: Ours.
        within: A provider, whose models are named without it.
        hints: What the client says beside its body.
        lower: What it asks of the deadlines.
        anyway: Do not refuse it where all are left alone: it may have been answered before, and is then not sent.

    Attributes:
        setup: The gateway's.
        api: What the client speaks.
        consumer: Who asks.
        chosen: The model that was named or chosen.
        request: What is asked, as the client has written it.
        targets: Whom it may be asked of, in order.
        passed_over: Why a model was not asked, by its id.

    Raises:
        RequestError: 400 or 403: it names a model that there is not, or that it may not use; or nobody is left whom its
            ``provider`` lets through.
    """

    _facts: tuple[Asked, RequestError | None] | None = None

    def __init__(
        self,
        setup: Setup,
        api: API,
        request: Request,
        consumer: Consumer,
        chosen: Chosen,
        *,
        health: Health,
        request_id: str,
        within: str | None = None,
        hints: Hints | None = None,
        lower: Deadlines | None = None,
        anyway: bool = False,
    ) -> None:
        self.setup = setup
        self.api = api
        self.request = request
        self.consumer = consumer
        self.chosen = chosen
        self._request_id = request_id
        self._hints = hints
        self._lower = lower
        self._anyway = anyway
        self._health = health
        ceilings = setup.ceilings  # all attempts are charged in the periods of this moment, however long they take
        self._now = ceilings.now if ceilings.budgets else None
        self.passed_over: dict[str, str] = {}
        self.targets: Sequence[Target] = (chosen.target,)
        if setup.fallbacks or request.models or request.preferences is not None or chosen.then:
            self.targets = self._all(chosen, within)
        self._at = 0  # how many targets were looked at
        self._upstreams: Sequence[Target] = ()  # of the last of them, those that are left

    def first(self) -> Plan:
        """
        The plan of the first target that can be asked.

        Raises:
            RequestError: Why the first one cannot, where none can.
            UpstreamError: 503: none of them is to be asked at the moment.
        """
        refusal: RequestError | UpstreamError | None = None
        while (plan := self._look()) is not None:
            if isinstance(plan, Plan):
                return plan
            refusal = plan if refusal is None or isinstance(refusal, UpstreamError) else refusal
        if self._anyway and isinstance(refusal, UpstreamError):
            tried = self._tried(self._health.anyhow(self.targets[0]), anyway=True)
            if isinstance(tried, Plan):
                return tried
            refusal = tried
        assert refusal is not None  # noqa: S101  # there is at least one target, which is a plan or a refusal
        raise refusal

    def next(self) -> Plan | None:
        """The next one behind those that can be asked; None where there is none left."""
        while (plan := self._look()) is not None:
            if isinstance(plan, Plan):
                return plan
        return None

    def second(self, target: Target) -> Plan | None:
        """How a stronger model is asked behind the first; None where it is not to be, or cannot be told all of it."""
        wanted = self.request.preferences
        if wanted is not None:
            named = {each.id for each in self.targets}
            if not preferences.applied([target], wanted, self.request, named=named, ranked=list)[0]:
                return None
        for upstream in self._health.targets(target, stream=False):
            with suppress(RequestError):
                return self.plan(upstream)
        return None

    def told(self) -> list[dict[str, str | None]]:
        """
        Each model in its order, and why it would not be asked, if it would not; those come last that were left out.

        Raises:
            RequestError: As :meth:`first`.
            UpstreamError: Likewise.
        """
        self.first()
        while self.next() is not None:
            pass
        ids = dict.fromkeys((*(target.id for target in self.targets), *self.passed_over))
        return [{"model": each, "why_not": self.passed_over.get(each)} for each in ids]

    def otherwise(self, chosen: Chosen) -> "Lineup":
        """That of the same request, where another model is chosen for it."""
        return Lineup(
            self.setup,
            self.api,
            self.request,
            self.consumer,
            chosen,
            health=self._health,
            request_id=self._request_id,
            hints=self._hints,
            lower=self._lower,
            anyway=self._anyway,
        )

    def has_others(self) -> bool:
        """Whether there is anybody behind those that were planned."""
        return bool(self._upstreams) or self._at < len(self.targets)

    def _look(self) -> Plan | RequestError | UpstreamError | None:
        """A plan for the next upstream of the next target, or why there is none; None where all were looked at."""
        while self._upstreams:
            upstream, *self._upstreams = self._upstreams
            if not self._health.admits(upstream.key, upstream.model_name):  # else it has failed meanwhile
                return self._tried(upstream)
        if self._at == len(self.targets):
            return None
        target = self.targets[self._at]
        self._at += 1
        upstreams = self._health.targets(target, stream=self.request.stream)
        if self.request.preferences is not None:
            upstreams = self._affordable(upstreams, self.request.preferences)
        if not upstreams:
            return self._unhealthy(target)
        if len(upstreams) > 1:
            self._upstreams = upstreams[1:]
        return self._tried(upstreams[0])

    def _affordable(self, upstreams: list[Target], wanted: Preferences) -> list[Target]:
        """Those that do not cost more than the client is willing to pay; all of them, where each does."""
        return [each for each in upstreams if preferences.too_dear(each, wanted, self.request) is None] or upstreams

    def _tried(self, target: Target, *, anyway: bool = False) -> Plan | RequestError:
        try:
            if target.id != self.chosen.target.id:  # that one is what the client has named, or has passed them
                self.check(target, anyway=anyway)
            return self.plan(target)
        except RequestError as error:
            self.passed_over[target.id] = error.message.rstrip(".")
            self._upstreams = ()  # it is the same for each of them
            return error

    def _unhealthy(self, target: Target) -> UpstreamError:
        self.passed_over[target.id] = "it is to be left alone at the moment"
        return UpstreamUnavailableError(target.provider_name, self._health.wait_s(target))

    def plan(self, target: Target) -> Plan:
        """
        How a target is asked.

        Raises:
            RequestError: It cannot be told all of the request.
        """
        setup, chosen, wanted = self.setup, self.chosen, self.request.preferences
        request, dialect = self.request, setup.dialects[target.provider.dialect]
        if self.api.name != "chat":
            request, dialect = speak.said(self.api, request, target, setup.dialects, setup.limits)
        plan = Plan(
            request,
            target,
            dialect,
            request_id=self._request_id,
            limits=setup.limits,
            orphan=setup.orphan,
            tokenizer=setup.tokenizer,
            routed=chosen.routed,
            lower=self._lower,
            scope=setup.ceilings.of(self.consumer, target.id, self._now),
            downgraded=chosen.downgraded,
            clamp_floor=setup.clamp_floor(self.consumer),
        )
        if wanted is not None:
            self._refuse_unwanted(plan, target, wanted)
        return plan

    def _refuse_unwanted(self, plan: Plan, target: Target, wanted: Preferences) -> None:
        if target.upstream is not None:
            dear = preferences.too_dear(target, wanted, self.request)
            if dear is not None:
                raise RequestError(f"{target.id}: {dear}.", code="unsupported_model", param="provider")
        if wanted.require_parameters:
            if plan.dropped:
                raise RequestError(f"{target.id} cannot be told {', '.join(plan.dropped)}.", param=plan.dropped[0])
            self.check(target)

    def check(self, target: Target, *, anyway: bool = False) -> None:
        """
        Every gate that a model passes which ``hpprouter/auto`` chooses.

        Args:
            target: The model.
            anyway: Though it may not be healthy.
        Raises:
            RequestError: It does not pass; why.
        """
        if self.request.api in {"embeddings", "images"}:
            route.check(self.request, self.consumer, target)
            return
        asked, unsaid = self._asked()
        native = unsaid is not None and speak.is_native(self.api, target, self.setup.dialects)
        found = filters.candidate(
            target.id,
            asked,
            self.request,
            self.consumer,
            self.setup.catalog.find(target.id),
            limits=self.setup.limits,
            unhealthy=self.setup.unhealthy if not anyway else None,
            unsaid=None if native else unsaid,
        )
        if not found.eligible:
            raise RequestError(f"{target.id}: {'; '.join(found.why_not)}.", param="model")

    def _asked(self) -> tuple[Asked, RequestError | None]:
        """The request's facts, and why it cannot be said as a chat completion, if it cannot."""
        if self._facts is None:
            declared = self.setup.consumers.get(self.consumer.id)
            requires = self._hints.requires if self._hints is not None else frozenset()
            self._facts = facts.of(
                self.api.as_chat,
                self.request,
                self.setup.limits,
                requires=requires if declared is None else requires | frozenset(declared.requires),
            )
        return self._facts

    def _all(self, chosen: Chosen, within: str | None) -> Sequence[Target]:
        request, setup = self.request, self.setup
        named = [self._named(each.model, each.where, within) for each in request.models]
        behind = [*chosen.then, *named]
        if not request.models and request.model != AUTO and within is None:
            # Those of the model that was asked for are as dear as it is, where that is too dear.
            asked = setup.fallbacks.get(request.model) if not chosen.downgraded else None
            models = asked or setup.fallbacks.get(chosen.target.id, ())
            behind = [target for each in models if (target := setup.catalog.find(each)) is not None]
        targets = {target.id: target for target in (*reversed(behind), chosen.target)}  # of two, the first
        ids = dict.fromkeys(target.id for target in (chosen.target, *behind))
        lined_up = [targets[each] for each in ids]
        if request.preferences is None:
            return lined_up
        preferences.known(request.preferences, setup.catalog.providers, setup.catalog.find)
        # A cheaper model is a budget's choice: no request has named it, but one that leaves the choice to the router.
        own = () if chosen.downgraded is not None and request.model != AUTO else (chosen.target,)
        found, self.passed_over = preferences.applied(
            lined_up,
            request.preferences,
            request,
            named={target.id for target in (*own, *named)},
            ranked=lambda targets: sorted(targets, key=self._slowness),
        )
        if not found:
            why = ". ".join(f"{model}: {reason}" for model, reason in self.passed_over.items())
            error = RequestError(
                f"No model is left that provider lets through. {why}.", code="unsupported_model", param="provider"
            )
            error.availability = self.passed_over
            raise error
        return found

    def _slowness(self, target: Target) -> float:
        """How long it takes to begin an answer, or to write a token; what nobody has measured is as good as any."""
        request = self.request
        by_rate = request.preferences is not None and request.preferences.sort == "throughput"
        slow = self._health.token_s if by_rate else self._health.pace_s
        return slow(target, stream=request.stream) or 0.0

    def _named(self, model: str, where: str, within: str | None) -> Target:
        """
        A model that the request names besides.

        Raises:
            RequestError: 400 or 403; ``param`` is its place.
        """
        asked = msgspec.structs.replace(self.request, model=model)
        try:
            return route.resolve(asked, self.consumer, self.setup.catalog, within=within)
        except RequestError as error:
            error.args = (f"{where}: {error.message}",)
            error.message, error.param = f"{where}: {error.message}", where
            raise


def explain(setup: Setup, request: Request, consumer: Consumer, *, hints: Hints, health: Health) -> dict[str, Any]:
    """
    Where a chat completion would go, and why, and whom it would be asked of then; nothing is held, forwarded or
    remembered.

    Raises:
        RequestError: 400 or 403: the client names a model that it cannot have; nothing is configured; or no model that
            would be called can be told all of the request.
        UpstreamError: 503: none of them is to be asked at the moment.
    """
    told = auto.explain(setup.auto, setup.catalog, request, consumer, CHAT, limits=setup.limits, hints=hints)
    target = setup.catalog.find(told["model"]) if told["model"] is not None else None
    if target is None:
        return told | {"chain": []}
    then = (setup.catalog.find(each) for each in told["fallbacks"])
    chosen = Chosen(target=target, then=tuple(each for each in then if each is not None))
    lineup = Lineup(setup, CHAT, request, consumer, chosen, health=health, request_id="", hints=hints)
    chain = lineup.told()
    at = next(at for at, each in enumerate(chain) if each["why_not"] is None)
    model, again = chain[at]["model"], told["escalation"]
    stronger = setup.catalog.find(again) if again is not None else None
    if stronger is None or model != target.id or lineup.second(stronger) is None:
        return told | {"model": model, "chain": chain, "escalation": None}
    cascade = [*chain[: at + 1], {"model": stronger.id, "why_not": None}]  # it takes the place of all fallbacks
    return told | {"model": model, "chain": cascade}
