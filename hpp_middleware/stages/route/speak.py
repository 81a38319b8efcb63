"""Which dialect a request is said in: the provider's own of the client's API, or a translation by way of chat."""

from collections.abc import Mapping

from hpp_middleware.ports import API, Dialect
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.provider import Limits

__all__ = ["is_native", "said"]


def said(
    api: API, request: Request, target: Target, dialects: Mapping[str, Dialect], limits: Limits
) -> tuple[Request, Dialect]:
    """
    The request as the dialect takes it, and the dialect.

    Args:
        api: What the client speaks.
        request: What it asks.
        target: Where it goes.
        dialects: By name.
        limits: Bounds on what a translation may come to.
    Raises:
        RequestError: 400: the provider cannot do it, or a field cannot be said to it.
    """
    dialect = dialects[target.provider.dialect]
    if api.name == "chat":
        return request, dialect
    native = getattr(dialect, "native", None)
    found = native(api.name, target.provider) if native is not None else None
    if found is not None:
        return request, found
    return api.as_chat(request, limits), api.spoken_by(dialect, request)


def is_native(api: API, target: Target, dialects: Mapping[str, Dialect]) -> bool:
    """Whether a model's provider takes requests of this API as they are."""
    native = getattr(dialects[target.provider.dialect], "native", None)
    return native is not None and native(api.name, target.provider) is not None
