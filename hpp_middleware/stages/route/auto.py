"""
Auto: ``hpprouter/auto`` becomes a model, before anything is held.

The policy decides, and is pure; here it is given its candidates, and what the conversation had before, which is kept
for a while in this process only: another process, or one that starts anew, decides afresh.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from cachetools import TTLCache

from hpp_middleware.core import route
from hpp_middleware.core.auto import AutoPolicy, explained, facts, filters, sound
from hpp_middleware.core.raised_at import raised_at
from hpp_middleware.errors import ConfigurationError, GatewayError, RequestError
from hpp_middleware.ports import API, Dialect, RoutingPolicy
from hpp_middleware.stages.route import speak
from hpp_middleware.types.auto import AUTO, Asked, Candidate, Decision, Hints, Routed
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.events import Shadowed
from hpp_middleware.types.provider import Declared, Limits

__all__ = ["Auto", "Chosen", "explain", "resolve"]

KEPT = 10_000
"""So many conversations are remembered, the latest."""

MOST_SAMPLES = 2
"""More often no model is asked for one answer, whatever a host's policy says."""

KEPT_S = 3600.0
"""For so long after its last turn; no provider's prompt cache lasts longer."""

_logger = logging.getLogger("hpp_middleware")
_APIS = frozenset({"chat", "messages", "responses"})


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a request goes.

    Attributes:
        target: The model.
        then: What else may answer, in order, where it does not.
        routed: How it was chosen; None where the client named it.
        shadow: What another policy would have chosen.
        escalation: Whom to ask where its answer is found wanting; None to take it as it is.
        downgraded: The budget that had no room for the model that was to be asked before; None where there was none.
        tried: The models that there was no room for.
        samples: How often it is asked itself before its answer is believed, where there is an ``escalation``.
    """

    target: Target
    then: tuple[Target, ...] = ()
    routed: Routed | None = None
    shadow: Callable[[str], Shadowed] | None = None
    escalation: Target | None = None
    downgraded: str | None = None
    tried: tuple[str, ...] = ()
    samples: int = 1

    @property
    def more_s(self) -> float:
        """For how much longer its hold is to last, should the answer be asked for again."""
        if self.escalation is None:
            return 0.0
        return self.escalation.provider.timeouts.total + (self.samples - 1) * self.target.provider.timeouts.total


class Auto:
    """
    A gateway's own choice of models.

    Args:
        policy: Decides.
        catalog: What there is.
        dialects: By name.
        limits: Bounds on requests.
        consumers: Whose data policies the configuration declares.
        unhealthy: Whether a model is to be passed over for now, as the host says.
        resting: Whether all its upstreams are left alone for now.

    Raises:
        ConfigurationError: The policy names a model that is unknown here, or has no price.
    """

    def __init__(
        self,
        policy: RoutingPolicy,
        catalog: route.Catalog,
        dialects: Mapping[str, Dialect],
        limits: Limits,
        consumers: Mapping[str, Declared],
        *,
        unhealthy: Callable[[str], bool] | None = None,
        resting: Callable[[str], bool] | None = None,
    ) -> None:
        if not callable(getattr(policy, "decide", None)) or not _are_names(getattr(policy, "models", None)):
            raise ConfigurationError("auto must have models, and a decide(asked, candidates)", param="auto")
        self.policy = policy
        self._catalog = catalog
        self._dialects = dialects
        self._limits = limits
        self._consumers = consumers
        self._unhealthy = unhealthy
        self._resting = resting
        load = getattr(policy, "load", None)
        if load is not None:
            load()
        self._kept: TTLCache[bytes, Decision] = TTLCache(KEPT, KEPT_S)
        self._lock = threading.Lock()
        for where, models in getattr(policy, "named", (("models", policy.models),)):
            for model in models:
                if catalog.find(model) is None:
                    raise ConfigurationError(f"auto.{where}: {catalog.missing(model)}", param=f"auto.{where}")

    @property
    def is_configured(self) -> bool:
        """Whether there is a model to choose."""
        return bool(self.policy.models)

    def choose(
        self,
        request: Request,
        consumer: Consumer,
        api: API,
        hints: Hints,
        *,
        turn: bool = True,
        anyway: bool = False,
    ) -> Chosen:
        """
        A model for a request.

        Args:
            request: What is asked.
            consumer: Whose key may not use every model.
            api: What it is written in.
            hints: What the client says beside its body.
            turn: Whether it is a turn of a conversation, to be remembered.
            anyway: Whether it may have been answered before, so that one is chosen though all are left alone for now.
        Raises:
            RequestError: 400 ``smart_routing_failed``: no model can answer.
        """
        asked, conversation, candidates = self._read(request, consumer, api, hints)
        decision = self._decided(asked, candidates)
        if decision is None and anyway:
            asked, _, at_rest = self._read(request, consumer, api, hints, rested=True)
            decision, turn = self._decided(asked, at_rest), False
            candidates = at_rest if decision is not None else candidates
        if decision is None:
            raise explained.failed(candidates)
        if turn:
            with self._lock:
                self._kept[conversation] = decision
        targets = {each.model: each.target for each in candidates if each.eligible}
        target = targets[decision.model]
        assert target is not None  # noqa: S101  # what is eligible is known
        return Chosen(
            target=target,
            then=tuple(found for each in decision.fallbacks if (found := targets.get(each)) is not None),
            routed=sound.routed(decision),
            shadow=self._shadow(asked, candidates, consumer, decision),
            escalation=_stronger(request, decision, candidates),
            samples=max(1, min(MOST_SAMPLES, decision.samples)),
        )

    def explain(self, request: Request, consumer: Consumer, api: API, hints: Hints) -> dict[str, Any]:
        """What :meth:`choose` would choose, and why; nothing is remembered."""
        asked, _, candidates = self._read(request, consumer, api, hints)
        decision = self._decided(asked, candidates)
        policy = getattr(self.policy, "policy", "own")
        stronger = None if decision is None else _stronger(request, decision, candidates)
        escalation = None if stronger is None else stronger.id
        return explained.explained(request.model, policy, asked, candidates, decision, escalation=escalation)

    def _read(
        self, request: Request, consumer: Consumer, api: API, hints: Hints, *, rested: bool = False
    ) -> tuple[Asked, bytes, list[Candidate]]:
        if api.name not in _APIS:
            raise RequestError(
                f"{AUTO} answers chats; name a model for {api.name}.", code="smart_routing_failed", param="model"
            )
        requires = self._requires(consumer, hints)
        asked, unsaid = facts.of(api.as_chat, request, self._limits, requires=requires)
        models = dict.fromkeys(self.policy.models)
        if unsaid is not None and models and not any(self._takes(model, api) for model in models):
            raise unsaid  # whichever is chosen: it is the client's to mend, and says where
        session = _session(request, hints)
        conversation = facts.conversation(consumer.id, asked.messages, session)
        if session is not None or facts.goes_on(asked.messages):
            with self._lock:
                asked = msgspec.structs.replace(asked, before=self._kept.get(conversation))
        candidates = [
            filters.candidate(
                model,
                asked,
                request,
                consumer,
                self._catalog.find(model),
                limits=self._limits,
                unhealthy=self._unhealthy if rested else self._passed_over,
                unsaid=unsaid if unsaid is not None and not self._takes(model, api) else None,
            )
            for model in models
        ]
        return asked, conversation, candidates

    def _passed_over(self, model: str) -> bool:
        unhealthy, resting = self._unhealthy, self._resting
        return (unhealthy is not None and unhealthy(model)) or (resting is not None and resting(model))

    def _takes(self, model: str, api: API) -> bool:
        """Whether a model's provider takes requests of this API as they are."""
        target = self._catalog.find(model)
        return target is not None and speak.is_native(api, target, self._dialects)

    def _requires(self, consumer: Consumer, hints: Hints) -> frozenset[str]:
        declared = self._consumers.get(consumer.id)
        return hints.requires if declared is None else hints.requires | frozenset(declared.requires)

    def _decided(self, asked: Asked, candidates: list[Candidate]) -> Decision | None:
        """
        What the policy says, if it can be followed.

        Raises:
            GatewayError: 500: a host's policy chose what cannot answer, or says what no header can.
        """
        if not any(each.eligible for each in candidates):
            return None
        decision = self.policy.decide(asked, candidates)
        if decision is None:
            return None
        if type(self.policy) is not AutoPolicy:
            decision = sound.sound(decision)
        if not any(each.eligible and each.model == decision.model for each in candidates):
            raise GatewayError("The routing policy chose a model that cannot answer.", code="smart_routing_failed")
        return decision

    def _shadow(
        self, asked: Asked, candidates: list[Candidate], consumer: Consumer, decision: Decision
    ) -> Callable[[str], Shadowed] | None:
        if getattr(self.policy, "shadow", None) is None:
            return None
        try:
            other = self.policy.shadowed(asked, candidates)  # type: ignore[attr-defined]  # of ours, and of who has one
            if other is not None and type(self.policy) is not AutoPolicy:
                other = sound.sound(other)
        except Exception as error:  # noqa: BLE001  # what is only looked at must not fail the request
            where = type(error).__name__, raised_at(error)
            _logger.error("a shadow policy failed: %s%s", *where)  # noqa: TRY400  # its text may hold anything
            return None
        score = decision.score if decision.score is not None else other.score if other is not None else None

        def told(request_id: str) -> Shadowed:
            return Shadowed(
                request_id=request_id,
                consumer=consumer.id,
                model=decision.model,
                rule=decision.rule,
                shadow=other.model if other is not None else None,
                shadow_rule=other.rule if other is not None else None,
                score=score,
            )

        return told


def resolve(
    auto: Auto | None,
    catalog: route.Catalog,
    request: Request,
    consumer: Consumer,
    api: API,
    *,
    within: str | None = None,
    hints: Hints | None = None,
    turn: bool = True,
    anyway: bool = False,
) -> Chosen:
    """
    Where a request goes, whoever chooses.

    Args:
        auto: The gateway's own choice; None where nothing is configured.
        catalog: What there is.
        request: What is asked.
        consumer: Whose key may not use every model.
        api: What it is written in.
        within: A provider, whose model is named without it.
        hints: What the client says beside its body.
        turn: Whether it is a turn of a conversation, to be remembered.
        anyway: See :meth:`Auto.choose`.
    Raises:
        RequestError: 400 ``unsupported_model`` or ``smart_routing_failed``; 403 ``model_not_allowed``.
    """
    if request.model != AUTO or within is not None:
        return Chosen(target=route.resolve(request, consumer, catalog, within=within))
    if auto is None:
        raise route.unconfigured()
    return auto.choose(request, consumer, api, hints or Hints(), turn=turn, anyway=anyway)


def explain(
    auto: Auto | None,
    catalog: route.Catalog,
    request: Request,
    consumer: Consumer,
    api: API,
    *,
    limits: Limits,
    hints: Hints,
) -> dict[str, Any]:
    """
    Which model a request names, or would be given, and why; nothing is remembered.

    Raises:
        RequestError: 400 or 403: the client names a model that it cannot have; or nothing is configured.
    """
    if request.model != AUTO:
        target = route.resolve(request, consumer, catalog)
        asked = facts.asked(request)  # whom a client names need not have the tags that it asks for
        found = filters.candidate(target.id, asked, request, consumer, target, limits=limits)
        return explained.explained(request.model, "direct", asked, [found], explained.direct(target.id))
    if auto is None:
        raise route.unconfigured()
    return auto.explain(request, consumer, api, hints)


def _are_names(models: object) -> bool:
    """Whether they are texts, in something that can be looked through more than once."""
    if not isinstance(models, Collection) or isinstance(models, str):
        return False
    return all(isinstance(each, str) for each in models)


def _stronger(request: Request, decision: Decision, candidates: Sequence[Candidate]) -> Target | None:
    """Whom to ask next where the answer is found wanting; None to take it as it is."""
    again = decision.escalation
    if request.stream or request.n != 1 or again in {None, decision.model}:
        return None
    return next((each.target for each in candidates if each.eligible and each.model == again), None)


def _session(request: Request, hints: Hints) -> str | None:
    """
    The client's own name for the conversation.

    Raises:
        RequestError: 400: it is none.
    """
    raw = request.fields.get("session_id")
    if raw is None or bytes(raw) == b"null":
        return hints.session
    try:
        found = msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = ""
    if not 1 <= len(found) <= 256:
        raise RequestError("session_id must be a string of 1 to 256 characters.", param="session_id")
    return found
