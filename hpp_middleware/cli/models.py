"""``hpp-router models``: what a client can ask for, and at what price."""

from typing import Any

from hpp_middleware.cli.common import AsJSON, Config, as_json, found, table
from hpp_middleware.config import load
from hpp_middleware.core import price as pricing
from hpp_middleware.types.completion import Target

__all__ = ["models"]

_CAPABILITIES = ("image_tokens", "tool", "structured", "knowledge_cutoff", "input_modalities", "output_modalities")


def models(config: Config = None, json: AsJSON = False) -> None:
    """List the models that can be asked for; prices are dollars per million tokens."""
    targets = load(found(config), secrets=False).gateway().catalog.targets()
    if json:
        as_json([_entry(target) for target in targets])
        return
    table(
        ("MODEL", "INPUT", "OUTPUT", "CONTEXT", "MAX OUTPUT", "PRICE FROM"),
        [
            (
                target.id,
                f"${pricing.per_million(target.price.base.input)}",
                "-" if target.price.only == "embeddings" else f"${pricing.per_million(target.price.base.output)}",
                str(target.model.context or "-"),
                str(target.model.max_output or "-"),
                target.price.source,
            )
            for target in targets
        ],
    )


def _entry(target: Target) -> dict[str, Any]:
    rates = {name: getattr(target.price.base, name) for name in pricing.RATES}
    if target.price.only == "embeddings":
        rates["output"] = None  # there is none
    return {
        "id": target.id,
        "name": target.model.name,
        "usd_per_million": {name: pricing.per_million(rate) for name, rate in rates.items() if rate is not None},
        "price_from": target.price.source,
        "context": target.model.context,
        "max_output": target.model.max_output,
        **{name: getattr(target.model, name) for name in _CAPABILITIES},
    }
