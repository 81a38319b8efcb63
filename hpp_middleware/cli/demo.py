"""``hpp-router demo``: a router that works at once, with no configuration, no network and no account."""

import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import anyio
import typer

from hpp_middleware.asgi.app import Gateway
from hpp_middleware.cli import nearby, server
from hpp_middleware.cli.common import Fault
from hpp_middleware.cli.echo import Echo
from hpp_middleware.core import auth
from hpp_middleware.core import price as pricing
from hpp_middleware.dialects import presets
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.observers.logging import LoggingObserver
from hpp_middleware.stores.sqlite import SQLiteStore
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Declared, Model, Provider

__all__ = ["demo"]

QUOTA = "5"
CONSUMER = "demo"


def demo(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    data: Annotated[Path, typer.Option(help="Where hpp-demo.db and hpp-demo.key are kept.")] = Path(),
) -> None:
    """Serve a demo: a consumer with $5, an echo model, and the providers found on this machine."""
    if not data.is_dir():
        raise Fault(f"--data: there is no directory {data}")
    with server.listen(host, port) as listener:
        key = kept_key(data / "hpp-demo.key")
        upstreams = Upstreams()
        upstreams.add_echo()
        upstreams.add_accounts()
        upstreams.add_nearby(listener.getsockname()[1])
        gateway = Gateway(
            providers=upstreams.providers,
            models=upstreams.models,
            transports={"demo": Echo()},
            store=SQLiteStore(data / "hpp-demo.db"),
            consumers={CONSUMER: Declared(quota=pricing.nano_from_usd(QUOTA), keys=(key,))},
            observers=(LoggingObserver(),),
        )
        words = _words(server.url(listener), key, upstreams)
        server.run(gateway, listener, announce=lambda: print(words, flush=True))


def kept_key(path: Path) -> str:
    """
    The key in the file, made at first use with mode 0600.

    Raises:
        ConfigurationError: The file holds no key.
    """
    if not path.exists():
        made, _ = auth.make_key(secrets.token_bytes(8), secrets.token_bytes(20))
        # Whole or not at all: an interrupted start leaves no half a key. mkstemp makes it 0600.
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(made + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(draft).replace(path)
    try:
        return auth.check_secret(path.read_text("utf-8").strip(), str(path))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no text file") from None


@dataclass
class Upstreams:
    """
    What the demo can call, and a line about each.

    Attributes:
        lines: What is printed of them.
    """

    providers: dict[str, Provider] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def add_echo(self) -> None:
        """The model in this process; its price is made up, so that usage can be seen to move."""
        price = Price(base=pricing.rates_from_usd({"input": "1", "output": "2"}, "demo/echo"))
        self.providers["demo"] = Provider(base_url="http://echo.invalid", models=())
        self.models["demo/echo"] = Model(
            price=price,
            name="Echo",
            description="Answers with the last user message.",
            context=128_000,
            max_output=16_384,
            tool=False,
            structured=False,
            input_modalities=("text",),
            output_modalities=("text",),
        )
        self.lines.append("demo        demo/echo, in this process")

    def add_accounts(self) -> None:
        """Every well-known provider whose key is in the environment, and nothing else needed."""
        for name, preset in presets.PRESETS.items():
            key = os.environ.get(preset.key_variable or "")
            if not key or not preset.placed:
                continue
            try:
                self.providers[name] = presets.provider(name, api_key=key)
            except ConfigurationError as error:
                raise ConfigurationError(f"{preset.key_variable}: {error.message}") from None
            self.lines.append(f"{name:<11} {preset.key_variable} is set: calls cost you real money, ${QUOTA} at most")

    def add_nearby(self, own_port: int) -> None:
        """Every model server that answers on this machine, free of charge."""
        free = Price(base=pricing.rates_from_usd({"input": "0", "output": "0"}, "price"))
        for name, models in anyio.run(lambda: nearby.find(except_port=own_port)).items():
            self.providers[name] = presets.provider(name)
            self.models.update({f"{name}/{model}": Model(price=free) for model in models})
            self.lines.append(f"{name:<11} {', '.join(models[:5])}{' ...' if len(models) > 5 else ''}")


def _words(url: str, key: str, upstreams: Upstreams) -> str:
    """What is printed before serving: everything that is needed to try it."""
    chat = f"{url}/llm/v1/chat/completions"
    auth_header = f"-H 'apikey: {key}'"
    json_header = "-H 'Content-Type: application/json'"
    hello = '"model": "demo/echo", "messages": [{"role": "user", "content": "Hello there, how are you?"}]'
    return "\n".join(
        [
            f"hpp-router demo listens on {url}",
            "",
            f"Key:  {key}",
            f"      (consumer {CONSUMER!r}, ${QUOTA}; the same after a restart)",
            "",
            "Providers:",
            *(f"  {line}" for line in upstreams.lines),
            "",
            "JSON:",
            f"  curl -s {chat} {auth_header} {json_header} -d '{{{hello}}}'",
            "SSE:",
            f"  curl -sN {chat} {auth_header} {json_header} -d '{{{hello}, \"stream\": true}}'",
            "Models:",
            f"  curl -s {url}/llm/v1/models",
            "Usage:",
            f"  curl -s {url}/api/usage {auth_header}",
            "Quota:",
            f"  curl -s {url}/api/quota-check {auth_header}",
            "",
            "Stop with Ctrl+C.",
        ]
    )
