"""``hpp-router quota`` and ``hpp-router usage``: what the accounts have, and what they have used."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from hpp_middleware.accounts import Accounts
from hpp_middleware.cli.budgets import Standing, standing
from hpp_middleware.cli.common import AsJSON, Config, Fault, as_json, dollars, in_office, table
from hpp_middleware.config import Settings
from hpp_middleware.core import price as pricing
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.quota import Balance

__all__ = ["app", "usage"]

app = typer.Typer(help="Show and change quotas, in dollars.", no_args_is_help=True)

MaybeConsumer = Annotated[str | None, typer.Argument(help="Whose account; all, if left out.")]
ByOption = Annotated[str | None, typer.Option("--consumer", help="Whose account, as an option.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="CONSUMER AMOUNT", help="Whose account, and dollars.")]
Create = Annotated[bool, typer.Option("--create", help="Make the account, if there is none of this name.")]
Amount = Annotated[str | None, typer.Option("--quota", "--amount", help="Dollars, as an option.")]

_QUOTA = ("quota", "used", "held", "remaining", "available")


@app.command()
def show(consumer: MaybeConsumer = None, named: ByOption = None, config: Config = None, json: AsJSON = False) -> None:
    """Show an account's quota, or everybody's; one account with those above it, and with its budgets."""
    whose = named or consumer
    if whose is None:
        _print(in_office(config, _reader(None)), one=False, json=json)
        return

    async def work(accounts: Accounts, settings: Settings) -> Standing:
        return await standing(accounts, settings, (await _reader(whose)(accounts, settings))[0])

    found = in_office(config, work)
    if json:
        as_json({**_quota(found.balance), **found.more()})
        return
    _print([found.balance, *found.parents], one=True, json=False)
    found.print_budgets()


@app.command("set")
def put(
    *,
    words: Words = None,
    consumer: ByOption = None,
    quota: Amount = None,
    create: Create = False,
    config: Config = None,
    json: AsJSON = False,
) -> None:
    """Make the quota exactly this, such as 9.00; what was used stays used."""
    whose, amount = _whose_and_how_much(words, consumer, quota)

    async def work(accounts: Accounts, settings: Settings) -> Balance:
        await _check_known(whose, accounts, settings, create=create)
        return await accounts.set_quota(whose, amount)

    _print([in_office(config, work)], one=True, json=json)


# Otherwise "-1.50" would be taken for an option.
@app.command(context_settings={"ignore_unknown_options": True})
def add(
    *,
    words: Words = None,
    consumer: ByOption = None,
    quota: Amount = None,
    create: Create = False,
    config: Config = None,
    json: AsJSON = False,
) -> None:
    """Add to the quota, such as 1.50; -1.50 takes away."""
    whose, amount = _whose_and_how_much(words, consumer, quota)

    async def work(accounts: Accounts, settings: Settings) -> Balance:
        await _check_known(whose, accounts, settings, create=create)
        return await accounts.add_quota(whose, amount)

    _print([in_office(config, work)], one=True, json=json)


def _whose_and_how_much(words: list[str] | None, consumer: str | None, amount: str | None) -> tuple[str, str]:
    """Both may be words or options: `quota set alice 9.00`, `quota set --consumer alice --quota 9.00`."""
    left = list(words or [])
    whose = consumer if consumer is not None else left.pop(0) if left else None
    much = amount if amount is not None else left.pop(0) if left else None
    if whose is None or much is None or left:
        raise ConfigurationError("name one consumer and one amount: alice 9.00")
    return whose, much


def usage(consumer: MaybeConsumer = None, named: ByOption = None, config: Config = None, json: AsJSON = False) -> None:
    """Show what an account has used, or everybody's."""
    whose = named or consumer
    balances = in_office(config, _reader(whose))
    if json:
        rows = [_usage(balance) for balance in balances]
        as_json(rows if whose is None else rows[0])
        return
    table(
        ("CONSUMER", "REQUESTS", "TOKENS", "COST", "REMAINING"),
        [
            (
                balance.account,
                str(balance.requests),
                str(balance.tokens),
                _usd(balance.used),
                _usd(balance.remaining),
            )
            for balance in balances
        ],
    )


async def _named(accounts: Accounts, settings: Settings) -> dict[str, None]:
    """The accounts of which there is a key, or a declaration; groups last."""
    keyed = {each.consumer.account: None for each in await accounts.keys() if not each.damaged}
    return keyed | dict.fromkeys(settings.consumers) | dict.fromkeys(settings.groups)


async def _check_known(consumer: str, accounts: Accounts, settings: Settings, *, create: bool) -> None:
    """
    Refuse a name that nothing has, which is a slip more often than a new account.

    Raises:
        ConfigurationError: It has neither an account nor a key nor a declaration.
    """
    if create or await accounts.balance(consumer) != Balance(account=consumer):
        return
    if consumer not in await _named(accounts, settings):
        raise ConfigurationError(
            f"there is no account {consumer!r}, and no key or declared consumer of that name; --create makes it"
        )


def _reader(consumer: str | None) -> Callable[[Accounts, Settings], Awaitable[list[Balance]]]:
    async def work(accounts: Accounts, settings: Settings) -> list[Balance]:
        named = await _named(accounts, settings)
        if consumer is None:
            return [await accounts.balance(name) for name in named]
        balance = await accounts.balance(consumer)
        if consumer not in named and balance == Balance(account=consumer):
            raise Fault(f"there is no account {consumer!r}")
        return [balance]

    return work


def _print(balances: list[Balance], *, one: bool, json: bool) -> None:
    if json:
        rows = [_quota(balance) for balance in balances]
        as_json(rows[0] if one else rows)
        return
    table(
        ("CONSUMER", *(name.upper() for name in _QUOTA)),
        [(balance.account, *(_usd(getattr(balance, name)) for name in _QUOTA)) for balance in balances],
    )


def _quota(balance: Balance) -> dict[str, Any]:
    amounts = {name: dollars(getattr(balance, name)) for name in _QUOTA}
    return {"consumer": balance.account, "has_quota": balance.remaining > 0, **amounts}


def _usage(balance: Balance) -> dict[str, Any]:
    return {
        "consumer": balance.account,
        "quota": dollars(balance.quota),
        "used": dollars(balance.used),
        "remaining": dollars(balance.remaining),
        "requests": balance.requests,
        "total_tokens": balance.tokens,
        "total_cost": dollars(balance.used),
    }


def _usd(nano: int) -> str:
    return f"-${pricing.dollars(-nano)}" if nano < 0 else f"${pricing.dollars(nano)}"
