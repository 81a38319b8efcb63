"""
Auth, hold and settlement around an ASGI app that itself serves completions: a vLLM server, a team's own endpoint.

    app = MeteringMiddleware(app, gateway, provider="local")

The app is the upstream, called in process. Its models are named as the app names them, and priced as the gateway's
``provider/model``. What is no completion passes through to the app as it is.

Which path is metered is decided as the most lenient router would: what the app might take for a completion is never
passed on unpaid. So no WebSocket is opened there, and no other method passes than those that ask for nothing.
"""

from collections.abc import Collection, Mapping
from typing import Any

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from hpp_middleware.asgi.app import Gateway
from hpp_middleware.asgi.boundary import Outgoing, told
from hpp_middleware.asgi.client import ASGIClient
from hpp_middleware.asgi.endpoints import Endpoints
from hpp_middleware.asgi.paths import APIS, ID_HEADERS, UNMETERED, plain, whole
from hpp_middleware.errors import ConfigurationError, GatewayError, RequestError
from hpp_middleware.ports import API, Transport
from hpp_middleware.stages.worker.worker import new_id
from hpp_middleware.transports.inprocess import InProcess
from hpp_middleware.types.consumer import Consumer

__all__ = ["MeteringMiddleware"]

POLICY_VIOLATION = 1008
"""The code that a WebSocket is closed with."""

_ASKING_NOTHING = frozenset({"GET", "HEAD", "OPTIONS"})


class MeteringMiddleware:
    """
    A pure ASGI middleware; ``app.add_middleware(MeteringMiddleware, gateway=gateway)`` takes it too.

    The app sees each completion without the client's headers, key and all, and with the consumer's name in
    ``scope["hpp.consumer"]``. Its answer is streamed through as it comes. An error of its own is told as an upstream's.

    Args:
        app: What serves completions.
        gateway: Knows keys, quotas and prices. Open it by the host's lifespan, or let the first request do it.
        provider: The gateway's provider that stands for the app: its ``base_url`` (``http://app/v1``) ends in the path
            that the app serves under, and is never connected to. Where the gateway has one only, it is that.
        paths: Which paths are metered, and what is spoken there; by default those of the gateway's own endpoints,
            ``/v1/chat/completions`` among them.
        closed: Paths of the app that are a 404, since what is asked there could not be metered; by default those where
            servers of models answer besides, ``/v1/completions`` among them.
    Raises:
        ConfigurationError: The gateway has no such provider, or several.
    """

    def __init__(
        self,
        app: ASGIApp,
        gateway: Gateway,
        *,
        provider: str | None = None,
        paths: Mapping[str, API] | None = None,
        closed: Collection[str] = UNMETERED,
    ) -> None:
        names = list(gateway.catalog.providers)
        if provider is None and len(names) != 1:
            raise ConfigurationError(f"provider must be one of {', '.join(names)}", param="provider")
        if provider is not None and provider not in names:
            raise ConfigurationError(f"the gateway has no provider {provider!r}", param="provider")
        self._app = app
        self._gateway = gateway
        self._provider = provider or names[0]
        self._paths = {plain(path): api for path, api in (APIS if paths is None else paths).items()}
        self._closed = frozenset(map(plain, closed)) - self._paths.keys()
        self._endpoints = Endpoints(gateway, public_models=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Meter a completion; pass on everything else."""
        asked = _paths_of(scope) if scope["type"] in {"http", "websocket"} else ()
        api = next((self._paths[path] for path in asked if path in self._paths), None)
        if api is None and self._closed.isdisjoint(asked):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()  # that it connects
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
        elif scope["method"].upper() in _ASKING_NOTHING:
            await self._app(scope, receive, send)
        elif api is None or scope["method"].upper() != "POST":
            request_id = new_id()
            outgoing = Outgoing(send, request_id)
            await self._gateway.refuse(_refusal(api), {**scope, "hpp.request_id": request_id}, outgoing)
        else:
            await self._metered(scope, receive, send, api)

    async def _metered(self, scope: Scope, receive: Receive, send: Send, api: API) -> None:
        request_id = new_id()
        ours: dict[str, Any] = {**scope, "hpp.request_id": request_id, "hpp.api": api}
        id_header = ID_HEADERS.get(api.name)
        client = ASGIClient(receive, send, request_id, id_header)
        raised: Exception | None = None
        async with anyio.create_task_group() as tasks:
            try:
                await self._complete(ours, client, api, tasks)
            except Exception as error:  # noqa: BLE001  # the boundary, as of the sub-app; where no task group wraps it
                raised = error
        if raised is not None and client.started:
            self._gateway.fault(raised, ours)
        elif raised is not None:
            outgoing = Outgoing(send, request_id, id_header)
            await self._gateway.refuse(told(raised, ours, self._gateway), ours, outgoing)

    async def _complete(self, scope: Scope, client: ASGIClient, api: API, tasks: anyio.abc.TaskGroup) -> None:
        def through(consumer: Consumer) -> Transport:
            return InProcess(self._app, {**scope, "hpp.consumer": consumer.id}, tasks)

        await self._endpoints.complete(scope, client, None, api, within=self._provider, through=through)


def _paths_of(scope: Scope) -> tuple[str, ...]:
    """The path below where the app is mounted; servers differ in whether ``path`` has that in it."""
    path, root = scope["path"], scope.get("root_path", "")
    return (plain(path), plain(whole(scope).removeprefix(root))) if root else (plain(path),)


def _refusal(api: API | None) -> GatewayError:
    """Why nothing is served at a path of an API, or of none."""
    if api is None:
        return RequestError("There is nothing at this path: it is not metered.", status=404, code="not_found")
    message = "This method is not allowed here."
    return RequestError(message, status=405, code="method_not_allowed", headers={"Allow": "POST"})
