"""
Anthropic's Messages API, as clients speak it to us: to any provider, whatever that speaks.

``asked`` reads a request of ``nouns``, and ``depth`` sees how deep it is; ``saying`` and ``turns`` say it as a chat
completion, ``fitting`` leaves out of that what a provider which is sent the bytes as they are would refuse; ``told``,
``blocks`` and ``stream`` tell the answer, and ``counting`` how large a prompt is.

Facts are from Anthropic's API reference (https://platform.claude.com/docs/en/api/messages) and from the types of its
Python SDK 2.14.
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from hpp_middleware.apis.messages.asked import asked
from hpp_middleware.apis.messages.nouns import NULL
from hpp_middleware.apis.messages.saying import said
from hpp_middleware.apis.messages.speaking import Spoken
from hpp_middleware.core.messages import envelope
from hpp_middleware.errors import GatewayError
from hpp_middleware.ports import Dialect
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["MESSAGES", "Messages"]


class Messages:
    """
    See :class:`hpp_middleware.ports.API`.

    Args:
        betas: What the headers of a request ask for.
    """

    name = "messages"

    def __init__(self, betas: Sequence[str] = ()) -> None:
        self._betas = betas

    def heard(self, headers: Iterable[tuple[bytes, bytes]]) -> "Messages":
        """See :class:`hpp_middleware.ports.API`: a client of this API asks for betas there."""
        given = b",".join(value for name, value in headers if name == b"anthropic-beta")
        betas = [name.strip() for name in given.decode("latin-1").split(",") if name.strip()]
        return Messages(betas) if betas else self

    def request(self, body: bytes, limits: Limits) -> Request:
        """The request; the betas that its headers ask for are its field ``betas``, as Anthropic's SDKs name them."""
        found = asked(body, limits)
        if self._betas and found.fields.get("betas", NULL) == NULL:
            found.fields["betas"] = Raw(msgspec.json.encode(self._betas))
        return found

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
