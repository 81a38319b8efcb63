"""``hpp-router auto``: what a policy would have done with requests that were, before it is let near any."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpp_middleware.cli.common import AsJSON, Fault, as_json, dollars, table
from hpp_middleware.cli.replaying import Replay, lines
from hpp_middleware.config import load
from hpp_middleware.core import price as pricing
from hpp_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from hpp_middleware.core.auto.learned import Scorer

__all__ = ["app"]

MOST_TOLD = 10
"""Of so many lines that cannot be read it is said why."""

app = typer.Typer(help="Try the policy of hpprouter/auto on past requests, and fit its scorer.", no_args_is_help=True)


@app.callback()
def _auto() -> None:
    """Try the policy of hpprouter/auto on past requests, and fit its scorer."""


@app.command()
def replay(
    policy: Annotated[Path, typer.Option(help="A TOML file with [auto], and the providers and models it names.")],
    data: Annotated[Path, typer.Option(help="JSON lines: requests, or what `ledger export` has written.")],
    json: AsJSON = False,
) -> None:
    """Run a policy over past requests: each model's share, the cost, and the quality that is to be expected."""
    gateway = load(policy, secrets=False).gateway()
    if gateway.setup.auto is None:
        raise ConfigurationError(f"auto: is missing in {policy}")
    done = Replay(gateway.setup.auto.policy, gateway.catalog, gateway.limits)
    for number, line in lines(data):
        problem = done.feed(line)
        if problem is not None and done.unread <= MOST_TOLD:
            sys.stderr.write(f"hpp-router: line {number} is passed over: {problem}\n")
    found = done.result()
    if not found.requests and found.actual is None:
        raise Fault(f"{data}: has no request that could be replayed")
    if json:
        as_json(
            {
                "requests": found.requests,
                "unread": found.unread,
                "unanswered": found.unanswered,
                "cost": dollars(found.cost),
                "actual_cost": None if found.actual is None else dollars(found.actual),
                "quality": found.quality,
                "with_quality": found.with_quality,
                "mean_score": found.mean_score,
                "models": [
                    {"model": each.model, "requests": each.requests, "share": each.share, "cost": dollars(each.cost)}
                    for each in found.models
                ],
                "rules": found.rules,
            }
        )
        return
    table(
        ("MODEL", "REQUESTS", "SHARE", "COST"),
        [
            (each.model, str(each.requests), f"{each.share:.1%}", f"${pricing.dollars(each.cost)}")
            for each in found.models
        ],
    )
    rows = [("requests", str(found.requests)), ("cost", f"${pricing.dollars(found.cost)}")]
    if found.actual is not None:
        rows.append(("actual cost", f"${pricing.dollars(found.actual)}"))
    if found.quality is not None:
        rows.append(("quality", f"{found.quality:.4f} over {found.with_quality} requests"))
    if found.mean_score is not None:
        rows.append(("mean score", f"{found.mean_score:.4f}"))
    rows += [(f"rule {rule}", str(count)) for rule, count in found.rules.items()]
    rows += [(name, str(count)) for name, count in (("no model", found.unanswered), ("unread", found.unread)) if count]
    print()
    table(("", ""), rows)


@app.command()
def fit(
    data: Annotated[Path, typer.Option(help="JSON lines with prompt, model and quality (0 to 1) each.")],
    strong: Annotated[str, typer.Option(help="The stronger model, as the lines name it.")],
    weak: Annotated[str, typer.Option(help="The weaker one.")],
    out: Annotated[Path, typer.Option(help="The file for [auto.learned] file.")] = Path("auto.model"),
    start: Annotated[Path | None, typer.Option(help="A fitted file to start from; else the shipped one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it though it is not surely better.")] = False,
) -> None:
    """Refit the learned policy to your own outcomes; nothing is written where that is not surely better."""
    from hpp_middleware.fitting import fit as fitted
    from hpp_middleware.fitting import read_rows

    if out.is_dir() or not out.absolute().parent.is_dir():  # which is better known before it is fitted
        raise Fault(f"{out}: is a folder, or in none")
    try:
        with data.open("rb") as file:
            rows = read_rows(file)
    except ConfigurationError as error:
        raise ConfigurationError(f"{data}: {error.message}") from error
    report = fitted(rows, strong, weak, start=_scorer(start) if start is not None else None, force=force)
    _write(out, report.data)
    print(report)
    forced = "" if report.better else ", as --force asks"
    print(f"written{forced}: {out} ({len(report.data)} bytes); set [auto.learned] file to it")


def _scorer(path: Path) -> "Scorer":
    from hpp_middleware.core.auto.learned import Scorer

    try:
        return Scorer(path.read_bytes())
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}") from error


def _write(path: Path, data: bytes) -> None:
    """The whole file or none of it: a router may start meanwhile, and the disk may be full."""
    path = path.resolve()
    if path.exists() and not path.is_file():  # /dev/stdout
        path.write_bytes(data)
        return
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
