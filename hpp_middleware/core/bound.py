"""
How much a request can cost at most: the size of its hold.

The hold covers the prompt at the dearest rate that can apply, and ``n`` times the output cap. The prompt's bound is a
tokenizer's count of the JSON sent x 1.1 where there is one, else its bytes over 2 (a setting of the provider; 1 is
strict), with inline images counted by the model's maximum an image instead of their bytes; one that comes as tokens is
as many. An image that is drawn has the model's maximum for its size and quality in the cap's place.
"""

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import drawing
from hpp_middleware.core import price as pricing
from hpp_middleware.core import prompt as prompts
from hpp_middleware.core.settlement import tokens_of
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.provider import Limits

__all__ = [
    "COUNT_VERSION",
    "ESTIMATOR_VERSION",
    "IMAGE_TOKENS",
    "Bound",
    "bound",
    "cap_within",
    "default_cap",
    "image_tokens_of",
    "lowered",
    "own_cap",
]

ESTIMATOR_VERSION = 2
"""Kept in the ledger: another one whenever an estimate would come out otherwise for the same request."""

COUNT_VERSION = 3
"""The same where the prompt was counted by a tokenizer."""

IMAGE_TOKENS = 5_000
"""
The most tokens an image costs where the model's own figure is not known: above Claude's 4,784 for its largest
size and GPT-4o's 1,445. GPT-4o mini counts up to 48,169 (2,833 + 8 tiles of 5,667): its ``image_tokens`` are set below.
"""

_NULL = Raw(b"null")
_CAP_FIELDS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})

_ORPHANED = {"hold": 1, "free": 0}

_IMAGE_TOKENS = {"gpt-4o-mini": 48_169}


class Bound(Struct, frozen=True, kw_only=True, gc=False):
    """
    What to hold.

    Attributes:
        want: Nano-dollars that cover the request.
        floor: The least that a lowered cap could do with; equal to ``want`` where the cap is not to be lowered.
        clamped: Whether a lowered cap takes all that is there, not half of it: the operator clamps.
        prompt: Atto-dollars of it that the prompt takes.
        out_rate: Atto-dollars an output token.
        cap: Output tokens a choice, or an image.
        ours: Whether the cap is ours.
        prompt_estimate: Tokens of the prompt, estimated, for a settlement without usage.
        orphan_amount: What the request is charged if its worker dies: the estimated prompt.
        estimator_version: How the prompt was estimated.
    """

    want: int
    floor: int
    prompt: int
    out_rate: int
    cap: int
    n: int
    ours: bool
    prompt_estimate: int
    orphan_amount: int
    clamped: bool = False
    estimator_version: int = ESTIMATOR_VERSION


def default_cap(target: Target, limits: Limits) -> int:
    """
    The output cap for a request that names none: the smaller of the model's maximum and the setting. An operator's own
    setting for the model is not lowered by a maximum that no operator has told.
    """
    own = target.model.default_cap
    if own and not target.vouched:
        return own
    wanted = own or limits.default_cap
    return min(wanted, target.model.max_output or wanted)


def own_cap(request: Request, target: Target, limits: Limits) -> int | None:
    """The output cap to send, in tokens a choice; None where the client gave one, or its API has none."""
    return default_cap(target, limits) if request.cap is None and request.drawing is None else None


def bound(
    request: Request,
    target: Target,
    *,
    sent_bytes: int,
    limits: Limits,
    more_tokens: int = 0,
    least_cap: int = 0,
    long_cache: bool = False,
    orphan: str = "estimate",
    counted: int | None = None,
    clamp_floor: int | None = None,
) -> Bound:
    """
    The hold for a request.

    Args:
        request: What is asked.
        target: The resolved model.
        sent_bytes: The length of the JSON body for the upstream.
        limits: For the default cap and its floor.
        more_tokens: What the provider adds to the prompt by itself, at most.
        least_cap: Output tokens a choice that no lower grant can do with.
        long_cache: Whether it may be written to a cache that lasts an hour.
        orphan: The policy for a worker that dies: ``estimate``, ``hold`` or ``free``.
        counted: What a tokenizer makes of the body's :func:`~hpp_middleware.core.prompt.text`; None for its bytes.
        clamp_floor: To how many tokens any cap may be lowered, the client's too; None lowers ours alone.
    """
    images, image_tokens, text_bytes = request.images, 0, sent_bytes
    if images.count:
        image_tokens = images.count * image_tokens_of(target)
        text_bytes = max(0, sent_bytes - images.inline_bytes)
    if request.tokens is not None:
        prompt_tokens = estimate = request.tokens
    elif counted is None:
        prompt_tokens = -(-text_bytes // target.provider.bytes_per_token) + image_tokens
        estimate = tokens_of(text_bytes) + image_tokens
    else:
        most = -(-counted * 11 // 10) + prompts.SCHEMA_TOKENS * prompts.schema_marks(request)
        prompt_tokens, estimate = most + image_tokens, counted + image_tokens
    prompt_tokens += more_tokens
    in_rate, out_rate = pricing.dearest(
        target.price,
        prompt_tokens,
        audio_input=request.audio_input or request.unbounded,
        image_input=images.count > 0 or request.unbounded,
        long_cache=long_cache,
        output=request.output_modalities,
    )
    cap, ours = _cap(request, target, limits)
    prompt = prompt_tokens * in_rate
    want = _nano(prompt + request.n * cap * out_rate)
    clamps = clamp_floor is not None and request.drawing is None and cap > 0
    floor = want
    if clamps or ours:
        least = limits.cap_floor if clamp_floor is None else clamp_floor
        floor = _nano(prompt + request.n * min(cap, max(least, least_cap)) * out_rate)
    orphaned = pricing.prompt_cost(estimate, target.price) if orphan == "estimate" else _ORPHANED[orphan] * want
    return Bound(
        want=want,
        floor=floor,
        prompt=prompt,
        out_rate=out_rate,
        cap=cap,
        n=request.n,
        ours=ours,
        prompt_estimate=estimate,
        orphan_amount=min(orphaned, want),
        clamped=clamps,
        estimator_version=ESTIMATOR_VERSION if counted is None else COUNT_VERSION,
    )


def cap_within(found: Bound, amount: int) -> int:
    """The output cap, in tokens a choice, that a grant of this amount covers."""
    if amount >= found.want or found.out_rate == 0:
        return found.cap
    spare = amount * pricing.ATTO_PER_NANO - found.prompt
    return max(1, min(found.cap, spare // (found.out_rate * found.n)))


def lowered(request: Request, cap: int) -> Request:
    """The request with a lower output cap than the client's own, in whatever field it was named."""
    said = Raw(str(cap).encode())
    fields = {name: said if name in _CAP_FIELDS and value != _NULL else value for name, value in request.fields.items()}
    return msgspec.structs.replace(request, fields=fields, cap=cap)


def _cap(request: Request, target: Target, limits: Limits) -> tuple[int, bool]:
    """The most tokens a choice, or an image, and whether that is our cap."""
    if request.drawing is not None:
        return drawing.most_tokens(target, request.drawing), False
    cap = request.cap
    if cap is None:
        return default_cap(target, limits), True
    most = target.model.max_output if target.vouched else None
    return (cap if most is None else min(cap, most)), False  # the model stops there, whatever cap it is given


def image_tokens_of(target: Target) -> int:
    """The most tokens that an image costs which goes in."""
    if target.model.image_tokens is not None:
        return target.model.image_tokens
    maker_less = target.model_name.lower().rpartition("/")[2]  # openai/gpt-4o-mini, as a provider of many makers says
    return max((tokens for name, tokens in _IMAGE_TOKENS.items() if maker_less.startswith(name)), default=IMAGE_TOKENS)


def _nano(atto: int) -> int:
    return -(-atto // pricing.ATTO_PER_NANO)
