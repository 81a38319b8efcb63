"""The commands together, and what becomes of their errors."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from hpp_middleware.cli import auto, demo, doctor, explain, keys, ledger, models, quota, serve
from hpp_middleware.cli.errors import guarded

__all__ = ["app", "run"]

app = typer.Typer(
    name="hpp-router",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _told(wanted: bool) -> None:
    if wanted:
        print(f"hpp-router {version('hpp_middleware')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[bool, typer.Option("--version", callback=_told, is_eager=True, help="Its version.")] = False,
) -> None:
    """An OpenAI-compatible LLM gateway with prepaid quota."""


app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("usage")(quota.usage)
app.command("models")(models.models)
app.command("explain")(explain.explain)
app.add_typer(keys.app, name="keys")
app.add_typer(quota.app, name="quota")
app.add_typer(ledger.app, name="ledger")
app.add_typer(auto.app, name="auto")


def run() -> int:
    """Run the command that the arguments name, and give the exit code."""
    with Path(os.devnull).open("w", encoding="utf-8") as nobody:
        # Closed before we began, they are None: what would be written there is for nobody.
        sys.stdout, sys.stderr = sys.stdout or nobody, sys.stderr or nobody
        return guarded(lambda: app(prog_name="hpp-router"))
