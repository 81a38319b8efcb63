"""What an operator configures above consumers: groups whose quotas they share, and budgets of a period."""

from dataclasses import dataclass
from typing import Literal

from hpp_middleware.errors import ConfigurationError

__all__ = ["Budget", "Group", "Period"]

Period = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """
    An account above consumers: a team, an organisation. What is held and charged below it is held and charged in it.

    Attributes:
        quota: Nano-dollars; None leaves the account as it is: one that nobody granted anything has room for nothing.
        parent: The account above it in turn.
    """

    quota: int | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """
    What may be spent in a day, a week or a month, beside the quota.

    Attributes:
        amount: Nano-dollars a period.
        period: It begins at midnight; a week on Monday, a month on its first day.
        consumer: Whose: a consumer's id, or ``*`` for each one that none of this period and model names.
        account: Or which account's: a group's, with all that is below it.
        timezone: Where midnight is: a name of the IANA database, such as ``Europe/Berlin``.
        model: A model id or a glob: only requests that go to such models are counted; None for all.
        downgrade: The model that is asked instead where this budget has no room; None refuses the request.
    """

    amount: int
    period: Period
    consumer: str | None = None
    account: str | None = None
    timezone: str = "UTC"
    model: str | None = None
    downgrade: str | None = None

    def __post_init__(self) -> None:
        if self.period not in {"day", "week", "month"}:
            raise ConfigurationError("period must be day, week or month", param="period")
        if (self.consumer is None) == (self.account is None):
            raise ConfigurationError("consumer must be set, or account, and not both", param="consumer")
