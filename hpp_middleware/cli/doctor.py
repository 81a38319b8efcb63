"""
``hpp-router doctor``: whether everything is in order, from the file to the provider, and from the world to the router.

No provider is asked for an answer, unless a stream is to be looked at through ``--url``, by a request that ``--model``
names: that one is charged like any other.
"""

import sys
from pathlib import Path
from typing import Annotated

import anyio
import typer

from hpp_middleware.cli import examined
from hpp_middleware.cli.common import AsJSON, Config, as_json, found
from hpp_middleware.cli.examined import Finding
from hpp_middleware.cli.watched import watched
from hpp_middleware.config import Settings, load
from hpp_middleware.errors import ConfigurationError

__all__ = ["doctor"]


def doctor(
    config: Config = None,
    url: Annotated[
        str | None, typer.Option(help="Where clients reach a running router, up to what precedes /llm/v1.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="A key to ask with; HPP_KEY, where that is set.", envvar="HPP_KEY")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model to stream a short answer of, through --url; it is charged.")
    ] = None,
    json: AsJSON = False,
) -> None:
    """Look for what is wrong: configuration, stores, providers, and streams through a public URL."""
    findings: list[Finding] = [*examined.installed()]
    settings = None
    if url is None or config is not None or Path("router.toml").exists():
        settings = _configured(config, findings)
    findings += anyio.run(_looked, settings, url, key, model)
    if json:
        as_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            sys.stdout.write(f"{finding.verdict:<8} {finding.about:<20} {finding.words}\n")
    if any(finding.verdict == "wrong" for finding in findings):
        raise typer.Exit(1)


def _configured(config: Path | None, findings: list[Finding]) -> Settings | None:
    """The file, as far as it can be read; what is wrong with it is a finding a line."""
    settings = None
    try:
        path = found(config)
        settings = load(path)
        settings.gateway()  # not every setting goes with every other, nor without its extra
    except ConfigurationError as error:
        findings += [Finding("wrong", "configuration", line) for line in error.message.split("\n")]
    else:
        findings.append(Finding("good", "configuration", str(path)))
    if settings is not None:
        findings += examined.placed(settings)
    return settings


async def _looked(settings: Settings | None, url: str | None, key: str | None, model: str | None) -> list[Finding]:
    findings: list[Finding] = []
    if settings is not None:
        findings += await examined.stored(settings)
        findings += await examined.reached(settings)
    if url is not None:
        findings += await watched(url, key, model)
    return findings
