"""``hpp-router quota`` and ``hpp-router usage``: what the accounts have, and what they have used."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from hpp_middleware.accounts import Accounts
from hpp_middleware.cli.common import AsJSON, Config, Fault, as_json, dollars, in_office, table
from hpp_middleware.config import Settings
from hpp_middleware.core import price as pricing
from hpp_middleware.types.quota import Balance

__all__ = ["app", "usage"]

app = typer.Typer(help="Show and change quotas, in dollars.", no_args_is_help=True)

Consumer = Annotated[str, typer.Argument(help="Whose account.")]
MaybeConsumer = Annotated[str | None, typer.Argument(help="Whose account; all, if left out.")]

_QUOTA = ("quota", "used", "held", "remaining", "available")


@app.command()
def show(consumer: MaybeConsumer = None, config: Config = None, json: AsJSON = False) -> None:
    """Show an account's quota, or everybody's."""
    _print(in_office(config, _reader(consumer)), one=consumer is not None, json=json)


@app.command("set")
def put(
    consumer: Consumer,
    amount: Annotated[str, typer.Argument(help="The new quota, such as 9.00.")],
    config: Config = None,
    json: AsJSON = False,
) -> None:
    """Make the quota exactly this; what was used stays used."""

    async def work(accounts: Accounts, _: Settings) -> Balance:
        return await accounts.set_quota(consumer, amount)

    _print([in_office(config, work)], one=True, json=json)


# Otherwise "-1.50" would be taken for an option.
@app.command(context_settings={"ignore_unknown_options": True})
def add(
    consumer: Consumer,
    amount: Annotated[str, typer.Argument(help="What to add, such as 1.50; -1.50 takes away.")],
    config: Config = None,
    json: AsJSON = False,
) -> None:
    """Add to the quota."""

    async def work(accounts: Accounts, _: Settings) -> Balance:
        return await accounts.add_quota(consumer, amount)

    _print([in_office(config, work)], one=True, json=json)


def usage(consumer: MaybeConsumer = None, config: Config = None, json: AsJSON = False) -> None:
    """Show what an account has used, or everybody's."""
    balances = in_office(config, _reader(consumer))
    if json:
        rows = [_usage(balance) for balance in balances]
        as_json(rows if consumer is None else rows[0])
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


def _reader(consumer: str | None) -> Callable[[Accounts, Settings], Awaitable[list[Balance]]]:
    async def work(accounts: Accounts, settings: Settings) -> list[Balance]:
        named = {credential.consumer.account: None for credential in await accounts.keys()} | dict.fromkeys(
            settings.consumers
        )
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
