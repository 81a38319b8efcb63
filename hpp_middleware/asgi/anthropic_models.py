"""
The models as Anthropic's API lists them, for clients that say by ``anthropic-version`` that they speak it.

They come in one page. Its reference: https://platform.claude.com/docs/en/api/models-list.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hpp_middleware.types.auto import AUTO
from hpp_middleware.types.completion import Target

__all__ = ["anthropic_model", "anthropic_models"]


_AUTO: dict[str, Any] = {
    "type": "model",
    "id": AUTO,
    "display_name": "Auto",
    "created_at": "1970-01-01T00:00:00Z",
    "lifecycle": "active",
    "max_input_tokens": None,
    "max_tokens": None,
}


def anthropic_models(targets: Sequence[Target], *, auto: bool = False) -> dict[str, Any]:
    """The page of all of them; ``auto`` where the router can be asked to choose."""
    first = [_AUTO] if auto else []
    ids = [each["id"] for each in first] + [target.id for target in targets]
    return {
        "data": [*first, *(anthropic_model(target) for target in targets)],
        "has_more": False,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
    }


def anthropic_model(target: Target) -> dict[str, Any]:
    """One of them; where the day of its release is not known, the epoch, as Anthropic has it."""
    model = target.model
    return {
        "type": "model",
        "id": target.id,
        "display_name": model.name or target.model_name,
        "created_at": datetime.fromtimestamp(model.created or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.context,
        "max_tokens": model.max_output,
    }
