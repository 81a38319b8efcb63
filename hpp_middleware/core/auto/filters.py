"""
Which models can answer a request at all: before any preference.

What neither configuration nor catalogue states counts as unlimited and supported; but a tag of a data policy is had
only where the configuration gives it.
"""

from collections.abc import Callable

from hpp_middleware.core import auth, bound, route
from hpp_middleware.core import price as pricing
from hpp_middleware.errors import RequestError
from hpp_middleware.types.auto import Asked, Candidate
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Limits

__all__ = ["EXPECTED_OUTPUT", "candidate", "expected_cost", "prompt_tokens"]

EXPECTED_OUTPUT = 400
"""
Tokens of an answer, where costs are compared before there is one and nothing else is known: the same for every model,
or the client's cap.
"""

_TAKES = {"image": "it takes no images", "audio": "it takes no audio", "pdf": "it takes no PDF files"}


def prompt_tokens(asked: Asked, target: Target | None) -> int:
    """The estimated tokens of a prompt, its images by this model's own figure."""
    if not asked.images:
        return asked.text_tokens
    each = bound.image_tokens_of(target) if target is not None else bound.IMAGE_TOKENS
    return asked.text_tokens + asked.images * each


def candidate(
    model: str,
    asked: Asked,
    request: Request,
    consumer: Consumer,
    target: Target | None,
    *,
    limits: Limits,
    unhealthy: Callable[[str], bool] | None = None,
    unsaid: RequestError | None = None,
) -> Candidate:
    """
    A model, measured against a request.

    Args:
        model: Its id.
        asked: The request's facts.
        request: The request, for what has a price of its own.
        consumer: Whose key may not use every model.
        target: The model; None where it is unknown, or has no price.
        limits: For the least output that an answer has.
        unhealthy: Whether a model is to be passed over for now.
        unsaid: Why the request cannot be said to this model's provider; None where it can.
    """
    if not auth.allows(consumer, model):  # whose key is not to hear of its price, either
        return Candidate(model=model, why_not=("this key may not use it",))
    if target is None:
        return Candidate(model=model, why_not=("it is unknown here, or has no price",))
    why = []
    tokens = prompt_tokens(asked, target)
    try:
        route.check_priced(request, target)
    except RequestError as error:
        why.append(error.message.removeprefix(f"{target.id} ").rstrip("."))
    why += _too_much(asked, target, tokens, limits)
    why += _unable(asked, target)
    missing = sorted(asked.requires - set(target.model.tags or ()))
    if missing:
        why.append(f"it is not tagged {', '.join(missing)}")
    if unsaid is not None:
        why.append(unsaid.message.rstrip("."))
    if unhealthy is not None and unhealthy(model):
        why.append("it is not healthy at the moment")
    cost = expected_cost(asked, target, tokens)
    return Candidate(model=model, target=target, why_not=tuple(why), tokens=tokens, cost=cost)


def expected_cost(asked: Asked, target: Target, tokens: int, answer: int = EXPECTED_OUTPUT) -> int:
    """
    What a request is expected to cost; the conversation's own model has all but the last message in its cache.

    Args:
        asked: The request's facts.
        target: The model.
        tokens: Of the prompt, as this model counts images.
        answer: Tokens that an answer is taken to have, where the client's cap leaves it so many.
    """
    warm = asked.before is not None and asked.before.model == target.id
    cached = max(0, asked.text_tokens - asked.new_tokens) if warm else 0
    output = (answer if asked.cap is None else min(answer, asked.cap)) * asked.n
    return pricing.cost(Usage(input=tokens - cached, cache_read=cached, output=output), target.price)


def _too_much(asked: Asked, target: Target, tokens: int, limits: Limits) -> list[str]:
    """A client's cap must fit beside the prompt; without one, the least that an answer is given."""
    model, found = target.model, []
    least = asked.cap if asked.cap is not None else min(limits.cap_floor, model.max_output or limits.cap_floor)
    if model.context is not None and tokens + least > model.context:
        found.append(f"its context of {model.context} tokens is too small for {tokens} and an answer of {least}")
    if asked.cap is not None and model.max_output is not None and asked.cap > model.max_output:
        found.append(f"it gives {model.max_output} tokens of output at most, not {asked.cap}")
    return found


def _unable(asked: Asked, target: Target) -> list[str]:
    model, found = target.model, []
    if asked.tools and model.tool is False:
        found.append("it cannot call tools")
    if asked.structured and model.structured is False:
        found.append("it does not keep to a JSON schema")
    takes = model.input_modalities
    if takes is not None:
        found += [_TAKES.get(kind, f"it takes no {kind}") for kind in sorted(asked.modalities - set(takes))]
    gives = model.output_modalities
    if gives is not None:
        found += [f"it gives no {kind}" for kind in sorted(asked.output_modalities - set(gives))]
    return found
