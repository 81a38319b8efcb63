"""OpenAI's embeddings: https://developers.openai.com/api/reference/resources/embeddings/methods/create."""

from msgspec import Raw

from hpp_middleware.apis.media import Media, text
from hpp_middleware.core import fields as reading
from hpp_middleware.core import preferences
from hpp_middleware.core.embedding import inputs
from hpp_middleware.core.fields import bad
from hpp_middleware.core.parse import model_of
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["EMBEDDINGS", "Embeddings"]

MOST_DIMENSIONS = 1_000_000


class Embeddings(Media):
    """See :class:`hpp_middleware.ports.API`."""

    name = "embeddings"
    acted_on = frozenset({"model", "input", "dimensions", "encoding_format", "user", "stream", "models", "provider"})

    def request(self, body: bytes, limits: Limits) -> Request:
        """
        A request; its prompt is as many tokens as it has, where it comes as tokens.

        Raises:
            RequestError: 400.
        """
        fields = self.members(body, limits)
        wanted = preferences.taken(fields)
        model = model_of(fields)
        given = inputs(fields.get("input", Raw()))
        if len(given) > limits.inputs:
            raise bad("input", f"must not have more than {limits.inputs} entries")
        reading.integer(fields, "dimensions", 1, MOST_DIMENSIONS)
        reading.choice(fields, "encoding_format", ("float", "base64"))
        text(fields, "user")
        tokens = None
        if isinstance(given[0], list):  # whatever else a server may read besides, or in their stead, is no token yet
            tokens = sum(len(each) for each in given)
            tokens += sum(len(bytes(raw)) for name, raw in fields.items() if name not in self.acted_on)
        return Request(
            fields=fields,
            model=model,
            api=self.name,
            cap=0,
            inputs=len(given),
            tokens=tokens,
            models=wanted.models,
            preferences=wanted.preferences,
        )


EMBEDDINGS = Embeddings()
