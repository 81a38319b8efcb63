"""
Images of the Gemini API, asked and answered in OpenAI's words.

Source: https://ai.google.dev/gemini-api/docs/image-generation (``generateContent`` with ``responseModalities``).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import names
from hpp_middleware.core.drawing import most_tokens
from hpp_middleware.core.fields import NULL, bad
from hpp_middleware.core.relay import UNREADABLE, ProtocolError, StreamedError, mended
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.core.usage import Reading
from hpp_middleware.core.usage_media import told_images
from hpp_middleware.dialects import media, translating
from hpp_middleware.dialects.gemini.embeddings import Refusing
from hpp_middleware.dialects.gemini.usage import reported
from hpp_middleware.dialects.vectors import unsaid
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage

__all__ = ["GeminiImages"]

_RATIOS = {"1024x1024": "1:1", "1024x1536": "2:3", "1536x1024": "3:2"}
_SAID = frozenset({"model", "prompt", "n", "size", "output_format", "stream", "response_format"})
_HARMLESS = frozenset({"user", "quality", "background", "moderation"})
"""What Gemini has no word for, and what changes nothing of the worth of an image."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.decode


class _Blob(Struct, rename="camel"):
    data: Raw
    mime_type: str = "image/png"


class _Part(Struct, rename="camel"):
    inline_data: _Blob | None = None
    thought: bool = False


class _Content(Struct, frozen=True):
    parts: list[_Part] = []


class _Candidate(Struct, rename="camel"):
    content: _Content = msgspec.field(default_factory=_Content)
    finish_reason: str | None = None


class _Drawn(Struct, rename="camel"):
    candidates: list[_Candidate] = []
    prompt_feedback: dict[str, Any] = {}
    usage_metadata: Raw = NULL


class GeminiImages(Refusing, media.Images):
    """
    The dialect of images.

    Args:
        endpoint: Where a method of a model is, ``generateContent``.
    """

    path = "generateContent"

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:  # noqa: ARG002
        """See :class:`hpp_middleware.ports.Dialect`."""
        media.refuse_unpriced(request, target)
        if request.n > 1:
            raise bad("n", "must be 1 for this provider, which draws one image at a time")
        for field, wrong in (
            ("background", b'"transparent"'),
            ("output_format", b'"jpeg"'),
            ("output_format", b'"webp"'),
        ):
            if bytes(request.fields.get(field, NULL)) == wrong:
                raise bad(field, f"cannot be {wrong.decode()} for this provider")
        dropped = unsaid(request, _SAID, _HARMLESS)
        drawing = request.drawing
        generation: dict[str, Any] = {"responseModalities": ["IMAGE"]}
        if drawing is not None:
            generation["maxOutputTokens"] = most_tokens(target, drawing)
            if drawing.size is not None:
                generation["imageConfig"] = {"aspectRatio": _RATIOS[drawing.size]}
        contents = [{"role": "user", "parts": [{"text": request.fields["prompt"]}]}]
        url, shared = self._endpoint(target, self.path)
        return HTTPCall(
            url=url,
            headers=[*shared, ("X-Request-Id", request_id)],
            body=_encode({"contents": contents, "generationConfig": generation}),
            connect_s=target.provider.timeouts.connect,
            shared=shared,
            more_tokens=self.more_tokens(request, 0),
            dropped=dropped,
        )

    def answer(
        self,
        body: bytes,
        request: Request,  # noqa: ARG002  # any is answered alike
        target: Target,  # noqa: ARG002  # images name no model
        *,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`; what is not drawn is billed as the provider reports it."""
        try:
            found = _decode(body, type=_Drawn)
            raw = found.usage_metadata
            told = reported(raw, whole=True, drawn=True) if raw != NULL else None
        except UNREADABLE as problem:
            raise ProtocolError("the body is no answer of generateContent") from problem
        report = told.reading if told is not None else None
        parts = [part for each in found.candidates for part in each.content.parts if not part.thought]
        images = [part.inline_data for part in parts if part.inline_data is not None]
        seen = _seen(report, raw, told_images, images=len(images))
        if not images:
            if not found.candidates and not found.prompt_feedback:
                raise ProtocolError("the body has no candidates")
            error = {"message": "The provider drew no image.", "code": "content_policy_violation"}
            raise StreamedError(_encode(error), seen)
        fields: dict[str, Any] = {
            "created": names.created(request_id),
            "data": [{"b64_json": each.data} for each in images],
            "output_format": images[0].mime_type.rpartition("/")[2],
        }
        if seen.usage_shown is not None:
            fields["usage"] = seen.usage_shown
        return media.told(fields, seen, charge, told_images), seen

    def usage_in(self, body: bytes) -> Seen:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return translating.usage_in(body, "usageMetadata", partial(reported, whole=True, drawn=True))


def _seen(report: Reading | None, raw: Raw, told: Callable[[Usage], Mapping[str, Any]], *, images: int = 0) -> Seen:
    return Seen(
        usage=report.usage if report is not None else None,
        usage_raw=mended(raw) if raw != NULL else None,
        usage_shown=Raw(_encode(told(report.usage))) if report is not None else None,
        usage_doubtful=report is not None and report.doubtful,
        images=images,
        finished=True,
    )
