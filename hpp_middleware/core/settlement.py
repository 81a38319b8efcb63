"""
What a request is charged: the settlement table, as one pure function.

Every way a request can end is an :class:`End`; each has one row. Usage that was reported wins; the row says what stands
in for it where it was not. A report that text has outrun is a lower bound only, and so is one that does not speak of
what came out.
"""

from enum import Enum, auto
from typing import Protocol

import msgspec
from msgspec import Struct

from hpp_middleware.core import price as pricing
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Price, Usage
from hpp_middleware.types.provider import MissingUsage
from hpp_middleware.types.quota import Outcome

__all__ = [
    "BYTES_A_TOKEN",
    "MOST_NANO",
    "TABLE",
    "End",
    "Missing",
    "Row",
    "Settlement",
    "Terms",
    "plus",
    "settle",
    "settle_by",
    "together",
]


MOST_NANO = 10**14
"""
More nano-dollars, $100,000, than any call can cost: a report that comes to more is a fault of the upstream, and none.
No store could count a few of them, and a settlement that none can count would leave its hold.
"""


BYTES_A_TOKEN = 16
"""More bytes than the tokens of a text have, on average."""


class End(Enum):
    """How a request ended, once its hold was placed."""

    UNSENT = auto()
    """The client left, or we refused, between hold and upstream."""
    REFUSED = auto()
    """The upstream refused or failed before any byte of an answer."""
    COMPLETED = auto()
    """The answer is whole."""
    LEFT = auto()
    """The client left: the upstream was closed in mid-stream, or awaited or drained to the end of its answer."""
    UNAWAITED = auto()
    """The client left, and a bound on awaiting or draining the answer was exceeded, or no slot was free for it."""
    DEADLINE = auto()
    """Our deadline, or that of a caller in process, ran out after sending."""
    LAPSED = auto()
    """A deadline that the client has lowered ran out after sending: it leaves then, and has said so before."""
    BROKEN = auto()
    """The upstream broke off in the middle of its answer."""
    CUT = auto()
    """The stream ran past what was held, and was cut."""

    __hash__ = object.__hash__  # an Enum's own is made of its name, in Python, each time


class Missing(Enum):
    """What is charged where no usage was reported."""

    NOTHING = auto()
    POLICY = auto()
    ESTIMATE = auto()
    HOLD = auto()


class Row(Struct, frozen=True):
    """One row of the table: the outcome, or None for a release without an entry; and what stands in for usage."""

    outcome: Outcome | None
    missing: Missing


TABLE: dict[End, Row] = {
    End.UNSENT: Row(None, Missing.NOTHING),
    End.REFUSED: Row("failed", Missing.NOTHING),
    End.COMPLETED: Row("completed", Missing.POLICY),
    End.LEFT: Row("abandoned", Missing.ESTIMATE),
    End.UNAWAITED: Row("abandoned", Missing.HOLD),
    End.DEADLINE: Row("failed", Missing.ESTIMATE),
    End.LAPSED: Row("failed", Missing.ESTIMATE),
    End.BROKEN: Row("failed", Missing.ESTIMATE),
    End.CUT: Row("completed", Missing.HOLD),
}


class Settlement(Struct, frozen=True, gc=False):
    """
    What to do with a hold.

    Attributes:
        amount: Nano-dollars.
        outcome: The ledger's word for it; None means: release it, there is no entry.
        estimated: Whether the amount does not come from a clean report.
        usage: The tokens it stands for.
    """

    amount: int
    outcome: Outcome | None
    estimated: bool
    usage: Usage


class Terms(Protocol):
    """
    What a charge goes by where no report says all, and what is looked at then only.

    Attributes:
        prompt_estimate: Tokens of the prompt, estimated.
        image_estimate: Tokens of each image that was drawn, estimated.
        hidden_reasoning: The model thinks where the stream does not show it: an estimate from the relayed text would
            be far too low, so that one which its client has ended is charged the hold.
        missing_usage: The policy for a complete answer without usage.
    """

    @property
    def prompt_estimate(self) -> int:
        """See above."""
        ...

    @property
    def image_estimate(self) -> int:
        """See above."""
        ...

    @property
    def hidden_reasoning(self) -> bool:
        """See above."""
        ...

    @property
    def missing_usage(self) -> MissingUsage:
        """See above."""
        ...


class _Given(Struct, frozen=True):
    prompt_estimate: int
    image_estimate: int
    hidden_reasoning: bool
    missing_usage: MissingUsage


def settle(
    end: End,
    seen: Seen,
    *,
    price: Price,
    hold: int,
    prompt_estimate: int,
    image_estimate: int = 0,
    hidden_reasoning: bool = False,
    missing_usage: MissingUsage = "estimate",
) -> Settlement:
    """
    What a request is charged: :func:`settle_by`, with all that may be needed given.

    Args:
        end: How it ended.
        seen: What the answer showed until then.
        price: The snapshot taken at the reserve.
        hold: What was held, in nano-dollars; no estimate is above it.
        prompt_estimate: See :class:`Terms`, as of the others.
        image_estimate: Likewise.
        hidden_reasoning: Likewise.
        missing_usage: Likewise.
    """
    terms = _Given(prompt_estimate, image_estimate, hidden_reasoning, missing_usage)
    return settle_by(terms, end, seen, price, hold)


def settle_by(terms: Terms, end: End, seen: Seen, price: Price, hold: int) -> Settlement:
    """
    What a request is charged, on terms.

    Args:
        terms: What it goes by where no report says all.
        end: How it ended.
        seen: What the answer showed until then.
        price: The snapshot taken at the reserve.
        hold: What was held, in nano-dollars; no estimate is above it.
    """
    row = TABLE[end]
    if row.outcome is None:
        return Settlement(0, None, estimated=False, usage=Usage())
    missing, usage = row.missing, seen.usage
    reported = 0
    if usage is not None and (reported := pricing.cost(usage, price)) > MOST_NANO:
        seen, usage, reported = msgspec.structs.replace(seen, usage=None), None, 0
    if usage is not None:
        if seen.usage_doubtful:
            reported = min(hold, reported)  # a report that contradicts itself is an estimate; none is above the hold
        # Not the last word, either: text came after it, in more pieces than it counts tokens, or in far too many bytes.
        outrun = seen.text_after_usage and missing is not Missing.NOTHING and usage.completion < _least(seen)
        if not seen.usage_early and not outrun:
            media = usage.input_audio or usage.output_audio or usage.output_image
            unpriced = (media or usage.web_searches or usage.cache_read_audio) and pricing.lacks_rate(usage, price)
            return Settlement(reported, row.outcome, seen.usage_doubtful or bool(unpriced), usage)
    if missing is Missing.POLICY:
        missing = {"estimate": Missing.ESTIMATE, "hold": Missing.HOLD, "free": Missing.NOTHING}[terms.missing_usage]
    if missing is Missing.NOTHING:
        is_estimate = end is End.COMPLETED or usage is not None
        return Settlement(reported, row.outcome, is_estimate, usage or Usage())
    estimate = _estimate(seen, terms)
    amount = min(hold, pricing.cost(estimate, price))
    by_client = end is End.LEFT or end is End.LAPSED
    if missing is Missing.HOLD or (by_client and terms.hidden_reasoning):
        amount = hold
    return Settlement(max(amount, reported), row.outcome, estimated=True, usage=estimate)


def together(before: Settlement, found: Settlement) -> Settlement:
    """
    What two calls for one request come to.

    Args:
        before: The first, which had an answer.
        found: The second; one that nothing was sent for changes nothing.
    """
    if found.outcome is None:
        return before
    return Settlement(
        before.amount + found.amount,
        found.outcome,
        estimated=before.estimated or found.estimated,
        usage=plus(before.usage, found.usage),
    )


def plus(one: Usage, other: Usage) -> Usage:
    """Tokens, bucket by bucket."""
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in Usage.__struct_fields__})


def tokens_of(text_bytes: int, texts: int = 0) -> int:
    """Tokens that text comes to, estimated: a quarter of its UTF-8 bytes, rounded up, and one a piece at least."""
    return max(-(-text_bytes // 4), texts)


def _least(seen: Seen) -> int:
    """Tokens that text comes to at least."""
    return max(seen.texts, seen.relayed_bytes // BYTES_A_TOKEN)


def _estimate(seen: Seen, terms: Terms) -> Usage:
    """The prompt as estimated, or as an early report has it, and what was relayed: text, and images."""
    output = tokens_of(seen.relayed_bytes, seen.texts)
    if seen.usage is None:
        images = seen.images * terms.image_estimate if seen.images else 0
        return Usage(input=terms.prompt_estimate, output=output, output_image=images)
    more = max(0, output - seen.usage.completion)
    return msgspec.structs.replace(seen.usage, output=seen.usage.output + more)
