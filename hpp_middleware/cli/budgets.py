"""What stands above an account, and what its budgets have left: the rest of ``hpp-router quota show``."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hpp_middleware.accounts import Accounts
from hpp_middleware.cli.common import dollars, table
from hpp_middleware.config import Settings
from hpp_middleware.core import price as pricing
from hpp_middleware.core.ceilings import Due
from hpp_middleware.stages.reserve.ceilings import Ceilings
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.quota import Balance

__all__ = ["Standing", "standing"]


class Standing(Struct, frozen=True):
    """
    An account, with what it has to keep within besides.

    Attributes:
        parents: The accounts above it, nearest first.
        budgets: Its own and theirs, in the period that is now, each with its account.
    """

    balance: Balance
    parents: Sequence[Balance]
    budgets: Sequence[tuple[Due, Balance]]

    def more(self) -> dict[str, Any]:
        """What there is to say of it besides its quota, as JSON says it."""
        return {
            "parents": [each.account for each in self.parents],
            "budgets": [
                {
                    "of": due.whose,
                    "period": due.budget.period,
                    "model": due.budget.model,
                    "account": due.account,
                    "amount": dollars(_amount(due, balance)),
                    "used": dollars(balance.used),
                    "held": dollars(balance.held),
                    "remaining": dollars(_amount(due, balance) - balance.used),
                    "renewed": due.span.renewed,
                }
                for due, balance in self.budgets
            ],
        }

    def print_budgets(self) -> None:
        """The budgets as a table, if there are any."""
        if not self.budgets:
            return
        print()
        table(
            ("BUDGET OF", "PERIOD", "MODEL", "AMOUNT", "USED", "HELD", "RENEWED"),
            [
                (
                    due.whose,
                    due.budget.period,
                    due.budget.model or "all",
                    f"${pricing.dollars(_amount(due, balance))}",
                    f"${pricing.dollars(balance.used)}",
                    f"${pricing.dollars(balance.held)}",
                    due.span.renewed,
                )
                for due, balance in self.budgets
            ],
        )


async def standing(accounts: Accounts, settings: Settings, balance: Balance) -> Standing:
    """An account with its parents and budgets: a consumer's, or a group's."""
    ceilings = Ceilings(settings.groups, settings.budgets, settings.consumers)
    consumer = Consumer(id=balance.account)
    if balance.account in settings.groups:
        consumer = Consumer(id=balance.account, parents=tuple(filter(None, [settings.groups[balance.account].parent])))
        names, budgets = ceilings.parents(consumer), ceilings.budgets_of(balance.account)
    else:
        for credential in await accounts.keys():
            if credential.consumer.account == balance.account and credential.revoked is None:
                consumer = credential.consumer
        names, budgets = ceilings.parents(consumer), ceilings.all_of(consumer).budgets
    return Standing(
        balance,
        [await accounts.balance(name) for name in names],
        [(due, await accounts.balance(due.account)) for due in budgets],
    )


def _amount(due: Due, balance: Balance) -> int:
    """What the period has in all: as it was declared by its first request, and granted since; or as it will be."""
    return balance.quota if balance != Balance(account=due.account) else due.budget.amount
