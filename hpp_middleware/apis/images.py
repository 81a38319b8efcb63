"""OpenAI's image generation: https://developers.openai.com/api/reference/resources/images/methods/generate."""

from msgspec import Raw

from hpp_middleware.apis.media import Media, text
from hpp_middleware.core import drawing, preferences
from hpp_middleware.core.fields import NULL, bad, choice, integer
from hpp_middleware.core.parse import model_of
from hpp_middleware.types.completion import Drawing, Request
from hpp_middleware.types.provider import Limits

__all__ = ["IMAGES", "MODEL", "MOST", "Images"]

MODEL = "gpt-image-1"
"""What is meant where no model is named."""

MOST = 4
"""Images a request."""

_QUALITIES = (*drawing.QUALITIES, "auto")
_BACKGROUNDS = ("transparent", "opaque", "auto")
_FORMATS = ("png", "jpeg", "webp")


class Images(Media):
    """See :class:`hpp_middleware.ports.API`."""

    name = "images"
    acted_on = frozenset(
        {
            "model",
            "prompt",
            "n",
            "size",
            "quality",
            "background",
            "output_format",
            "user",
            "stream",
            "models",
            "provider",
        }
    )

    def request(self, body: bytes, limits: Limits) -> Request:
        """
        A request; a model without a provider is the default image provider's.

        Raises:
            RequestError: 400.
        """
        fields = self.members(body, limits)
        wanted = preferences.taken(fields)
        if fields.get("model", NULL) == NULL:
            fields["model"] = Raw(f'"{MODEL}"'.encode())
        model = model_of(fields)
        if not text(fields, "prompt"):
            raise bad("prompt", "is required, and must not be empty")
        n = integer(fields, "n", 1, MOST) or 1
        size = choice(fields, "size", drawing.SIZES)
        quality = choice(fields, "quality", _QUALITIES)
        choice(fields, "background", _BACKGROUNDS)
        choice(fields, "output_format", _FORMATS)
        text(fields, "user")
        return Request(
            fields=fields,
            model=model,
            api=self.name,
            n=n,
            output_modalities=frozenset({"image"}),
            drawing=Drawing(size, quality if quality in drawing.QUALITIES else None),
            models=wanted.models,
            preferences=wanted.preferences,
        )


IMAGES = Images()
