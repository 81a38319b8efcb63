"""``hpp-router explain``: which model a request would be given, and why; nothing is forwarded, held or written."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from hpp_middleware.apis.chat import CHAT
from hpp_middleware.cli.common import AsJSON, Config, Fault, as_json, found, table
from hpp_middleware.config import load
from hpp_middleware.errors import RequestError
from hpp_middleware.stages.route import lineup
from hpp_middleware.stages.upstream.health import Health
from hpp_middleware.types.auto import Hints
from hpp_middleware.types.consumer import Consumer

__all__ = ["explain"]

_SHOWN = ("model", "policy", "basket", "rule", "rules_version", "tier", "score", "reason", "escalation")


def explain(
    request: Annotated[str, typer.Argument(help="A chat completion request as JSON: a file, or - for standard input.")],
    config: Config = None,
    consumer: Annotated[str | None, typer.Option(help="By this consumer's models and data policy.")] = None,
    json: AsJSON = False,
) -> None:
    """Say which model would answer a request, and why, for each model that could."""
    settings = load(found(config), secrets=False)
    gateway = settings.gateway()
    declared = settings.consumers.get(consumer) if consumer is not None else None
    if consumer is not None and declared is None:
        raise Fault(f"there is no consumer {consumer!r} in the file")
    who = Consumer(id=consumer or "explain", models=declared.models if declared is not None else None)
    try:
        asked = CHAT.request(_read(request), gateway.limits)
        nobody_failed = Health(gateway.catalog.providers)
        told = lineup.explain(gateway.setup, asked, who, hints=Hints(), health=nobody_failed)
    except RequestError as error:
        raise Fault(error.message) from None
    if json:
        as_json(told)
    else:
        _print(told)
    if told["model"] is None:
        raise typer.Exit(1)


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise Fault(f"{name}: cannot be read ({error.strerror})") from error


def _print(told: dict[str, Any]) -> None:
    for name in _SHOWN:
        if told[name] is not None:
            sys.stdout.write(f"{name.replace('_', ' '):<14} {told[name]}\n")
    sys.stdout.write(f"{'answer':<14} {told['estimated_output_tokens']} tokens, as costs are compared\n")
    for each in told["features"]:
        sys.stdout.write(f"{'feature':<14} {each['name']} {each['weight']:+g}\n")
    for each in told["chain"]:
        why = f", which is passed over: {each['why_not']}" if each["why_not"] is not None else ""
        sys.stdout.write(f"{'then' if each is not told['chain'][0] else 'asks':<14} {each['model']}{why}\n")
    sys.stdout.write("\n")
    table(
        ("MODEL", "ELIGIBLE", "TOKENS", "COST", "WHY NOT"),
        [
            (
                f"{each['model']}{' *' if each['chosen'] else ''}",
                "yes" if each["eligible"] else "no",
                str(each["estimated_input_tokens"]),
                "-" if each["estimated_cost"] is None else f"${msgspec.json.encode(each['estimated_cost']).decode()}",
                "; ".join(each["why_not"]),
            )
            for each in told["candidates"]
        ],
    )
