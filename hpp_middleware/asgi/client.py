"""The HTTP peer of one request, over ASGI's two callables."""

from collections.abc import Callable
from functools import lru_cache
from itertools import count

import anyio
from starlette.types import Receive, Send

from hpp_middleware.asgi.listening import Listening, is_plain
from hpp_middleware.errors import RequestError
from hpp_middleware.stages.tasks.guard import begin_within
from hpp_middleware.types.http import Headers
from hpp_middleware.types.provider import Limits

__all__ = ["ASGIClient", "raw", "read_body"]

_REPLAYED_S = 0.1
"""How long is waited for a ``receive`` that has said something else than a departure, once the body is whole."""

_REPLAYS = 5
"""One that has said it so often in a row will hardly say anything else."""


class ASGIClient:
    """
    See :class:`hpp_middleware.ports.Client`.

    Args:
        receive: ASGI's.
        send: ASGI's.
        request_id: Ours, for ``x-request-id``.
        id_header: Where the API's own clients look for it, if elsewhere.

    A server's ``send`` says nothing after a disconnect, or raises ``OSError``: either way the departure is heard by
    ``receive``.

    Attributes:
        deaf: Called once ``receive`` has proved to be none that could tell of a departure.
    """

    patient = True
    started = False
    deaf: Callable[[], None] | None = None
    _refused = False

    def __init__(self, receive: Receive, send: Send, request_id: str, id_header: bytes | None = None) -> None:
        self._id_header = id_header
        self.receive = receive
        self._send = send
        self._request_id = request_id

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head, with the request's id; an answer that is given again has its first one's."""
        self.started = True
        head = raw(headers)
        if b"x-request-id" not in dict(head):
            head.append((b"x-request-id", self._request_id.encode()))
        if self._id_header is not None:
            head.append((self._id_header, dict(head)[b"x-request-id"]))
        try:
            await self._send({"type": "http.response.start", "status": status, "headers": head})
        except OSError:
            self._refused = True  # as below

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the body."""
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
        except OSError:
            self._refused = True  # some servers raise where others are silent; what follows is up to gone()

    def hear(self, left: Callable[[], None]) -> Callable[[], None] | None:
        """See :class:`hpp_middleware.ports.Client`."""
        return Listening(self.receive, left).stop if is_plain(self.receive) else None

    async def gone(self) -> None:
        """
        Return when the client has left.

        A host's middleware that has read the body may give it again whenever it is asked, and at once: asked without a
        pause it would keep the event loop to itself. Then only a server whose ``send`` raises tells of a departure.
        """
        for times in count(1):
            message = await self.receive()
            if message["type"] == "http.disconnect" or self._refused:
                return
            if times == _REPLAYS and self.deaf is not None:
                self.deaf()
            await anyio.sleep(_REPLAYED_S)


def raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them."""
    return list(map(_raw, headers))


@lru_cache(maxsize=1024)  # nearly all of an answer's are those of the one before
def _raw(header: tuple[str, str]) -> tuple[bytes, bytes]:
    name, value = header
    return name.lower().encode("latin-1"), value.encode("latin-1")


async def read_body(receive: Receive, headers: dict[bytes, bytes], limits: Limits) -> bytes:
    """
    A request's whole body, counted while it arrives.

    Raises:
        RequestError: 413 too large, 415 not JSON, 408 too slow, 400 cut off.
    """
    media_type = headers.get(b"content-type", b"")
    if media_type != b"application/json" and media_type.partition(b";")[0].strip().lower() != b"application/json":
        raise _refused(415, "unsupported_media_type", "The Content-Type must be application/json.")
    if b"content-encoding" in headers and headers[b"content-encoding"].strip().lower() != b"identity":
        raise _refused(415, "unsupported_media_type", "The body must not have a Content-Encoding.")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and (len(length) > 15 or int(length) > limits.body_bytes):
        raise _too_large(limits)
    try:
        is_there, found = begin_within(limits.body_s, _body(receive, limits))
        return found if is_there else await found  # type: ignore[return-value, misc]
    except TimeoutError:
        raise _refused(408, "request_timeout", "The body did not arrive in time.") from None


async def _body(receive: Receive, limits: Limits) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("The client left before its request was whole.")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limits.body_bytes:
            raise _too_large(limits)
        if not message.get("more_body"):
            return b"".join((*pieces, piece)) if pieces else piece
        pieces.append(piece)


def _too_large(limits: Limits) -> RequestError:
    return _refused(413, "request_too_large", f"The body must not have more than {limits.body_bytes} bytes.")


def _refused(status: int, code: str, message: str) -> RequestError:
    return RequestError(message, status=status, code=code)
