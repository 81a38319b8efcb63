"""The Responses API as an :class:`~hpp_middleware.ports.API`."""

from hpp_middleware.apis.responses import asking, request, speaking
from hpp_middleware.core import reply
from hpp_middleware.errors import GatewayError
from hpp_middleware.ports import Dialect
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["RESPONSES", "Responses"]


class Responses:
    """See :class:`hpp_middleware.ports.API`."""

    name = "responses"

    def request(self, body: bytes, limits: Limits) -> Request:
        """The request, in this API's own words."""
        return request.read(body, limits)

    def as_chat(self, request: Request, limits: Limits) -> Request:
        """The same as a chat completion."""
        return asking.as_chat(request, limits)

    def spoken_by(self, dialect: Dialect, request: Request) -> Dialect:
        """A dialect whose answers are Responses."""
        return speaking.Speaking(dialect, request)

    def error(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002  # its header says it
        """OpenAI's error object."""
        return reply.error_body(error)


RESPONSES = Responses()
