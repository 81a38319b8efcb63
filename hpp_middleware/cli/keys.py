"""``hpp-router keys``: make, list, rotate and revoke keys, while the router runs or not."""

import re
import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hpp_middleware.accounts import Accounts, NewKey
from hpp_middleware.cli.allowed import unmatched
from hpp_middleware.cli.common import AsJSON, Config, Fault, as_json, dollars, in_office, moment, table
from hpp_middleware.config import Settings
from hpp_middleware.core import auth
from hpp_middleware.core import price as pricing
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.consumer import Credential

__all__ = ["app", "expiry", "span"]

app = typer.Typer(help="Make, list, rotate, move and revoke keys.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]
Expires = Annotated[str | None, typer.Option(help="30d, 12h, or a date such as 2027-01-31 (UTC).")]

_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_NO_SUCH_KEY = "there is no key of this id"  # not repeated: it may be the key itself
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@app.command()
def create(
    *,
    consumer: Annotated[str, typer.Option(help="Who is charged.")],
    config: Config = None,
    quota: Annotated[str | None, typer.Option(help="Dollars for a new account, such as 5.00.")] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Models or globs the key may use; repeat, or separate by commas.")
    ] = None,
    expires: Expires = None,
    parent: Annotated[
        str | None, typer.Option(help="The account above the consumer's, such as a team's under [accounts].")
    ] = None,
    json: AsJSON = False,
) -> None:
    """Make a key, and print it this once. A second key of a consumer shares its account."""
    allowed = _models(models)
    until = None if expires is None else expiry(expires, now=time.time())
    warnings: list[str] = []

    async def work(accounts: Accounts, settings: Settings) -> NewKey:
        declared = settings.consumers.get(consumer)
        if quota is not None and declared is not None and declared.quota is not None:
            raise ConfigurationError(f"--quota: the quota of {consumer} is declared in the file, under [consumers]")
        if parent is not None and declared is not None:
            raise ConfigurationError(f"--parent: {consumer} is declared in the file, and so is its parent")
        warnings.extend(unmatched(allowed or (), settings))
        return await accounts.create_key(consumer, quota=quota, models=allowed, expires=until, parent=parent)

    _print_once(in_office(config, work), json=json)
    for each in warnings:
        print(f"hpp-router: --models: {each}", file=sys.stderr)


@app.command("list")
def show(config: Config = None, json: AsJSON = False) -> None:
    """List the keys: their ids, never their text."""

    async def work(accounts: Accounts, _: Settings) -> list[dict[str, Any]]:
        now = time.time()
        return [_row(each, accounts.kept_under(each), now=now) for each in await accounts.keys()]

    rows = in_office(config, work)
    if json:
        as_json(rows)
        return
    table(
        ("ID", "CONSUMER", "STATE", "CREATED", "EXPIRES", "PEPPER", "MODELS"),
        [
            (
                row["id"],
                row["consumer"],
                row["state"],
                row["created"],
                row["expires"] or "never",
                row["pepper"],
                ", ".join(row["models"] or ["all"]),
            )
            for row in rows
        ],
    )


@app.command()
def rotate(
    *,
    key_id: KeyId,
    config: Config = None,
    grace: Annotated[
        str, typer.Option(help="How long the old key still works: 24h, 7d; not at all by default.")
    ] = "0s",
    expires: Annotated[
        str | None, typer.Option(help="When the new key ends: 30d, 12h, or a date; when the old one does by default.")
    ] = None,
    json: AsJSON = False,
) -> None:
    """Make a key in another one's place, for the same consumer and models, and print it this once."""
    until = None if expires is None else expiry(expires, now=time.time())
    grace_s = span(grace, "--grace")

    async def work(accounts: Accounts, _: Settings) -> NewKey | None:
        return await accounts.rotate_key(key_id, grace_s=grace_s, expires=until)

    made = in_office(config, work)
    if made is None:
        raise Fault(_NO_SUCH_KEY)
    _print_once(made, json=json)


@app.command()
def move(
    *,
    consumer: Annotated[str, typer.Option(help="Whose keys.")],
    config: Config = None,
    parent: Annotated[
        str | None, typer.Option(help="The account that is to be above theirs; none, if left out.")
    ] = None,
    json: AsJSON = False,
) -> None:
    """Put a consumer's account under another one; its keys stay as they are."""

    async def work(accounts: Accounts, settings: Settings) -> int:
        if consumer in settings.consumers:
            raise ConfigurationError(f"--consumer: {consumer} is declared in the file, and so is its parent")
        if not any(each.consumer.id == consumer for each in await accounts.keys()):
            raise Fault(f"there is no key of {consumer!r}")
        return await accounts.set_parent(consumer, parent)

    count = in_office(config, work)
    if json:
        as_json({"consumer": consumer, "parent": parent, "moved": count})
    else:
        print(f"moved     {count} {'key' if count == 1 else 'keys'} of {consumer}")


@app.command()
def revoke(
    key_id: KeyId,
    config: Config = None,
    json: AsJSON = False,
) -> None:
    """Revoke a key: a running router refuses it within 5 seconds; what it is streaming goes on to its end."""

    async def work(accounts: Accounts, _: Settings) -> bool:
        return await accounts.revoke(key_id)

    if not in_office(config, work):
        raise Fault(_NO_SUCH_KEY)
    if json:
        as_json({"id": key_id, "revoked": True})
    else:
        print(f"revoked   {key_id}")


def expiry(text: str, *, now: float) -> float:
    """
    Seconds since the epoch, from a span such as ``30d`` or an ISO date, which is UTC unless it says otherwise.

    Raises:
        ConfigurationError: It is neither.
    """
    if _SPAN.fullmatch(text):
        return now + span(text, "--expires")
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError("--expires: must be a span such as 30d or 12h, or a date such as 2027-01-31") from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def span(text: str, option: str) -> int:
    """
    Seconds, from a span such as ``24h``.

    Raises:
        ConfigurationError: It is none.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ConfigurationError(f"{option}: must be a span such as 24h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def _print_once(made: NewKey, *, json: bool) -> None:
    if json:
        said = {
            "key": made.key,
            "id": made.id,
            "consumer": made.consumer,
            "quota": dollars(made.quota),
            "models": made.models,
            "expires": moment(made.expires),
        }
        if made.replaces is not None:
            said |= {"replaces": made.replaces, "replaced_until": moment(made.replaced_until)}
        as_json(said)
        return
    print(f"key       {made.key}")
    print(f"id        {made.id}")
    print(f"consumer  {made.consumer}")
    print(f"quota     ${pricing.dollars(made.quota)}")
    print(f"models    {', '.join(made.models) if made.models else 'all'}")
    print(f"expires   {moment(made.expires) or 'never'}")
    if made.replaces is not None:
        print(f"replaces  {made.replaces}, which works until {moment(made.replaced_until)}")
    print("The key is shown this once; the router keeps only a digest of it.")


def _models(given: list[str] | None) -> tuple[str, ...] | None:
    if not given:
        return None
    models = tuple(part.strip() for each in given for part in each.split(",") if part.strip())
    if not models:
        raise ConfigurationError("--models: names no model; leave it out to allow every model")
    return models


def _row(credential: Credential, pepper: str, *, now: float) -> dict[str, Any]:
    state = "revoked" if credential.revoked is not None else "expired"
    if auth.is_live(credential, now=now):
        state = "active"
    if credential.damaged:
        state = "damaged"
    return {
        "id": credential.id,
        "consumer": credential.consumer.id,
        "state": state,
        "created": moment(credential.created),
        "expires": moment(credential.expires),
        "revoked": moment(credential.revoked),
        "pepper": pepper,
        "models": credential.consumer.models,
    }
