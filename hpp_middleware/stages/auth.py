"""
Who is asking: the awaiting half.

A credential that was found is cached for seconds, one that definitely is not for fewer, both counted from the moment at
which the store was asked; a failure of the store is never cached, and is a 503, not a 401. Requests that show the same
key at once ask the store once. Where the store counts its changes, a change empties the cache within about a second.
"""

import hashlib
import hmac
import math
import time
from collections.abc import Callable, Iterable, Mapping

import anyio
from cachetools import TLRUCache
from msgspec import Struct
from msgspec.structs import replace

from hpp_middleware.core import auth
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import CredentialEpoch, CredentialRehash, CredentialStore
from hpp_middleware.types.consumer import Consumer, Credential

__all__ = ["Authenticator"]

KNOWN_S = 5.0
UNKNOWN_S = 2.0
EPOCH_S = 1.0
MOST_CACHED = 10_000
FIND_S = 10.0
FOR_EVER = math.inf
ASIDE_S = 1.0
"""How long a request waits for what it could do without."""


class _Flight:
    """One question to the store, and those who wait for its answer."""

    def __init__(self, asked: float) -> None:
        self.asked = asked
        self.landed = anyio.Event()
        self.credential: Credential | None = None
        self.error: StoreError | None = None
        self.answered = False


class _Recent(Struct, frozen=True):
    """A key that was good, and how long that is believed: always, where it is declared, and does not expire."""

    credential: Credential
    consumer: Consumer
    until: float
    always: bool


def _mark(header: tuple[bytes, bytes]) -> bytes:
    """By which a header that shows a key is known again: a whole digest, so that no secret is kept."""
    return hashlib.sha256(b"%b\0%b" % header).digest()


def _aging(seconds: float, timer: Callable[[], float]) -> TLRUCache[bytes, _Flight]:
    """Answers that are forgotten so long after their question."""
    return TLRUCache(MOST_CACHED, lambda _, flight, __: flight.asked + seconds, timer)


class _Cache:
    """
    What the store has said, and what it is being asked.

    To forget, another one is put in its place, which any thread may do at any time: an answer to a question that was
    asked before goes to the old one.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self.known = _aging(KNOWN_S, timer)
        self.unknown = _aging(UNKNOWN_S, timer)
        self.flights: dict[bytes, _Flight] = {}
        self.recent: dict[bytes, _Recent] = {}

    def remember(self, mark: bytes, recent: _Recent) -> None:
        """Know a header again without asking what it says."""
        if len(self.recent) >= MOST_CACHED:
            self.recent.clear()
        self.recent[mark] = recent


class Authenticator:
    """
    From request headers to a consumer.

    Args:
        store: Where credentials are.
        peppers: What digests are made with.
        declared: Credentials of the configuration file, by digest; they are asked first.
        clock: Seconds since the epoch, by which credentials expire.
        timer: Seconds that only go forward, by which answers are forgotten.
    """

    def __init__(
        self,
        store: CredentialStore,
        peppers: auth.Peppers,
        declared: Mapping[bytes, Credential],
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._peppers = peppers
        self._pepper_id = auth.pepper_id(peppers.current)
        self._declared = declared
        self._clock = clock
        self._timer = timer
        self._cache = _Cache(timer)
        self._epoch: int | None = None
        self._epoch_due = timer() if isinstance(store, CredentialEpoch) else math.inf

    async def consumer(self, headers: Iterable[tuple[bytes, bytes]]) -> Consumer:
        """
        Who these headers name.

        Raises:
            RequestError: 401, the same for every cause.
            StoreError: It cannot be known.
        """
        shown = auth.shown_in(headers)
        mark = _mark(shown[0]) if len(shown) == 1 else b""
        recent = self._cache.recent.get(mark)
        if recent is not None and (recent.always or self._is_believed(recent)):
            return recent.consumer
        digests = self._peppers.digests(auth.secret_from(shown))
        until = FOR_EVER
        credential = self._declared.get(digests[0])
        cache = self._cache
        if credential is None:
            cache, credential, until = await self._find(digests)
        consumer = auth.admit(credential, digests[0], now=self._clock())
        if mark and credential is not None:
            always = until is FOR_EVER and credential.expires is None
            cache.remember(mark, _Recent(credential, consumer, until, always))
        return consumer

    def _is_believed(self, recent: _Recent) -> bool:
        """Whether a key need not be asked for again."""
        known = recent.until is FOR_EVER or self._timer() < min(recent.until, self._epoch_due)
        return known and auth.is_live(recent.credential, now=self._clock())

    def forget(self) -> None:
        """Ask the store anew for every key, from now on; safe in any thread."""
        self._cache = _Cache(self._timer)

    async def _find(self, digests: tuple[bytes, ...]) -> "tuple[_Cache, Credential | None, float]":
        """What the store says, until when it is believed, and where that is noted."""
        await self._follow()
        digest = digests[0]
        while True:
            cache = self._cache
            cached = cache.known.get(digest) or cache.unknown.get(digest)
            if cached is not None:
                return cache, cached.credential, cached.asked + KNOWN_S
            flight = cache.flights.get(digest)
            if flight is None:
                asked = self._timer()
                return cache, await self._ask(cache, digests), asked + KNOWN_S
            await flight.landed.wait()
            if flight.error is not None:
                raise StoreError(flight.error.message, headers=flight.error.headers)
            if flight.answered:
                return cache, flight.credential, flight.asked + KNOWN_S
            # Whoever asked was cancelled: the next one asks.

    async def _ask(self, cache: _Cache, digests: tuple[bytes, ...]) -> Credential | None:
        digest = digests[0]
        flight = cache.flights[digest] = _Flight(self._timer())
        try:
            with anyio.fail_after(FIND_S):
                flight.credential = await self._read(digests)
            flight.answered = True
        except Exception as error:
            flight.error = StoreError("Credentials cannot be checked at the moment.", headers={"Retry-After": "1"})
            raise flight.error from error
        finally:
            del cache.flights[digest]
            flight.landed.set()
        (cache.unknown if flight.credential is None else cache.known)[digest] = flight
        return flight.credential

    async def _read(self, digests: tuple[bytes, ...]) -> Credential | None:
        """
        The credential of a key, under the current digest whichever it is kept under.

        While there are two peppers, a key may be moved from one digest to the other between two reads, so that the
        previous one is read before and after. All are read, whatever is found: the time tells nothing.
        """
        current, *others = digests
        found: dict[bytes, Credential] = {}
        for digest in (*others, current, *others):
            credential = await self._store.find(digest)
            if credential is not None and hmac.compare_digest(credential.digest, digest):
                found[digest] = credential
        for digest in digests:
            if digest in found:
                await self._keep_under_current(found[digest], current)
                return replace(found[digest], digest=current)
        return None

    async def _keep_under_current(self, credential: Credential, current: bytes) -> None:
        """Move a key that is good to the current pepper. Where it fails, the key's next read tries again."""
        there = credential.digest == current and credential.pepper == self._pepper_id
        if there or not isinstance(self._store, CredentialRehash) or not auth.is_live(credential, now=self._clock()):
            return
        with anyio.move_on_after(ASIDE_S):
            try:
                await self._store.rehash(credential.digest, current, self._pepper_id)
            except Exception:  # noqa: BLE001  # the key was found, and that is what was asked
                return

    async def _follow(self) -> None:
        """
        Forget all, if keys have changed since the last look. One request a second looks, the others go on meanwhile;
        where it cannot be known, answers are forgotten by their age alone.
        """
        now = self._timer()
        if now < self._epoch_due or not isinstance(self._store, CredentialEpoch):
            return
        self._epoch_due = now + EPOCH_S
        with anyio.move_on_after(ASIDE_S):
            try:
                epoch = await self._store.epoch()
            except Exception:  # noqa: BLE001  # as said above
                return
            if epoch != self._epoch:
                self._epoch = epoch
                self.forget()
