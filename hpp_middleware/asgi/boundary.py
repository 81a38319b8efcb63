"""The outermost layer of the sub-app: ids, paths, and errors that say what they may and no more."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpp_middleware.asgi.client import ASGIClient
from hpp_middleware.asgi.paths import APIS, ID_HEADERS, meant, spoken_at, whole
from hpp_middleware.errors import ConfigurationError, GatewayError, RequestError, StoreError
from hpp_middleware.stages.worker.worker import new_id

if TYPE_CHECKING:
    from hpp_middleware.asgi.app import Gateway

__all__ = ["Boundary", "Completions", "Outgoing", "told"]

Completions = Callable[..., Awaitable[None]]
"""See :meth:`hpp_middleware.asgi.endpoints.Endpoints.complete`."""

_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    429: "rate_limit_exceeded",
}


class Boundary:
    """
    Around every request: draws the request's id, puts it on every response, accepts a trailing slash, and lets nothing
    out but JSON errors. What it catches is told by its type only, since a traceback may show a key.

    The path that nearly every request has is known here, and need not be matched with all the others.
    """

    def __init__(self, app: ASGIApp, completions: Completions, owner: "Gateway") -> None:
        self._app = app
        self._completions = completions
        self._owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        api = APIS.get(scope["path"]) if not scope.get("root_path") else None
        if api is None:  # it is mounted, or asked for something else
            scope, below = _below(scope)
            api = APIS.get(below)
        spoken = scope["hpp.api"] = spoken_at(below, scope["headers"]) if api is None else api
        id_header = None if spoken is None else ID_HEADERS.get(spoken.name)
        worker = self._owner.setup.at_hand()
        request_id = scope["hpp.request_id"] = new_id() if worker is None else worker.new_id()
        outgoing: ASGIClient | Outgoing
        try:
            if api is not None and scope.get("method") == "POST":
                outgoing = ASGIClient(receive, send, request_id, id_header)
                await self._completions(scope, outgoing, worker, api)
            else:
                outgoing = Outgoing(send, request_id, id_header)
                await self._app(scope, receive, outgoing)
        except Exception as error:  # noqa: BLE001  # the boundary: nothing of it goes further but its type
            if outgoing.started:
                self._owner.fault(error, scope)
            else:
                outgoing = Outgoing(send, request_id, id_header)
                await self._owner.refuse(told(error, scope, self._owner), scope, outgoing)


def _below(scope: Scope) -> tuple[Scope, str]:
    """A request without a trailing slash, and its path below where the app is mounted."""
    path, root = whole(scope), scope.get("root_path", "")
    if path.endswith("/"):
        path = path.rstrip("/") or "/"
    if path is not scope["path"]:
        scope = {**scope, "path": path}
    return scope, path.removeprefix(root)


def told(error: Exception, scope: Scope, owner: "Gateway") -> GatewayError:
    """
    What a client is told of an error: itself, where it is ours, a host's verdict in our words, else nothing of it.

    Args:
        error: What was raised.
        scope: The request's.
        owner: Told of what must not happen.
    """
    if isinstance(error, GatewayError) and not isinstance(error, ConfigurationError):
        if isinstance(error, StoreError):
            owner.outage(error, scope)
        return error
    if isinstance(error, HTTPException):
        code = _CODES.get(error.status_code, "invalid_request")
        messages = {404: "There is nothing at this path.", 405: "This method is not allowed here."}
        message = messages.get(error.status_code, "The request was refused.")
        found = meant(scope["path"]) if error.status_code == 404 else None
        if found is not None:
            message += f" The base URL may be wrong: try {found}, below where the router is."
        return RequestError(message, status=error.status_code, code=code, headers=dict(error.headers or {}))
    owner.fault(error, scope)
    return GatewayError("The router failed.", retryable=True)


class Outgoing:
    """
    ``send`` with the request's id on the head of the response; what follows the head is the server's own affair.

    Args:
        send: ASGI's.
        request_id: Ours, for ``x-request-id``.
        id_header: Where the API's own clients look for it, if elsewhere.
    """

    __slots__ = ("_id_header", "_request_id", "_send", "started")

    def __init__(self, send: Send, request_id: str, id_header: bytes | None = None) -> None:
        self._id_header = id_header
        self.started = False
        self._send = send
        self._request_id = request_id

    def __call__(self, message: Message) -> Awaitable[None]:
        """Send a message."""
        if not self.started and message["type"] == "http.response.start":
            self.started = True
            headers = list(message.get("headers", []))
            if not any(name == b"x-request-id" for name, _ in headers):  # an answer given again has its first one's
                headers.append((b"x-request-id", self._request_id.encode()))
            if self._id_header is not None:
                headers.append((self._id_header, dict(headers)[b"x-request-id"]))
            head: MutableMapping[str, Any] = {**message, "headers": headers}
            message = head
        return self._send(message)
