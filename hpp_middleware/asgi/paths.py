"""Which path is which API's; ``/v1/...`` is an alias, so that a base URL of ``http://host/v1`` works for any client."""

from collections.abc import Mapping

from hpp_middleware.apis.chat import CHAT
from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.apis.images import IMAGES
from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.ports import API

__all__ = ["APIS", "MODELS"]

APIS: Mapping[str, API] = {
    f"{prefix}{path}": api
    for path, api in (
        ("/chat/completions", CHAT),
        ("/responses", RESPONSES),
        ("/embeddings", EMBEDDINGS),
        ("/images/generations", IMAGES),
    )
    for prefix in ("/llm/v1", "/v1")
}
"""What a ``POST`` there is written in, and every answer and error."""

MODELS = ("/llm/v1/models", "/v1/models")
