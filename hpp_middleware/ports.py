"""
The ports: what the path needs from the outside. Protocols; nothing to inherit or register.

The stores have a conformance suite in :mod:`hpp_middleware.testing`, by which a backend of your own can be held to
its promises.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from msgspec import Raw

from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.consumer import Credential
from hpp_middleware.types.events import Event
from hpp_middleware.types.http import Headers, HTTPCall
from hpp_middleware.types.operations import Grant, Operation, Result
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Model
from hpp_middleware.types.quota import Account, Balance, Entry, Hold, Seal, Statement

__all__ = [
    "Archive",
    "Audit",
    "Client",
    "CredentialEpoch",
    "CredentialExpiry",
    "CredentialRehash",
    "CredentialStore",
    "Dialect",
    "Ledger",
    "Observer",
    "PriceList",
    "QuotaStore",
    "Store",
    "Transport",
    "UpstreamResponse",
]


@runtime_checkable
class QuotaStore(Protocol):
    """
    Accounts and holds.

    Promises: a reserve is atomic, across processes where the store is shared; every operation is idempotent by id; a
    settlement may exceed its hold; a race never oversells; one refusal leaves its neighbours alone.
    """

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """
        Carry out each operation, independently of the others, and answer in the same order.

        Raises:
            StoreError: Nothing is known of any of them; repeat them by id.
        """
        ...

    async def balance(self, account: str) -> Balance:
        """
        Read one account, fresh; an account nobody granted anything reads as zeros.

        Raises:
            StoreError: It cannot be read.
        """
        ...


@runtime_checkable
class Ledger(Protocol):
    """What was charged; written by the quota store in the settling transaction, read here."""

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """
        The lines of one request of one account: its resolution first, then overage and correction. Empty if there are
        none.
        """
        ...

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """Up to ``most`` lines of an account with ``seq > after``, in order."""
        ...


@runtime_checkable
class CredentialStore(Protocol):
    """Digests and the consumers they name."""

    async def find(self, digest: bytes) -> Credential | None:
        """
        The credential, expired and revoked ones too; None only for a definite absence.

        Raises:
            StoreError: It cannot be known.
        """
        ...

    async def add(self, credential: Credential) -> None:
        """Keep one; a digest or an id that is there already is replaced."""
        ...

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark one as revoked, of several times at the earliest; False if there is none of that id."""
        ...

    async def credentials(self) -> list[Credential]:
        """All of them, oldest first."""
        ...


@runtime_checkable
class CredentialEpoch(Protocol):
    """A credential store that counts its changes, so that every worker hears of a revocation within about a second."""

    async def epoch(self) -> int:
        """
        A number that is never the same again once a credential was added, revoked or given an end, by anybody.

        It is read once a second by each worker that has traffic. A store without it has its answers forgotten by their
        age: after 5 seconds.

        Raises:
            StoreError: It cannot be known.
        """
        ...


@runtime_checkable
class CredentialExpiry(Protocol):
    """A credential store in which a key can be given an end, as a rotation with a grace does."""

    async def expire(self, key_id: str, at: float) -> bool:
        """
        Let one expire at a time, or earlier if it does already, in one step, so that a revocation meanwhile is not
        lost; False if there is none of that id.
        """
        ...


@runtime_checkable
class CredentialRehash(Protocol):
    """A credential store in which keys move to another pepper as they are used."""

    async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
        """
        Keep the credential of a digest under another one, in one step, and note the pepper's id; nothing else of it
        changes, so that a revocation meanwhile is not lost. The same digest notes the pepper alone.

        Returns:
            False if there is none of that digest, or no longer.
        Raises:
            StoreError: It is not known whether it was moved.
        """
        ...


@runtime_checkable
class Store(QuotaStore, Ledger, CredentialStore, Protocol):
    """A backend that keeps everything, and can be opened and closed."""

    async def open(self) -> None:
        """Connect; safe to repeat."""
        ...

    async def aclose(self) -> None:
        """Let go; safe to repeat."""
        ...

    def pepper(self) -> bytes | None:
        """A pepper of the store's own, for a gateway that was given none; None where one must be given."""
        ...


@runtime_checkable
class Audit(Protocol):
    """A store whose books can be checked, line by line and sum by sum."""

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """Up to ``most`` account ids that sort behind ``after``, in order."""
        ...

    async def statement(self, account: str) -> Statement:
        """An account and what its rows add up to, in one snapshot; an unknown account reads as zeros."""
        ...

    async def holds(self, ids: Sequence[str]) -> list[Hold]:
        """Those of these holds that are still known."""
        ...

    async def seals(self, account: str, after: int = 0, most: int = 1000) -> list[Seal]:
        """Up to ``most`` seals of an account with ``seq > after``, in order."""
        ...

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        """
        Append seals; the same one again changes nothing.

        Raises:
            StoreError: There is another one at that place already, or they cannot be written.
        """
        ...


@runtime_checkable
class Archive(Protocol):
    """Where a mover puts what a faster store wrote, to keep it for good."""

    async def archive(self, items: Sequence[Entry | Grant]) -> None:
        """
        Keep ledger lines and grants, each once, and add what is new to its account's sums, in one transaction.

        Raises:
            StoreError: Nothing is known of any of them; repeat them.
        """
        ...

    async def totals(self, account: str) -> Account:
        """What an account has by what was archived; zeros for one that nothing was archived of."""
        ...


class Dialect(Protocol):
    """What a provider speaks, as pure values in, values out."""

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """
        The request to send.

        Args:
            request: What the client asked.
            target: Where it goes.
            cap: The output cap to add where the client gave none, in tokens; None leaves the client's.
            request_id: Ours, for the upstream's logs.
        Raises:
            RequestError: A field cannot be expressed, or changes the cost in a way that cannot be priced.
        """
        ...

    def stream(
        self, request: Request, target: Target, *, event_bytes: int, cap: int, charge: Charge | None = None
    ) -> "StreamReader":
        """
        A reader for one streamed response.

        Args:
            request: What the client asked.
            target: Where it went.
            event_bytes: The largest event.
            cap: How many tokens a choice its output may not run past.
            charge: What the answer is charged, for the last usage event to say; None where it does not.
        """
        ...

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None
    ) -> tuple[bytes, Seen]:
        """
        A whole JSON response, as the client gets it, and what it showed.

        Args:
            body: The upstream's.
            request: What the client asked.
            target: Where it went.
            charge: What the answer is charged, for its ``usage`` to say; None where it does not.
        Raises:
            ProtocolError: The body is no completion.
        """
        ...


class StreamReader(Protocol):
    """A stream that is fed: bytes in, bytes for the client out."""

    @property
    def done(self) -> bool:
        """Whether the end mark has been passed on, or made."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the stream ran past its cap."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """What the client gets for these bytes."""
        ...

    def close(self) -> bytes:
        """What the client gets when the upstream has ended without an end mark."""
        ...

    def stub(self) -> dict[str, Raw]:
        """The head of an event of our own in this stream."""
        ...

    @property
    def seen(self) -> Seen:
        """What the stream has shown so far."""
        ...


class UpstreamResponse(Protocol):
    """The head of a response, and its body piece by piece."""

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes:
        """
        The next piece as it arrives; empty at the end.

        Raises:
            UpstreamError: The connection broke.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection unless the response was read to its end."""
        ...


class Transport(Protocol):
    """An HTTP client."""

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        """
        Send one request and wait for the head of its response. Redirects are not followed, cookies not kept.

        Args:
            call: What to send.
            provider: Named in errors.
            sent: Called before the first byte of the request goes out: from there on it may cost money. What it raises
                passes through, and then nothing is sent.
        Raises:
            UpstreamError: It could not be reached, or broke off.
        """
        ...

    async def aclose(self) -> None:
        """Close the pool."""
        ...


class Observer(Protocol):
    """Told what happened, after it happened; what it raises is logged and dropped."""

    def observe(self, event: Event) -> None:
        """Take note; do not block."""
        ...


class PriceList(Protocol):
    """Prices that are not the operator's own."""

    def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
        """The price of a model now, and what else the list knows of it; None where it has no price."""
        ...

    def models(self, provider: str) -> Sequence[str]:
        """The names of the provider's priced models."""
        ...


class Client(Protocol):
    """
    The HTTP peer: where a response goes, and whence a departure is heard.

    Attributes:
        started: Whether the head of a response has been sent.
        patient: Whether a JSON answer is awaited, and a stream drained where that is its provider's policy, although
            the client has left, since the model is paid for.
    """

    started: bool
    patient: bool

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the response."""
        ...

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the body, the last one with ``more=False``."""
        ...

    async def gone(self) -> None:
        """Return when the client has left; never, if that cannot be known."""
        ...
