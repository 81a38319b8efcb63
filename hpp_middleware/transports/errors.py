"""What can go wrong on the way to a provider, told alike by every transport."""

from typing import Literal

from hpp_middleware.core.raised_at import raised_at
from hpp_middleware.errors import OwnFaultError, UpstreamError

__all__ = ["Fault", "fault", "foreign"]

Fault = Literal["unreachable", "slow_to_reach", "crowded", "slow_to_take", "slow_to_answer", "unreadable", "broken"]

_FAULTS: dict[Fault, tuple[int, str, str]] = {
    "unreachable": (502, "provider_unavailable", "The provider could not be reached."),
    "slow_to_reach": (504, "timeout", "The provider could not be reached in time."),
    "crowded": (503, "upstream_unavailable", "There are too many requests to this provider."),
    "slow_to_take": (504, "timeout", "The provider did not take the request in time."),
    "slow_to_answer": (504, "timeout", "The provider did not answer in time."),
    "unreadable": (502, "provider_unavailable", "The provider's answer could not be read."),
    "broken": (502, "provider_unavailable", "The connection to the provider broke."),
}
_UNSENT = frozenset({"unreachable", "slow_to_reach", "crowded"})


def fault(kind: Fault, provider: str) -> UpstreamError:
    """
    The error for a fault; nothing of the library's own text is in it, which may name what is nobody's business.

    Args:
        kind: ``unreachable``, ``slow_to_reach`` and ``crowded`` (no connection of the pool came free) mean that nothing
            was sent.
        provider: Named in the error.
    """
    status, code, message = _FAULTS[kind]
    return UpstreamError(
        message,
        provider=provider,
        status=status,
        code=code,
        retryable=True,
        headers={"Retry-After": "1"} if status == 503 else None,
        unsent=kind in _UNSENT,
    )


def foreign(error: Exception, provider: str, *, closed: bool = False) -> UpstreamError:
    """
    The error for what a host's own client or transport raised, other than its library's names for a broken connection.

    What Python itself raises, ``KeyError`` or ``RuntimeError``, is a bug, or a client that is closed: whose, is for the
    log to say. ``OSError`` and what some library calls its errors are taken for the network's.

    Args:
        error: What was raised.
        provider: Named in the error.
        closed: Whether the client is closed, so that it has sent nothing.
    """
    if isinstance(error, OSError | EOFError):
        return fault("broken", provider)
    if closed:
        return OwnFaultError(provider, "the host's own HTTP client is closed: keep it open", unsent=True)
    detail = f"the host's own way there raised {type(error).__name__}{raised_at(error)}"
    if type(error).__module__ == "builtins":
        return OwnFaultError(provider, detail)
    found = fault("broken", provider)
    found.detail = detail
    return found
