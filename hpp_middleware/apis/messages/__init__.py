"""
Anthropic's Messages API, as clients speak it to us: to any provider, whatever that speaks.

``asked`` reads a request, ``saying`` and ``turns`` say it as a chat completion, ``fitting`` leaves out of that what a
provider which is sent the bytes as they are would refuse; ``told``, ``blocks`` and ``stream`` tell the answer, and
``counting`` how large a prompt is.

Facts are from Anthropic's API reference (https://platform.claude.com/docs/en/api/messages) and from the types of its
Python SDK 2.14.
"""

from hpp_middleware.apis.messages.asked import asked
from hpp_middleware.apis.messages.saying import said
from hpp_middleware.apis.messages.speaking import Spoken
from hpp_middleware.core.messages import envelope
from hpp_middleware.errors import GatewayError
from hpp_middleware.ports import Dialect
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["MESSAGES", "Messages"]


class Messages:
    """See :class:`hpp_middleware.ports.API`."""

    name = "messages"

    def request(self, body: bytes, limits: Limits) -> Request:
        """The request."""
        return asked(body, limits)

    def as_chat(self, request: Request, limits: Limits) -> Request:
        """The same as a chat completion."""
        return said(request, limits)

    def spoken_by(self, dialect: Dialect, request: Request) -> Dialect:
        """A dialect that answers with a message, or with the events of one."""
        return Spoken(dialect, request)

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """Anthropic's envelope."""
        return envelope(error, request_id)


MESSAGES = Messages()
