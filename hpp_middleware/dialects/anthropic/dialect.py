"""The dialect: Anthropic's own API, and servers that speak like it."""

from collections.abc import Mapping

import msgspec

from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.dialects import chat, translating
from hpp_middleware.dialects.anthropic import errors, head, reading
from hpp_middleware.dialects.anthropic.native import Messages
from hpp_middleware.dialects.anthropic.request import say
from hpp_middleware.dialects.options import check_names
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

__all__ = ["Anthropic"]

OPTIONS = frozenset({"thinking"})

_encode = msgspec.json.Encoder().encode


class Anthropic:
    """
    See :class:`hpp_middleware.ports.Dialect`.

    ``base_url`` is given without ``/v1``, as Anthropic's SDK takes it, and the key is sent as ``x-api-key``. The option
    ``thinking`` (``adaptive`` or ``budget``) says how a model is asked to reason whose name does not tell.
    """

    def __init__(self) -> None:
        self._heads = head.Heads()
        self._messages = Messages()

    def check(self, provider: Provider) -> None:
        """See :class:`hpp_middleware.ports.Dialect`."""
        if provider.base_url.rstrip("/").endswith("/v1"):
            raise ConfigurationError("base_url must be given without /v1 for Anthropic's dialect", param="base_url")
        check_names(provider, OPTIONS)
        if provider.options.get("thinking", "budget") not in {"adaptive", "budget"}:
            raise ConfigurationError("options.thinking must be adaptive or budget", param="options.thinking")

    def native(self, api: str, provider: Provider) -> Messages | None:  # noqa: ARG002  # whoever it is
        """See :class:`hpp_middleware.ports.Dialect`: its own API is what it takes as it is."""
        return self._messages if api == "messages" else None

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """See :class:`hpp_middleware.ports.Dialect`."""
        said = say(request, target, cap)
        body = {**said.body, "stream": True} if request.stream else said.body
        url, shared = self._heads.of(target.provider, stream=request.stream)
        return HTTPCall(
            url=url,
            headers=[*shared, ("X-Request-Id", request_id)],
            body=_encode(body),
            connect_s=target.provider.timeouts.connect,
            shared=shared,
            more_tokens=said.more_tokens,
            long_cache=said.long_cache,
            dropped=said.dropped,
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
        translation = reading.Reading(event_bytes, shows_thoughts=_shows_thoughts(request))
        return translating.Reader(translation, request, target, cap=cap, charge=charge, request_id=request_id)

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        pieces = reading.whole(body, shows_thoughts=_shows_thoughts(request))
        return translating.answer(pieces, target, charge=charge, request_id=request_id)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:  # noqa: ARG002  # its type says it
        """See :class:`hpp_middleware.ports.Dialect`."""
        return errors.refusal(body)

    def usage_in(self, body: bytes) -> Seen:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return translating.usage_in(body, "usage", reading.reported)


def _shows_thoughts(request: Request) -> bool:
    return "reasoning" not in request.fields or not chat.excludes_reasoning(request)
