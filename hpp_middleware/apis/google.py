"""
What proves a Gemini model's thoughts, where neither Anthropic's API nor OpenAI's Responses has a place for it.

The dialect tells it as Google's own port does, in ``extra_content`` of a call or of a message
(https://ai.google.dev/gemini-api/docs/openai). Here it becomes a detail of ``reasoning_details`` in OpenRouter's form,
which both APIs pack and unpack, and which the dialect reads again.
"""

from typing import Any

__all__ = ["FORMAT", "proof"]

FORMAT = "google-gemini-v1"
"""What a detail's ``format`` says of it (https://openrouter.ai/docs/guides/best-practices/reasoning-tokens)."""


def proof(extra_content: Any, call_id: str | None = None) -> dict[str, Any] | None:
    """
    The detail; None where there is no signature.

    Args:
        extra_content: ``{"google": {"thought_signature": ...}}``.
        call_id: The call's that it came with; None where it came with text.
    """
    google = extra_content.get("google") if isinstance(extra_content, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    if not isinstance(signature, str) or not signature:
        return None
    found = {"type": "reasoning.encrypted", "data": signature, "format": FORMAT}
    return found if call_id is None else {**found, "id": call_id}
