"""
Who is asking: the awaiting half.

A credential that was found is cached for seconds, one that definitely is not for fewer; a failure of the store is never
cached, and is a 503, not a 401. Requests that show the same key at once ask the store once.
"""

import time
from collections.abc import Callable, Iterable, Mapping

import anyio
from cachetools import TTLCache

from hpp_middleware.core import auth
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import CredentialStore
from hpp_middleware.types.consumer import Consumer, Credential

__all__ = ["Authenticator"]

KNOWN_S = 5.0
UNKNOWN_S = 2.0
MOST_CACHED = 10_000
FIND_S = 10.0


class _Flight:
    """One question to the store, and those who wait for its answer."""

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.credential: Credential | None = None
        self.error: StoreError | None = None
        self.answered = False


class Authenticator:
    """
    From request headers to a consumer.

    Args:
        store: Where credentials are.
        pepper: What digests are made with.
        declared: Credentials of the configuration file, by digest; they are asked first.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        store: CredentialStore,
        pepper: bytes,
        declared: Mapping[bytes, Credential],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._pepper = pepper
        self._declared = declared
        self._clock = clock
        self._known: TTLCache[bytes, Credential] = TTLCache(MOST_CACHED, KNOWN_S)
        self._unknown: TTLCache[bytes, bool] = TTLCache(MOST_CACHED, UNKNOWN_S)
        self._flights: dict[bytes, _Flight] = {}

    async def consumer(self, headers: Iterable[tuple[bytes, bytes]]) -> Consumer:
        """
        Who these headers name.

        Raises:
            RequestError: 401, the same for every cause.
            StoreError: It cannot be known.
        """
        digest = auth.digest(auth.secret_from(headers), self._pepper)
        credential = self._declared.get(digest) or await self._find(digest)
        return auth.admit(credential, digest, now=self._clock())

    async def _find(self, digest: bytes) -> Credential | None:
        while True:
            known = self._known.get(digest)
            if known is not None or digest in self._unknown:
                return known
            flight = self._flights.get(digest)
            if flight is None:
                return await self._ask(digest)
            await flight.landed.wait()
            if flight.error is not None:
                raise StoreError(flight.error.message, headers=flight.error.headers)
            if flight.answered:
                return flight.credential
            # Whoever asked was cancelled: the next one asks.

    async def _ask(self, digest: bytes) -> Credential | None:
        flight = self._flights[digest] = _Flight()
        try:
            with anyio.fail_after(FIND_S):
                flight.credential = await self._store.find(digest)
            flight.answered = True
        except Exception as error:
            flight.error = StoreError("Credentials cannot be checked at the moment.", headers={"Retry-After": "1"})
            raise flight.error from error
        finally:
            del self._flights[digest]
            flight.landed.set()
        if flight.credential is None:
            self._unknown[digest] = True
        else:
            self._known[digest] = flight.credential
        return flight.credential
