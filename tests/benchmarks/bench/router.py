"""The gateway as its users start it: ``hpp-router serve``, with a configuration file."""

import subprocess
import sys
from pathlib import Path

from bench import wire

__all__ = ["command", "has_workers"]


def command(folder: Path, *, port: int, upstream: int, store: str, workers: int) -> list[str]:
    """Write its configuration, and what starts it."""
    consumers = "".join(
        f'[consumers.consumer-{number}]\nquota = "1000000"\nkeys = ["{key}"]\n' for number, key in enumerate(wire.KEYS)
    )
    path = folder / "router.toml"
    path.write_text(
        f'[providers.fake]\nbase_url = "http://127.0.0.1:{upstream}/v1"\napi_key = "of-the-operator"\n'
        f'[models."{wire.MODEL}"]\ninput = "1.25"\noutput = "10"\n[store]\nurl = "{store}"\n{consumers}',
        "utf-8",
    )
    serve = [sys.executable, "-m", "hpp_middleware", "serve", "--config", str(path), "--port", str(port)]
    return [*serve, "--workers", str(workers)] if workers else serve


def has_workers() -> bool:
    """Whether this version of it knows ``--workers``."""
    asked = [sys.executable, "-m", "hpp_middleware", "serve", "--help"]
    return "--workers" in subprocess.run(asked, capture_output=True, text=True, check=True).stdout
