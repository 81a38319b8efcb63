"""
Amazon's signatures (SigV4), made by botocore (extra ``bedrock``) just before a call is sent.

The keys are those of a provider's ``options``, or else what botocore finds by itself: the environment, the shared
files, a container's or an instance's role. Looking them up and renewing them may take files and connections, and is
done in a thread, once for all that wait.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.session import Session
from msgspec.structs import replace

from hpp_middleware.dialects.bedrock import region_of
from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Transport, UpstreamResponse
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

__all__ = ["AWSTransport", "Keys", "sign", "signed"]

SERVICE = "bedrock"
"""What Bedrock's runtime is signed for, whatever its host is called."""

RETRY_S = 2.0
"""How long nothing is looked up again: where there was nothing, whoever asks meanwhile need not wait for that."""


def signed(provider: Provider, transport: Transport) -> Transport:
    """A transport whose calls are signed with these keys, for this region."""
    options = provider.options
    if options.get("access_key_id"):
        fixed = ReadOnlyCredentials(
            options["access_key_id"], options["secret_access_key"], options.get("session_token") or None
        )
        return AWSTransport(transport, region_of(provider), lambda: fixed)
    return AWSTransport(transport, region_of(provider), partial(_found, options.get("profile") or None))


def sign(call: HTTPCall, keys: ReadOnlyCredentials, region: str) -> HTTPCall:
    """
    The call with its signature: of its URL, its body and its media type, and of nothing that a proxy may change.

    Args:
        call: What is to be sent; now, since a signature is good for some minutes.
        keys: Whose it is.
        region: Where it goes.
    """
    media_type = next((value for name, value in call.headers if name.lower() == "content-type"), "application/json")
    request = AWSRequest(call.method, call.url, {"Content-Type": media_type}, call.body)
    SigV4Auth(keys, SERVICE, region).add_auth(request)
    made = [(name, value) for name, value in request.headers.items() if name != "Content-Type"]
    return replace(call, headers=[*call.headers, *made])


class Keys:
    """
    Keys that are looked up when they are first needed, and renewed before they run out.

    Args:
        find: Looks them up, in a thread: botocore's credentials, or None where there are none.
        clock: Seconds, monotonic.
    """

    def __init__(self, find: Callable[[], Any], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._find = find
        self._clock = clock
        self._source: Any = None
        self._keys: ReadOnlyCredentials | None = None
        self._next_at: float | None = None  # when to look again; None for at once
        self._lock = anyio.Lock()

    async def get(self) -> ReadOnlyCredentials | None:
        """The keys as of now; None where there are none."""
        if self._is_time():
            async with self._lock:
                if self._is_time():
                    await self._renew()
        return self._keys

    def _is_time(self) -> bool:
        """Whether to look: there are no keys, or new ones are due, and the last look is some time ago."""
        is_due = getattr(self._source, "refresh_needed", None)
        needed = self._keys is None or (is_due is not None and is_due())
        return needed and (self._next_at is None or self._clock() >= self._next_at)

    async def _renew(self) -> None:
        try:
            self._source, self._keys = await anyio.to_thread.run_sync(self._look_up, abandon_on_cancel=True)
        except Exception:  # noqa: BLE001  # botocore's, and those of what it asks: all of them mean that there are none
            self._keys = None
        self._next_at = self._clock() + RETRY_S

    def _look_up(self) -> tuple[Any, ReadOnlyCredentials | None]:
        """In a thread."""
        source = self._source if self._source is not None else self._find()
        if source is None or isinstance(source, ReadOnlyCredentials):
            return source, source
        return source, source.get_frozen_credentials()  # renews them, where they are due


class AWSTransport:
    """
    A transport in front of another one.

    Args:
        transport: What sends the calls; closed with this one.
        region: What they are signed for.
        find: Looks up the keys; see :class:`Keys`.
    """

    def __init__(self, transport: Transport, region: str, find: Callable[[], Any]) -> None:
        self._transport = transport
        self._region = region
        self._keys = Keys(find)

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        """
        See :class:`hpp_middleware.ports.Transport`.

        Raises:
            UpstreamError: As there; also where there are no keys, and then nothing was sent.
        """
        keys = await self._keys.get()
        if keys is None:
            raise UpstreamError(
                "The router could not prove to the provider who it is.", provider=provider, retryable=True, unsent=True
            )
        return await self._transport.send(sign(call, keys, self._region), provider=provider, sent=sent)

    async def aclose(self) -> None:
        """Close the pool behind."""
        await self._transport.aclose()


def _found(profile: str | None) -> Any:
    """What botocore finds by itself; None for nothing."""
    return Session(profile=profile).get_credentials()
