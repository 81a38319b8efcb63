"""OpenAI's chat completions, which the path itself speaks: nothing is to be translated."""

from hpp_middleware.core import parse, reply
from hpp_middleware.errors import GatewayError
from hpp_middleware.ports import Dialect
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["CHAT", "Chat"]


class Chat:
    """See :class:`hpp_middleware.ports.API`."""

    name = "chat"

    def request(self, body: bytes, limits: Limits) -> Request:
        """The request."""
        return parse.completion(body, limits)

    def as_chat(self, request: Request, limits: Limits) -> Request:  # noqa: ARG002  # it is one
        """The same."""
        return request

    def spoken_by(self, dialect: Dialect, request: Request) -> Dialect:  # noqa: ARG002  # whatever is asked
        """The same."""
        return dialect

    def error(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002  # its header says it
        """OpenAI's error object."""
        return reply.error_body(error)


CHAT = Chat()
