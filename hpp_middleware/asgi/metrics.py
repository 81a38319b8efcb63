"""``GET /metrics``: what Prometheus reads."""

import hmac

import anyio.to_thread
from starlette.types import Receive, Scope, Send

from hpp_middleware.asgi.client import raw
from hpp_middleware.core import auth, reply
from hpp_middleware.errors import RequestError
from hpp_middleware.observers.prometheus import PrometheusObserver

__all__ = ["Metrics"]


class Metrics:
    """
    An endpoint for an observer's figures: ``Gateway(metrics=Metrics(PrometheusObserver()))`` has it at ``/metrics``.

    It is an ASGI app by itself as well, for a host that has it elsewhere: ``Route("/metrics", Metrics(observer))``.

    Args:
        observer: Whose figures.
        token: What who reads them has to show, as ``Authorization: Bearer ...``; 20 to 256 characters. None shows them
            to whoever can reach the path.

    Raises:
        ConfigurationError: The token is none.
    """

    def __init__(self, observer: PrometheusObserver, *, token: str | None = None) -> None:
        self.observer = observer
        self._shown = None if token is None else f"Bearer {auth.check_secret(token, 'metrics.token')}".encode()

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        if scope["method"] not in {"GET", "HEAD"}:
            await _refuse(_not_allowed(), send)
        elif self._shown is not None and not hmac.compare_digest(headers.get(b"authorization", b""), self._shown):
            await _refuse(_not_shown(), send)
        else:
            accept = headers.get(b"accept", b"").decode("latin-1")
            body, media_type = await anyio.to_thread.run_sync(self.observer.scrape, accept)
            await _send(send, body, media_type)


def _not_shown() -> RequestError:
    """Another refusal than that of a consumer's key, which is not asked for here."""
    words = "The token for metrics is missing, or is not the configured one."
    return RequestError(words, status=401, code="unauthorized", headers={"WWW-Authenticate": "Bearer"})


def _not_allowed() -> RequestError:
    headers = {"Allow": "GET, HEAD"}
    return RequestError("This method is not allowed here.", status=405, code="method_not_allowed", headers=headers)


async def _refuse(error: RequestError, send: Send) -> None:
    headers = reply.error_headers(error)
    await _send(send, reply.error_body(error), "application/json", status=error.status, headers=headers)


async def _send(
    send: Send, body: bytes, media_type: str, *, status: int = 200, headers: list[tuple[str, str]] | None = None
) -> None:
    head = [("Content-Type", media_type), ("Content-Length", str(len(body))), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": raw(head)})
    await send({"type": "http.response.body", "body": body, "more_body": False})
