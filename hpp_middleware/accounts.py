"""
Keys and quotas, for whoever runs the router: what the command line does, and what a host's own admin code calls.

Never reachable by a client.
"""

import secrets
import time
from collections.abc import Callable, Sequence
from decimal import Decimal

from msgspec import Struct

from hpp_middleware.core import auth, price
from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.ports import CredentialStore, QuotaStore
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
    """

    key: str
    id: str
    consumer: str
    quota: int
    models: tuple[str, ...] | None = None
    expires: float | None = None


class Accounts:
    """
    Keys and quotas in a store.

    Args:
        quota: Where accounts are.
        credentials: Where credentials are.
        pepper: What digests are made with.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        quota: QuotaStore,
        credentials: CredentialStore,
        pepper: bytes,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._quota = quota
        self._credentials = credentials
        self._pepper = pepper
        self._clock = clock

    async def create_key(
        self,
        consumer: str,
        *,
        quota: str | Decimal | None = None,
        models: Sequence[str] | None = None,
        expires: float | None = None,
    ) -> NewKey:
        """
        Make a key. A second key of a consumer shares its account.

        Args:
            consumer: Who is charged; also the account's name.
            quota: Dollars for a new account.
            models: Model ids or globs the key may use; None allows every model.
            expires: Seconds since the epoch.
        Raises:
            ConfigurationError: A value is wrong, or a quota is given for an account that has one already.
            StoreError: The store failed.
        """
        name = _checked_name(consumer)
        balance = await self._quota.balance(name)
        if quota is not None:
            if balance != Balance(account=name):
                raise ConfigurationError(
                    f"{name} has an account already: change its quota with `quota set` or `quota add`", param="quota"
                )
            balance = await self._move(name, to=price.nano_from_usd(quota, "quota"))
        if expires is not None and expires <= self._clock():
            raise ConfigurationError("expires must be in the future", param="expires")
        key, key_id = auth.make_key(secrets.token_bytes(8), secrets.token_bytes(20))
        allowed = tuple(models) if models is not None else None
        await self._credentials.add(
            Credential(
                digest=auth.digest(key, self._pepper),
                id=key_id,
                consumer=Consumer(id=name, key_id=key_id, models=allowed),
                created=self._clock(),
                expires=expires,
            )
        )
        return NewKey(key=key, id=key_id, consumer=name, quota=balance.quota, models=allowed, expires=expires)

    async def keys(self) -> list[Credential]:
        """All credentials, oldest first, revoked and expired ones too."""
        return await self._credentials.credentials()

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key by its public id; it is refused within seconds. False if there is none."""
        return await self._credentials.revoke(key_id, self._clock())

    async def balance(self, consumer: str) -> Balance:
        """A consumer's account, fresh."""
        return await self._quota.balance(consumer)

    async def set_quota(self, consumer: str, usd: str | Decimal) -> Balance:
        """Make an account's quota exactly this many dollars; below what is used it stops admission, not live holds."""
        return await self._move(_checked_name(consumer), to=price.nano_from_usd(usd, "quota"))

    async def add_quota(self, consumer: str, usd: str | Decimal, *, id: str | None = None) -> Balance:  # noqa: A002  # the field's name
        """
        Add dollars to an account's quota; a negative amount takes away.

        Args:
            consumer: Whose account.
            usd: Dollars.
            id: A repeat with the same id adds once.
        """
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
                raise ConfigurationError("this id has granted another amount already", param="id")
        raise StoreError("The quota is being changed by too many at once.")


def _checked_name(consumer: str) -> str:
    if not 1 <= len(consumer) <= 200 or not consumer.isprintable() or consumer != consumer.strip():
        raise ConfigurationError("consumer must be 1 to 200 printable characters", param="consumer")
    return consumer
