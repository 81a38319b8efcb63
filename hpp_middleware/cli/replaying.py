"""
Past requests, fed to a policy one by one.

A line is a chat completion request, as it is or under ``request``; ``{"prompt": ...}``; or a line of a ledger export,
which has no prompt, so that only its size, its stream and its tools speak. Beside a request may stand ``usage`` (in
the ledger's words, ``input``, ``output`` and the like, or in those of OpenAI's answers), ``model`` and ``quality``: a
number for that model, or one a model.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hpp_middleware.apis.chat import CHAT
from hpp_middleware.cli.common import Fault
from hpp_middleware.core import price as pricing
from hpp_middleware.core import usage
from hpp_middleware.core.auto import facts, filters
from hpp_middleware.core.route import Catalog
from hpp_middleware.errors import RequestError
from hpp_middleware.ports import RoutingPolicy
from hpp_middleware.types.auto import AUTO, Asked
from hpp_middleware.types.completion import Request
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Limits

__all__ = ["ModelShare", "Replay", "Replayed", "lines"]

_MOST_QUALITY = 10**9

_ANYBODY = Consumer(id="replay")


class ModelShare(NamedTuple):
    """What one model would have had; nano-dollars."""

    model: str
    requests: int
    share: float
    cost: int


class Replayed(NamedTuple):
    """
    What a policy would have done.

    Attributes:
        requests: How many it was asked.
        unread: Lines that were no requests.
        unanswered: Requests that no model could answer.
        cost: Nano-dollars, by each request's usage where that is known, else by its estimate.
        actual: What the ledger's lines did cost; None where there were none.
        quality: The mean over the requests whose quality under the chosen model is known; None where there are none.
        with_quality: How many those are.
        mean_score: Of the learned policy; None where it had no say.
        models: By how many requests they have.
        rules: How often each decided.
    """

    requests: int
    unread: int
    unanswered: int
    cost: int
    actual: int | None
    quality: float | None
    with_quality: int
    mean_score: float | None
    models: list[ModelShare]
    rules: dict[str, int]


class _Past(NamedTuple):
    """A line; one that only adds to what another request has cost has no request."""

    request: Request | None
    asked: Asked
    usage: Usage | None = None
    actual: int | None = None
    quality: Mapping[str, float] = {}


class Replay:
    """
    A policy that is fed past requests.

    Args:
        policy: Decides.
        catalog: What it names.
        limits: Bounds on a request.

    Attributes:
        unread: How many lines could not be read.
    """

    def __init__(self, policy: RoutingPolicy, catalog: Catalog, limits: Limits) -> None:
        self._policy = policy
        self._catalog = catalog
        self._limits = limits
        self._counts: Counter[str] = Counter()
        self._costs: Counter[str] = Counter()
        self._rules: Counter[str] = Counter()
        self._requests = self._unanswered = 0
        self.unread = 0
        self._actual: int | None = None
        self._qualities: list[float] = []
        self._scores: list[float] = []

    def feed(self, line: bytes) -> str | None:
        """One more line; why it is none, where it cannot be read."""
        try:
            past = self._past(msgspec.json.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, RequestError) as error:
            self.unread += 1
            return error.message if isinstance(error, RequestError) else str(error)
        self._take(past)
        return None

    def _take(self, past: _Past) -> None:
        if past.actual is not None:
            self._actual = (self._actual or 0) + past.actual
        if past.request is None:
            return
        self._requests += 1
        candidates = [
            filters.candidate(model, past.asked, past.request, _ANYBODY, self._catalog.find(model), limits=self._limits)
            for model in dict.fromkeys(self._policy.models)
        ]
        decision = self._policy.decide(past.asked, candidates) if any(each.eligible for each in candidates) else None
        if decision is None:
            self._unanswered += 1
            return
        chosen = next(each for each in candidates if each.model == decision.model)
        cost = chosen.cost
        if chosen.target is not None and past.usage is not None:
            cost = pricing.cost(past.usage, chosen.target.price)
        elif chosen.target is not None and decision.answer_tokens is not None:
            cost = filters.expected_cost(past.asked, chosen.target, chosen.tokens, decision.answer_tokens)
        self._counts[decision.model] += 1
        self._costs[decision.model] += cost
        self._rules[decision.rule] += 1
        if decision.score is not None:
            self._scores.append(decision.score)
        if decision.model in past.quality:
            self._qualities.append(past.quality[decision.model])

    def result(self) -> Replayed:
        """What all of it comes to."""
        answered = sum(self._counts.values())
        return Replayed(
            requests=self._requests,
            unread=self.unread,
            unanswered=self._unanswered,
            cost=sum(self._costs.values()),
            actual=self._actual,
            quality=_mean(self._qualities),
            with_quality=len(self._qualities),
            mean_score=_mean(self._scores),
            models=[
                ModelShare(model, count, count / answered, self._costs[model])
                for model, count in self._counts.most_common()
            ],
            rules=dict(self._rules.most_common()),
        )

    def _past(self, found: Any) -> _Past:
        """
        A line, read.

        Raises:
            ValidationError: It is none, or something in it is of a wrong kind, which must not count as nothing.
            RequestError: Its request is none.
        """
        if not isinstance(found, dict):
            raise msgspec.ValidationError("it is no object")
        if isinstance(found.get("line"), dict):
            return _of_the_ledger(found["line"])
        body = found.get("request", found)
        if isinstance(found.get("prompt"), str):
            body = {"messages": [{"role": "user", "content": found["prompt"]}]}
        if not isinstance(body, dict):
            raise msgspec.ValidationError("request is no object")
        model = found.get("model", body.get("model"))
        body = {name: value for name, value in body.items() if name not in {"usage", "quality"}}
        request = CHAT.request(msgspec.json.encode({**body, "model": AUTO}), self._limits)
        return _Past(
            request, facts.asked(request), _usage(found.get("usage")), quality=_quality(found.get("quality"), model)
        )


def _usage(told: Any) -> Usage | None:
    """
    What a request used, in the ledger's words or in those of either of OpenAI's APIs; None where nothing is said.

    Raises:
        ValidationError: It is said in no words that are known here, or is none.
    """
    if told is None:
        return None
    if not isinstance(told, dict):
        raise msgspec.ValidationError("usage is no object")
    read = usage.read_openai if "prompt_tokens" in told else usage.read_responses if "input_tokens" in told else None
    if read is None:
        if told and not told.keys() & set(Usage.__struct_fields__):
            raise msgspec.ValidationError("usage has no tokens that are known here")
        return _counted(told)
    found = read(msgspec.json.encode(told))
    if found is None:
        raise msgspec.ValidationError("usage is no report")
    return found.usage


def _counted(told: Any) -> Usage:
    found = msgspec.convert(told, Usage)
    if any(getattr(found, name) < 0 for name in Usage.__struct_fields__):
        raise msgspec.ValidationError("usage is below 0")
    return found


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """
    A file's lines that are not empty, with their numbers.

    Raises:
        Fault: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(map(bytes.strip, file), 1) if line)
    except OSError as error:
        raise Fault(f"{path}: cannot be read ({error.strerror})") from error


def _of_the_ledger(line: Mapping[str, Any]) -> _Past:
    """
    A resolution is a request; overages and corrections are only cost.

    Raises:
        ValidationError: It is no line of an export.
    """
    draft, report, amount = line.get("draft"), line.get("report", {}), line.get("amount", 0)
    routed = draft.get("routed") or {} if isinstance(draft, dict) else None
    if not isinstance(routed, dict) or not isinstance(report, dict) or type(amount) is not int:
        raise msgspec.ValidationError("line is none of a ledger export")
    if line.get("line") != "resolution":
        return _Past(None, Asked(), actual=amount)
    used = _counted(report.get("usage", {}))
    stream = line["draft"].get("stream") is True
    asked = Asked(
        text_tokens=used.prompt,
        stream=stream,
        tools=routed.get("basket") == "tool",
        modalities=frozenset({"audio"} if used.input_audio else ()),
    )
    return _Past(Request(fields={}, model=AUTO, stream=stream), asked, used, amount)


def _quality(told: Any, model: Any) -> Mapping[str, float]:
    """
    How good answers were, by their models; a single figure is that of the line's own.

    Raises:
        ValidationError: It is no number, nor one a model; or it is too large for a mean.
    """
    by = told if isinstance(told, dict) else {} if told is None else {str(model): told}
    for figure in by.values():
        if isinstance(figure, bool) or not isinstance(figure, int | float) or abs(figure) > _MOST_QUALITY:
            raise msgspec.ValidationError("quality is no number, nor one a model")
    return {name: float(figure) for name, figure in by.items()}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
