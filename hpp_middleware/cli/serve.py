"""``hpp-router serve``: a configuration file, served."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hpp_middleware.asgi.app import Gateway
from hpp_middleware.cli import server
from hpp_middleware.cli import workers as processes
from hpp_middleware.cli.common import Config, found
from hpp_middleware.config import Settings, load
from hpp_middleware.config.folders import unwritable
from hpp_middleware.errors import ConfigurationError

__all__ = ["serve"]


def serve(
    config: Config = None,
    host: Annotated[str | None, typer.Option(help="Overrides [server] host.")] = None,
    port: Annotated[int | None, typer.Option(help="Overrides [server] port; 0 takes a free one.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="How many processes serve, at one shared store.")] = 1,
    check: Annotated[bool, typer.Option("--check", help="Check the configuration, and exit.")] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request, and what it came to.")] = False,
) -> None:
    """Serve a configuration file."""
    path = found(config)
    settings = _checked(path)
    gateway = settings.gateway()
    # Listing the models reads the price list, so that no request waits for it.
    figures = ", ".join(
        (
            _counted(len(settings.providers), "provider"),
            _counted(len(gateway.catalog.targets()), "model"),
            _counted(len(settings.consumers), "declared consumer"),
        )
    )
    _warn(settings, gateway)
    if workers > 1 and settings.file.store.url.startswith("memory:"):
        raise ConfigurationError("store.url: memory: is one process's own; --workers needs a store that they share")
    if check:
        print(f"{path}: good ({figures})")
        return
    given = settings.file.server
    with server.listen(given.host if host is None else host, given.port if port is None else port) as listener:
        words = f"hpp-router listens on {server.url(listener)} ({figures})"
        announce = partial(print, words, flush=True)
        if workers == 1:
            server.run(gateway, listener, announce=announce, access_log=access_log)
        else:
            grace_s = gateway.setup.load.grace_s
            processes.run(
                path,
                listener,
                workers=workers,
                announce=announce,
                access_log=access_log,
                grace_s=grace_s,
                counted=gateway.metrics is not None,
            )


def _checked(path: Path) -> Settings:
    """
    A file by which a router can serve, as far as that shows without opening anything.

    Raises:
        ConfigurationError: It cannot; a line a problem.
    """
    settings = load(path)
    problems = unwritable(settings)
    if not settings.providers:
        problems.append("providers: is missing; a router needs an upstream, such as [providers.openai]")
    if problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _warn(settings: Settings, gateway: Gateway) -> None:
    """Say which models of the file will be refused for want of a price."""
    for model_id in settings.models:
        if gateway.catalog.find(model_id) is None:
            sys.stderr.write(
                f'hpp-router: models."{model_id}": has no price here or in the price list: it is refused\n'
            )
