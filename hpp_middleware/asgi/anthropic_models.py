"""
The models as Anthropic's API lists them, for clients that say by ``anthropic-version`` that they speak it.

They come in one page. Its reference: https://platform.claude.com/docs/en/api/models-list.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hpp_middleware.types.completion import Target

__all__ = ["anthropic_model", "anthropic_models"]


def anthropic_models(targets: Sequence[Target]) -> dict[str, Any]:
    """The page of all of them."""
    ids = [target.id for target in targets]
    return {
        "data": [anthropic_model(target) for target in targets],
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
