"""
The tree of exceptions: each answers "whose fault?".

``RequestError`` the caller can fix it; ``UpstreamError`` a provider let us down; ``StoreError`` a backend let us down;
``OverloadedError`` we have too much to do; ``ConfigurationError`` while building, never while serving. No message
carries a key, a prompt or a provider's body.
"""

import math
from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "ConfigurationError",
    "GatewayError",
    "NotOpenedError",
    "OverloadedError",
    "OwnFaultError",
    "RequestError",
    "StoreError",
    "UpstreamError",
    "UpstreamUnavailableError",
]


class GatewayError(Exception):
    """
    Anything this package raises on purpose.

    Attributes:
        status: The HTTP status that fits, a hint for the shell.
        code: A stable word for programs.
        type: OpenAI's error ``type``.
        param: The field at fault, or None.
        retryable: Whether the same request may succeed later.
        headers: What the response says besides (``Retry-After``, ``WWW-Authenticate``).
    """

    status: int = 500
    code: str = "internal_error"
    type: str = "server_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retryable: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        if status is not None:
            self.status = status
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable


class RequestError(GatewayError):
    """
    The caller can fix it: 400, 401, 403, 404, 405, 408, 413, 415, 429.

    Attributes:
        availability: Of ``smart_routing_failed``: why each model cannot answer.
    """

    status = 400
    code = "invalid_request"
    availability: Mapping[str, str] | None = None

    TYPES: ClassVar[dict[int, str]] = {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
    }

    @property
    def type(self) -> str:  # type: ignore[override]  # follows the status here, fixed elsewhere
        """OpenAI's error ``type`` for this status."""
        if self.code == "insufficient_quota":
            return "insufficient_quota"  # OpenAI gives type and code the same word; clients match it
        return self.TYPES.get(self.status, "invalid_request_error")


class UpstreamError(GatewayError):
    """
    A provider let us down: 502, 503, 504, or a client error of its own that is passed on.

    Attributes:
        provider: The configured provider's name.
        upstream_status: The status it answered with, or None where it gave none.
        unsent: Whether it is certain that nothing was sent, and so nothing is charged.
        detail: What the operator's log is to say of it besides; empty where it says all.
    """

    detail: str = ""

    status = 502
    code = "provider_unavailable"
    type = "upstream_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        upstream_status: int | None = None,
        status: int | None = None,
        code: str | None = None,
        retryable: bool = False,
        headers: Mapping[str, str] | None = None,
        unsent: bool = False,
    ) -> None:
        super().__init__(message, status=status, code=code, retryable=retryable, headers=headers)
        self.provider = provider
        self.upstream_status = upstream_status
        self.unsent = unsent


class OverloadedError(GatewayError):
    """This worker answers as much as it can, or is about to stop: 503, and nothing was held or forwarded."""

    status = 503
    code = "overloaded"
    type = "server_error"
    retryable = True


class OwnFaultError(UpstreamError):
    """
    What is to reach a provider is at fault, and not the provider: a host's client that is closed, or that has a bug.

    It is a 500, is no mark against the provider, and the log tells what it was.
    """

    status = 500
    code = "internal_error"
    type = "server_error"

    def __init__(self, provider: str, detail: str, *, unsent: bool = False) -> None:
        super().__init__("The router failed.", provider=provider, unsent=unsent)
        self.detail = detail


class UpstreamUnavailableError(UpstreamError):
    """
    No upstream of a model may be asked now, since all have failed or rest: 503, and nothing was sent.

    Args:
        provider: The configured provider's name.
        wait_s: How long until one may be, in seconds: ``Retry-After``.
    """

    def __init__(self, provider: str, wait_s: float) -> None:
        super().__init__(
            f"{provider} cannot be asked at the moment; nothing was forwarded.",
            provider=provider,
            status=503,
            code="upstream_unavailable",
            retryable=True,
            headers={"Retry-After": str(max(1, math.ceil(wait_s)))},
            unsent=True,
        )


class StoreError(GatewayError):
    """A backend let us down: 503, and nothing was forwarded that was not held for."""

    status = 503
    code = "quota_unavailable"
    type = "server_error"
    retryable = True


class NotOpenedError(StoreError):
    """
    A store cannot be opened: clients are told that, and operators (by ``str()``) which one, and why.

    Attributes:
        where: The setting that names it, such as ``store.url``.
        cause: What is the matter, in plain words.
    """

    def __init__(self, where: str, cause: str) -> None:
        super().__init__("A store cannot be opened.", headers={"Retry-After": "1"})
        self.where = where
        self.cause = cause

    def __str__(self) -> str:
        return f"{self.where}: cannot be opened: {self.cause}"


class ConfigurationError(GatewayError):
    """A setting is wrong; raised while building, never while serving."""

    code = "configuration_error"
