"""OpenAI's Responses API, as clients speak it: stateless, passed on or said by way of chat completions."""

from hpp_middleware.apis.responses.api import RESPONSES

__all__ = ["RESPONSES"]
