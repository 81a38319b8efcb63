"""
Count: how many tokens a prompt has, before anybody pays for it. Nothing is held, charged, or written to the ledger.

A provider that counts is asked, within its own deadlines; where none does, or it does not answer, the prompt is
estimated as it is for a settlement without usage.
"""

import anyio
import msgspec

from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.messages.asked import asked
from hpp_middleware.apis.messages.counting import ANSWER_BYTES, answer, counted, counter
from hpp_middleware.core import deadlines, preferences, relay
from hpp_middleware.errors import UpstreamError
from hpp_middleware.stages.attempts import plan
from hpp_middleware.stages.route import auto, speak
from hpp_middleware.stages.setup.setup import Setup
from hpp_middleware.stages.tasks.guard import guard
from hpp_middleware.stages.upstream.call import Refusal, Upstream
from hpp_middleware.stages.worker.worker import Worker
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Timeouts

__all__ = ["count_tokens"]

_REFUSED = frozenset({400, 413, 422})
"""What a provider's counter says of the request, and not of itself."""


async def count_tokens(
    setup: Setup,
    worker: Worker,
    consumer: Consumer,
    body: bytes,
    *,
    request_id: str,
    lower: Deadlines | None = None,
) -> bytes:
    """
    Anthropic's ``count_tokens``.

    Args:
        setup: The gateway's.
        worker: This event loop's.
        consumer: Who asks.
        body: The request, as for a message; ``max_tokens`` may be missing.
        request_id: Ours.
        lower: What the client asks of the deadlines.
    Returns:
        ``{"input_tokens": ...}``, with ``"estimated": true`` where nobody has counted.
    Raises:
        RequestError: The caller can fix it.
        UpstreamError: The provider refuses the request.
    """
    request = asked(body, setup.limits, counting=True)
    request = msgspec.structs.replace(request, stream=False)
    target = auto.resolve(setup.auto, setup.catalog, request, consumer, MESSAGES, turn=False).target
    dialect = setup.dialects[target.provider.dialect]
    native = getattr(dialect, "native", None)
    counting = native(MESSAGES.name, target.provider) if native is not None else None
    upstreams = worker.health.targets(target) if counting is not None and _may_see(target, request) else []
    if counting is not None and upstreams:
        target = upstreams[0]
        call = counter(counting.call(request, target, cap=1, request_id=request_id))
        timeouts = deadlines.lowered(target.provider.timeouts, lower)
        read = getattr(counting, "refusal", None)
        found = await _ask(worker, target, call, read, timeouts) if call is not None else None
        if found is not None:
            return answer(found, estimated=False)
    return answer(_estimate(setup, request, target, request_id), estimated=True)


def _may_see(target: Target, request: Request) -> bool:
    """Whether the client lets its prompt go there."""
    wanted = request.preferences
    if wanted is None:
        return True
    return bool(preferences.applied([target], wanted, request, named={target.id}, ranked=list)[0])


async def _ask(worker: Worker, target: Target, call: HTTPCall, read: Refusal | None, timeouts: Timeouts) -> int | None:
    """What the provider counts; None where it does not."""
    upstream = Upstream(target, worker.transports[target.key])
    around = guard(worker.loop)
    upstream.within(timeouts, around)
    try:
        return await around.run(_answered(upstream, call, read))
    except (UpstreamError, relay.ProtocolError) as error:
        if isinstance(error, UpstreamError) and error.upstream_status in _REFUSED:
            raise
        return None
    finally:
        around.close()
        with anyio.CancelScope(shield=True):
            await upstream.aclose()


async def _answered(upstream: Upstream, call: HTTPCall, read: Refusal | None) -> int | None:
    await upstream.send(call)
    if not upstream.is_readable:
        return None
    if upstream.status in _REFUSED:
        error, _ = await upstream.refusal(read)
        raise error
    found = await upstream.read_all(ANSWER_BYTES)
    return counted(found) if upstream.status == 200 else None


def _estimate(setup: Setup, request: Request, target: Target, request_id: str) -> int:
    said, dialect = speak.said(MESSAGES, request, target, setup.dialects, setup.limits)
    planned = plan.Plan(
        said,
        target,
        dialect,
        request_id=request_id,
        limits=setup.limits,
        orphan="free",
        tokenizer=setup.tokenizer,
    )
    return planned.prompt_estimate
