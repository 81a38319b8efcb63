"""A provider's dialect, whose requests are chat completions, and whose answers are messages of Anthropic's."""

import re
from typing import Any

import msgspec

from hpp_middleware.apis.messages import told
from hpp_middleware.apis.messages.fitting import fitted
from hpp_middleware.apis.messages.saying import left_out
from hpp_middleware.apis.messages.stream import Reader, message_id
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.errors import RequestError
from hpp_middleware.ports import Dialect
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall

__all__ = ["Spoken"]

_OURS = {
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning": "thinking",
    "reasoning_effort": "thinking",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
    "user": "metadata.user_id",
}
"""What Anthropic calls OpenAI's fields."""

_FIRST = re.compile(r"\w+")


class Spoken:
    """
    See :class:`hpp_middleware.ports.Dialect`.

    Args:
        inner: The provider's own. One that sends a chat completion as it is says so by an attribute ``verbatim``; it is
            given one that every such provider takes.
        asked: What the client asked, in Anthropic's words.
    """

    def __init__(self, inner: Dialect, asked: Request) -> None:
        self._inner = inner
        self._asked = asked
        self.refusal = getattr(inner, "refusal", None)
        self.usage_in = getattr(inner, "usage_in", None)

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """The provider's request; what it does not take is named in Anthropic's words."""
        dropped = left_out(self._asked)
        if getattr(self._inner, "verbatim", False):
            request, more = fitted(request, target)
            dropped = (*dropped, *more)
        try:
            call = self._inner.call(request, target, cap=cap, request_id=request_id)
        except RequestError as error:
            raise _renamed(error) from None
        told_as = (_OURS.get(name, name) for name in call.dropped if name != "stream_options")
        return msgspec.structs.replace(call, dropped=tuple(dict.fromkeys((*dropped, *told_as))))

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> Reader:
        """The provider's stream, as events of a message."""
        inner = self._inner.stream(
            request, target, event_bytes=event_bytes, cap=cap, charge=charge, request_id=request_id
        )
        return Reader(inner, target, request_id)

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """The provider's answer, as a message."""
        found, seen = self._inner.answer(body, request, target, charge=charge, request_id=request_id)
        return told.message(found, seen, model=target.id, message_id=message_id(seen.upstream_id, request_id)), seen


def _renamed(error: RequestError) -> RequestError:
    """A refusal that names a field of the chat completion, with the field that the client has given."""
    field = error.param or ""
    first = _FIRST.match(field)
    if first is None:
        return error
    ours: Any = _OURS.get(first[0])
    message = error.message
    if ours is not None:
        message = message.replace(field, ours) if field in message else f"{ours}: {message}"
        field = ours
    elif first[0] == "messages" and field != "messages":
        message, field = f"Said as a chat completion, {message}", "messages"  # whose messages are numbered otherwise
    return RequestError(message, status=error.status, code=error.code, param=field, headers=error.headers)
