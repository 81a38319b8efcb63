"""What embeddings and images have in common as client APIs: JSON answers only, and no way to say them by chat."""

from collections.abc import Collection, Mapping

import msgspec
from msgspec import Raw

from hpp_middleware.core import fields as reading
from hpp_middleware.core import reply
from hpp_middleware.core.body import members
from hpp_middleware.core.parse import STEERING
from hpp_middleware.errors import GatewayError, RequestError
from hpp_middleware.ports import Dialect
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["Media", "text"]

_truth = msgspec.json.Decoder(bool)
_string = msgspec.json.Decoder(str)


class Media:
    """
    See :class:`hpp_middleware.ports.API`, which a subclass completes by its ``request``.

    Attributes:
        name: The API's.
        acted_on: The members that the router acts on: no other letter case of them passes, since some servers match
            keys without case.
    """

    name = ""
    acted_on: frozenset[str] = frozenset()

    def members(self, body: bytes, limits: Limits) -> dict[str, Raw]:
        """
        The top level of a body, with nothing in it that steers gateways, and no stream asked for.

        Raises:
            RequestError: 400.
        """
        found = members(body, limits)
        refuse_twins(found, self.acted_on)
        if reading.read(found, "stream", _truth, "true or false"):
            raise reading.bad("stream", f"must be false: {self.name} come in one piece")
        return found

    def as_chat(self, request: Request, limits: Limits) -> Request:  # noqa: ARG002  # whatever they are
        """
        It is none.

        Raises:
            RequestError: 400, always.
        """
        raise RequestError(
            f"The provider of {request.model!r} serves no {self.name} here.", code="unsupported_model", param="model"
        )

    def spoken_by(self, dialect: Dialect, request: Request) -> Dialect:  # noqa: ARG002  # whatever is asked
        """The same, which is never asked: see :meth:`as_chat`."""
        return dialect

    def error(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002  # its header says it
        """OpenAI's error object."""
        return reply.error_body(error)


def refuse_twins(fields: Mapping[str, Raw], acted_on: Collection[str]) -> None:
    """
    Refuse what steers gateways and SDKs, and another letter case of what the router acts on.

    Raises:
        RequestError: 400; it names the field.
    """
    for key in fields:
        folded = key.casefold()
        if folded in STEERING:
            raise RequestError(f"{key!r} is not accepted.", param=key)
        if folded != key and folded in acted_on:
            raise RequestError(f"{key!r} must be written {folded!r}.", param=key)


def text(fields: Mapping[str, Raw], name: str) -> str | None:
    """
    A member that is a string; None where it is absent or null.

    Raises:
        RequestError: 400: it is none.
    """
    return reading.read(fields, name, _string, "a string")
