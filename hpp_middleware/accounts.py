"""
Keys and quotas, for whoever runs the router: what the command line does, and what a host's own admin code calls.

Never reachable by a client.
"""

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Literal

from msgspec import Struct, structs

from hpp_middleware.core import auth, names, price
from hpp_middleware.core.names import MARK
from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.ports import CredentialExpiry, CredentialReassign, CredentialStore, QuotaStore
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Balance

__all__ = ["Accounts", "NewKey"]

_ATTEMPTS = 20


class NewKey(Struct, frozen=True, kw_only=True):
    """
    A key that was just made; the only moment at which its text is known.

    Attributes:
        quota: The account's quota in nano-dollars.
        replaces: The id of the key that it was rotated from.
        replaced_until: Seconds since the epoch at which that one ends, or ended.
    """

    key: str
    id: str
    consumer: str
    quota: int
    models: tuple[str, ...] | None = None
    expires: float | None = None
    replaces: str | None = None
    replaced_until: float | None = None


class Accounts:
    """
    Keys and quotas in a store.

    Args:
        quota: Where accounts are.
        credentials: Where credentials are.
        pepper: What digests are made with.
        previous_pepper: The one before it, while peppers are rotated.
        clock: Seconds since the epoch.
        changed: Called after a key was made or revoked, so that whoever remembers keys may look again.
    """

    def __init__(
        self,
        quota: QuotaStore,
        credentials: CredentialStore,
        pepper: bytes,
        *,
        previous_pepper: bytes | None = None,
        clock: Callable[[], float] = time.time,
        changed: Callable[[], None] | None = None,
    ) -> None:
        self._quota = quota
        self._credentials = credentials
        self._peppers = auth.check_peppers(pepper, previous_pepper)
        self._clock = clock
        self._changed = changed

    async def create_key(
        self,
        consumer: str,
        *,
        quota: str | Decimal | None = None,
        models: Sequence[str] | None = None,
        expires: float | None = None,
        parent: str | None = None,
    ) -> NewKey:
        """
        Make a key. A second key of a consumer shares its account.

        Args:
            consumer: Who is charged; also the account's name.
            parent: The account above it, a group's; where it is left out, that of the consumer's other keys. What the
                configuration file says of a consumer goes before.
            quota: Dollars for a new account.
            models: Model ids or globs the key may use; None allows every model.
            expires: Seconds since the epoch.
        Raises:
            ConfigurationError: A value is wrong, a quota is given for an account that has one already, or the consumer
                has keys under another parent.
            StoreError: The store failed.
        """
        name = _checked_name(consumer)
        if isinstance(models, str):  # a sequence of its letters, of which "*" is every model
            raise ConfigurationError('models must be several, such as ["openai/*"], and is one text', param="models")
        allowed = tuple(models) if models is not None else None
        _check_unmarked(name, "consumer")
        self._check_expiry(expires)
        parents = await self._parents(name, parent)
        balance = await self._quota.balance(name)
        if quota is not None:
            if balance != Balance(account=name):
                raise ConfigurationError(
                    f"{name} has an account already: change its quota with `quota set` or `quota add`", param="quota"
                )
            balance = await self._move(name, to=price.nano_from_usd(quota, "quota"))
        made = Consumer(id=name, models=allowed, parents=parents)
        return await self._keep(made, expires=expires, quota=balance.quota)

    async def _parents(self, name: str, parent: str | None) -> tuple[str, ...]:
        """The parent of all keys of a consumer, which may be the first that names one."""
        others = [each.consumer for each in await self.keys() if each.consumer.id == name and each.revoked is None]
        if parent is None:
            return others[-1].parents if others else ()
        chain = self._chain(name, parent)
        if any(each.parents != chain for each in others):
            raise ConfigurationError(f"{name} has keys under another parent: `keys move` moves them", param="parent")
        return chain

    def _chain(self, name: str, parent: str) -> tuple[str, ...]:
        chain = (_checked_name(parent, "parent"),)
        _check_unmarked(parent, "parent")
        together = getattr(self._quota, "holds_together", None)
        if parent == name:
            raise ConfigurationError("parent must be another account", param="parent")
        if together is not None and not together((name, parent)):
            raise ConfigurationError(
                f"parent: the store cannot hold in {name} and {parent} at once: it has several shards, and the names "
                "have different roots (the part before the first /)",
                param="parent",
            )
        return chain

    async def set_parent(self, consumer: str, parent: str | None) -> int:
        """
        Put a consumer's account under another one, or under none: all of its keys. What is held stays held where it is.

        Args:
            consumer: Whose keys.
            parent: The account that is to be above; None for none. What the configuration file says goes before.
        Returns:
            How many keys there were.
        Raises:
            ConfigurationError: A value is wrong, or the credential store cannot change a key's consumer.
            StoreError: The store failed; some of the keys may be moved, and to repeat it moves the others.
        """
        name = _checked_name(consumer)
        chain = self._chain(name, parent) if parent is not None else ()
        if not isinstance(self._credentials, CredentialReassign):
            raise ConfigurationError("this store cannot change a key's consumer: rotate its keys", param="parent")
        moved = 0
        for each in await self.keys():
            if each.consumer.id == name and each.consumer.parents != chain:
                with self._telling():
                    moved += await self._credentials.reassign(each.id, structs.replace(each.consumer, parents=chain))
        return moved

    async def rotate_key(self, key_id: str, *, grace_s: float = 0.0, expires: float | None = None) -> NewKey | None:
        """
        Make a key that takes another one's place: the same consumer, account and models.

        Args:
            key_id: The public id of the key to replace.
            grace_s: For how long the old key still works, until it expires; it is revoked at once by default.
            expires: Seconds since the epoch; by default the old key's.
        Returns:
            The new key, or None if there is no key of that id.
        Raises:
            ConfigurationError: The old key is revoked, or a value is wrong; nothing was changed.
            StoreError: The store failed; the old key may still work.
        """
        if not 0 <= grace_s < math.inf:
            raise ConfigurationError("grace must not be negative", param="grace")
        if grace_s and not isinstance(self._credentials, CredentialExpiry):
            raise ConfigurationError("this store can end the old key at once only", param="grace")
        old = next((each for each in await self.keys() if each.id == key_id), None)
        if old is None:
            return None
        if old.revoked is not None:
            raise ConfigurationError("this key is revoked", param="key_id")
        if old.damaged:
            raise ConfigurationError("what is kept of this key cannot be read: make another one", param="key_id")
        until = old.expires if expires is None else expires
        self._check_expiry(until)
        balance = await self._quota.balance(old.consumer.account)
        made = await self._keep(old.consumer, expires=until, quota=balance.quota)
        ends = self._clock() + grace_s
        if grace_s and isinstance(self._credentials, CredentialExpiry):
            with self._telling():
                await self._credentials.expire(key_id, ends)
        else:
            await self.revoke(key_id)
        return structs.replace(made, replaces=key_id, replaced_until=ends)

    async def _keep(self, consumer: Consumer, *, expires: float | None, quota: int) -> NewKey:
        """A new key of a consumer."""
        key, key_id = auth.make_key(secrets.token_bytes(8), secrets.token_bytes(20))
        credential = Credential(
            digest=auth.digest(key, self._peppers.current),
            id=key_id,
            consumer=structs.replace(consumer, key_id=key_id),
            created=self._clock(),
            expires=expires,
            pepper=auth.pepper_id(self._peppers.current),
        )
        with self._telling():
            await self._credentials.add(credential)
        return NewKey(key=key, id=key_id, consumer=consumer.id, quota=quota, models=consumer.models, expires=expires)

    async def keys(self) -> list[Credential]:
        """All credentials, oldest first; revoked, expired and damaged ones too."""
        return await self._credentials.credentials()

    def kept_under(self, credential: Credential) -> Literal["current", "previous", "unknown"]:
        """
        Which pepper a key is kept under; the previous one can be dropped when no key that still works needs it.

        Unknown for a key that an older version made, until it is used, and for one under a pepper that was dropped.
        """
        return self._peppers.which(credential)

    async def revoke(self, key_id: str) -> bool:
        """
        Revoke a key by its public id. The gateway whose accounts these are refuses it from then on, others within
        seconds; an answer that is being streamed goes on to its end. False if there is no key of that id.
        """
        with self._telling():
            return await self._credentials.revoke(key_id, self._clock())

    def _check_expiry(self, expires: float | None) -> None:
        if expires is not None and expires <= self._clock():
            raise ConfigurationError("expires must be in the future", param="expires")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """A change of keys; it is told although it failed, since it may have been made all the same."""
        try:
            yield
        finally:
            if self._changed is not None:
                self._changed()

    async def balance(self, consumer: str) -> Balance:
        """A consumer's account, fresh."""
        return await self._quota.balance(consumer) if names.can_be_kept(consumer) else Balance(account=consumer)

    async def set_quota(self, consumer: str, usd: str | Decimal) -> Balance:
        """Make an account's quota exactly this many dollars; below what is used it stops admission, not live holds."""
        return await self._move(_checked_name(consumer), to=price.nano_from_usd(usd, "quota"))

    async def add_quota(self, consumer: str, usd: str | Decimal, *, id: str | None = None) -> Balance:  # noqa: A002  # the field's name
        """
        Add dollars to an account's quota; a negative amount takes away.

        Args:
            consumer: Whose account.
            usd: Dollars.
            id: A repeat with the same id adds once. An id is one account's: put its name into ids that others have too.
        Raises:
            ConfigurationError: A value is wrong, or the id has granted something else; nothing was added.
        """
        if id is not None:
            _check_id(id)
        text = str(usd).strip()
        sign = -1 if text.startswith("-") else 1
        amount = sign * price.nano_from_usd(text.removeprefix("-"), "amount")
        return await self._move(_checked_name(consumer), by=amount, id=id)

    async def _move(
        self,
        account: str,
        *,
        to: int | None = None,
        by: int = 0,
        id: str | None = None,  # noqa: A002  # as above
    ) -> Balance:
        """A grant; ``to`` is a compare-and-set, tried again when somebody else was quicker."""
        for _ in range(_ATTEMPTS):
            expect = (await self._quota.balance(account)).quota if to is not None else None
            amount = to - expect if to is not None and expect is not None else by
            grant = Grant(id=id or f"grant_{secrets.token_hex(16)}", account=account, amount=amount, expect=expect)
            (result,) = await self._quota.apply([grant])
            if result.status == "done":
                return await self._quota.balance(account)
            if result.status == "refused":
                raise ConfigurationError("the quota would leave the range of 0 to 9000000 dollars", param="quota")
            if expect is None:
                raise ConfigurationError("this id has granted another amount, or to another account", param="id")
        raise StoreError("The quota is being changed by too many at once.")


def _checked_name(name: object, what: str = "consumer") -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= 200 or not name.isprintable() or name != name.strip():
        raise ConfigurationError(f"{what} must be 1 to 200 printable characters", param=what)
    return name


def _check_id(given: object) -> None:
    """Refuse an id of a grant by which not every store would know it again."""
    if not isinstance(given, str) or not given or not names.can_be_kept(given):
        raise ConfigurationError(f"id must be 1 to {names.MOST_BYTES} bytes of text without NUL", param="id")


def _check_unmarked(name: str, what: str) -> None:
    if MARK in name:
        raise ConfigurationError(f"{what} must have no {MARK!r} in it: it is what budgets are called", param=what)
