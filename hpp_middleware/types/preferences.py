"""What a client says of who may answer its request: OpenRouter's ``models`` and ``provider``."""

from typing import Literal, NamedTuple

from msgspec import Struct

__all__ = ["Named", "Preferences", "Sort"]

Sort = Literal["price", "throughput", "latency"]


class Named(NamedTuple):
    """A model that a request names, and where it does: ``models[1]``."""

    model: str
    where: str


class Preferences(Struct, frozen=True, kw_only=True, gc=False):
    """
    Which targets a request may go to, and in what order. Names are a provider's, or a model's ``provider/model``.

    Attributes:
        order: Those that come first, in this order; the others follow as they are.
        only: No other may be asked; None where any may.
        ignore: These may not.
        allow_fallbacks: Whether others may be asked than those that the client has named.
        require_parameters: Whether a target must be told every parameter of the request.
        sort: What to order them by; None leaves the order.
        max_prompt: Atto-dollars a token that a prompt may cost at most; None for any price.
        max_completion: The same of the answer.
    """

    order: tuple[str, ...] = ()
    only: frozenset[str] | None = None
    ignore: frozenset[str] = frozenset()
    allow_fallbacks: bool = True
    require_parameters: bool = False
    sort: Sort | None = None
    max_prompt: int | None = None
    max_completion: int | None = None
