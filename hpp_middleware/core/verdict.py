"""Whether an exchange says that its upstream is well. Nothing here awaits or reads a clock."""

from hpp_middleware.core.settlement import End
from hpp_middleware.errors import GatewayError, OwnFaultError, UpstreamError
from hpp_middleware.types.provider import Timeouts

__all__ = ["verdict"]


def verdict(
    end: End | None,
    error: GatewayError | None,
    *,
    own: Timeouts,
    kept: Timeouts,
    flowing: bool,
    duration_s: float,
) -> bool | None:
    """
    Whether an upstream has done as it should in an exchange; None where that says nothing of it.

    Args:
        end: How the exchange ended; None where the host cancelled it.
        error: What went wrong.
        own: The provider's deadlines.
        kept: The exchange's, which its client may have lowered: who waits for a second only shows nothing by that.
        flowing: Whether the answer had begun.
        duration_s: How long it took.
    """
    if end is End.COMPLETED or end is End.CUT:
        return True
    if not isinstance(error, UpstreamError) or end not in {End.REFUSED, End.BROKEN, End.DEADLINE}:
        return None
    if error.code == "upstream_unavailable" or isinstance(error, OwnFaultError):
        return None  # our own pool had no room, or we did not ask, or could not
    if not error.retryable:
        return True  # the request is what it does not like
    if error.status == 504 and error.upstream_status is None and not flowing:
        waited = own.connect if error.unsent or end is End.REFUSED else own.first_byte
        return False if kept is own or duration_s >= waited else None
    if end is End.DEADLINE and flowing:
        return False if kept.idle == own.idle and duration_s < kept.total else None
    return False
