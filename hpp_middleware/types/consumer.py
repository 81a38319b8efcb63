"""Who is charged, and what names them."""

from msgspec import Struct
from msgspec.structs import force_setattr

__all__ = ["Consumer", "Credential"]


def _is_text(given: object) -> bool:
    return isinstance(given, str)


class Consumer(Struct, frozen=True, kw_only=True):
    """
    Who is charged.

    Attributes:
        id: The consumer's name in usage reports and the ledger.
        account: The account that pays; the consumer's own id unless a host says otherwise.
        parents: The accounts above it, nearest first, in which its holds must fit too; what is above the last of them
            the gateway's own groups say. Those that the configuration declares for this id go before.
        key_id: The public id of the credential that was shown, or None for a host's own identity.
        username: A display name, passed through to ``/api/usage``.
        custom_id: A host's own id, passed through to ``/api/usage``.
        models: Model ids or globs this credential may use; None allows every model.

    Raises:
        TypeError: A name is no text, or what should be several is one, of whose letters ``*`` would allow every model.
    """

    id: str
    account: str = ""
    key_id: str | None = None
    username: str | None = None
    custom_id: str | None = None
    models: tuple[str, ...] | None = None
    parents: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.account:
            force_setattr(self, "account", self.id)
        if not (_is_text(self.id) and _is_text(self.account)):
            raise TypeError("Consumer: id and account must be str")
        if self.key_id is not None and not _is_text(self.key_id):
            raise TypeError("Consumer: key_id must be str, or None")
        if _is_text(self.models) or _is_text(self.parents):
            raise TypeError('Consumer: models and parents must be several, such as ("openai/*",), not one str')


class Credential(Struct, frozen=True, kw_only=True):
    """
    A digest naming a consumer. A store sees digests, never secrets.

    Attributes:
        digest: HMAC-SHA-256 of the secret under the pepper, 32 bytes.
        id: The public part, safe to print and to log.
        consumer: Who is charged.
        created: Seconds since the epoch.
        expires: Seconds since the epoch from which the key is refused, or None.
        revoked: Seconds since the epoch at which it was revoked, or None.
        pepper: The id of the pepper that the digest was made with; empty where it was not noted.
        damaged: Its row cannot be read, so that nobody is let in by it; only a list has such a one, whose consumer is
            nobody's.
    """

    digest: bytes
    id: str
    consumer: Consumer
    created: float = 0.0
    expires: float | None = None
    revoked: float | None = None
    pepper: str = ""
    damaged: bool = False
