"""
The dialects: the Gemini API, asked with an API key, and Vertex AI, asked with an access token.

Both remember what they have made of each provider and model, and nothing else.
"""

import re
from functools import partial

from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.dialects import translating
from hpp_middleware.dialects.gemini import place
from hpp_middleware.dialects.gemini.answer import Answer, Stream
from hpp_middleware.dialects.gemini.embeddings import GeminiEmbeddings, VertexEmbeddings
from hpp_middleware.dialects.gemini.media import GeminiImages
from hpp_middleware.dialects.gemini.refusal import refused
from hpp_middleware.dialects.gemini.request import PAGES, asked, draws
from hpp_middleware.dialects.gemini.usage import reported
from hpp_middleware.dialects.media import Media
from hpp_middleware.dialects.options import check_names
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

__all__ = ["Gemini", "Vertex"]

MOST_PLACES = 512
"""A host that makes its providers anew for each request is not to fill the memory."""

DRAWN_BYTES = 32 * 1024 * 1024
"""The largest event of a stream that may bring an image, which comes in one."""

_WORD = re.compile(r"[a-z0-9.:-]+")

_Place = tuple[Provider, str, tuple[tuple[str, str], ...]]


class Gemini:
    """
    The Gemini API: ``base_url`` ends in its version, ``https://generativelanguage.googleapis.com/v1beta``.

    Options: ``document_pages``, the most pages that a document is held for; 1000 without it, which is Google's limit.
    """

    options = frozenset({"document_pages"})

    def __init__(self) -> None:
        self._places: dict[tuple[int, str, str], _Place] = {}
        self._embeddings: Media = GeminiEmbeddings(lambda target, _: self.place(target, "batchEmbedContents"))
        self._images = GeminiImages(lambda target, _: self.place(target, "generateContent"))

    def native(self, api: str, provider: Provider) -> Media | None:
        """See :class:`hpp_middleware.ports.Dialect`: what is said to it without a chat completion."""
        found: dict[str, Media] = {"embeddings": self._embeddings, "images": self._images}
        return found.get(api) if api in provider.native_apis else None

    def check(self, provider: Provider) -> None:
        """
        Whether a provider's options can be understood.

        Raises:
            ConfigurationError: One cannot.
        """
        check_names(provider, self.options)
        pages = provider.options.get("document_pages", str(PAGES))
        if not (pages.isascii() and pages.isdecimal() and 1 <= int(pages) <= PAGES):
            raise ConfigurationError(
                f"options.document_pages must be from 1 to {PAGES}", param="options.document_pages"
            )

    def url(self, target: Target, method: place.Method) -> str:
        """
        Where a method of a model is.

        Raises:
            RequestError: 400: the model's name is none.
        """
        return place.gemini(target, method)

    def place(self, target: Target, method: place.Method) -> tuple[str, tuple[tuple[str, str], ...]]:
        """
        Where a method of a model is, and the headers that every call of it has, the same object each time.

        Raises:
            RequestError: 400: the model's name is none.
        """
        key = id(target.provider), target.model_name, method
        found = self._places.get(key)
        if found is None:  # it keeps the provider, so that no other one can come to have its id
            accept = "text/event-stream" if method == "streamGenerateContent" else "application/json"
            found = target.provider, self.url(target, method), place.headers(target.provider, accept)
            if len(self._places) >= MOST_PLACES:
                self._places.clear()
            self._places[key] = found
        return found[1], found[2]

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """See :class:`hpp_middleware.ports.Dialect`."""
        found = asked(request, target, cap)
        url, shared = self.place(target, "streamGenerateContent" if request.stream else "generateContent")
        return HTTPCall(
            url=url,
            headers=[*shared, ("X-Request-Id", request_id)],
            body=found.body,
            connect_s=target.provider.timeouts.connect,
            shared=shared,
            more_tokens=found.more_tokens,
            least_cap=found.least_cap,
            dropped=found.dropped,
        )

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> translating.Reader:
        """See :class:`hpp_middleware.ports.Dialect`."""
        most = max(event_bytes, DRAWN_BYTES) if draws(request, target) else event_bytes
        stream = Stream(Answer(request.n, request_id), most)
        return translating.Reader(stream, request, target, cap=cap, charge=charge, request_id=request_id)

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        pieces = Answer(request.n, request_id).read(body)
        return translating.answer(pieces, target, charge=charge, request_id=request_id)

    def refusal(self, status: int, headers: object, body: bytes) -> bytes:  # noqa: ARG002  # the body tells both
        """
        An error in OpenAI's shape.

        Raises:
            ValueError: It is none of Google's.
        """
        return refused(body)

    def usage_in(self, body: bytes) -> Seen:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return translating.usage_in(body, "usageMetadata", partial(reported, whole=True))


class Vertex(Gemini):
    """
    Vertex AI: ``base_url`` is ``https://aiplatform.googleapis.com/v1``, whose host becomes the location's, or that of
    an endpoint of one's own, which stays as it is.

    Options: ``project`` and ``location`` (``global`` without it); ``credentials``, a service account's key file,
    without which they are the machine's own; ``document_pages`` as above. With an ``api_key`` (Vertex's express mode)
    all of them may be left out.
    """

    options = frozenset({"credentials", "document_pages", "location", "project"})

    def __init__(self) -> None:
        super().__init__()
        self._embeddings = VertexEmbeddings(lambda target, _: self.place(target, "predict"))

    def check(self, provider: Provider) -> None:
        """
        Whether a provider has what it needs.

        Raises:
            ConfigurationError: It has not.
        """
        super().check(provider)
        for name in ("project", "location"):
            value = provider.options.get(name)
            if value is not None and _WORD.fullmatch(value) is None:
                raise ConfigurationError(f"options.{name} is none of Google's names", param=f"options.{name}")
        if "project" not in provider.options and provider.api_key is None:
            raise ConfigurationError("options.project is missing", param="options.project")

    def url(self, target: Target, method: place.Method) -> str:
        """See :meth:`Gemini.url`."""
        return place.vertex(target, method)
