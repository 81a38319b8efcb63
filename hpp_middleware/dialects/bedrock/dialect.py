"""
The dialect: chat completions as Bedrock's Converse, and its answers as chat completions.

Calls go out unsigned: with an API key of Bedrock's they carry it, and else a transport signs them
(:mod:`hpp_middleware.transports.aws`), since that takes a clock and credentials.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.dialects import chat, translating
from hpp_middleware.dialects.bedrock import answer, errors
from hpp_middleware.dialects.bedrock.request import say
from hpp_middleware.dialects.options import check_names
from hpp_middleware.dialects.urls import segment
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

__all__ = ["EVENT_STREAM", "OPTIONS", "Bedrock", "region_of"]

EVENT_STREAM = "application/vnd.amazon.eventstream"

OPTIONS = frozenset({"region", "access_key_id", "secret_access_key", "session_token", "profile"})
"""``region`` where the URL does not tell it; keys, or a profile, or none for what botocore finds by itself."""

MORE_TOKENS = 64
IMAGE_TOKENS = 32
TOOL_TOKENS = 1_000
FORMAT_TOKENS = 1_000
CONTEXT_TOKENS = 1_000_000
"""
What stands in the prompt and in no byte of the body: what frames each prompt, and an image, whose data URL was longer
than its data; what explains tools (Claude: up to 675 tokens), and a format; and of a packed document no more than the
model's context, or this.
"""

_HOST = re.compile(r"https?://bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com|api\.aws)", re.IGNORECASE)
_REGION = re.compile(r"[a-z0-9-]+")

_encode = msgspec.json.Encoder().encode
_body = msgspec.json.Decoder(dict[str, Any])


class Bedrock:
    """The dialect."""

    def check(self, provider: Provider) -> None:
        """See :class:`hpp_middleware.ports.Dialect`."""
        try:
            import botocore.eventstream  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                "dialect bedrock needs `pip install hpp_middleware[bedrock]`", param="dialect"
            ) from None
        options = provider.options
        check_names(provider, OPTIONS)
        if provider.api_key is not None:
            return
        region_of(provider)
        for name, other in (("access_key_id", "secret_access_key"), ("secret_access_key", "access_key_id")):
            if options.get(name) and not options.get(other):
                raise ConfigurationError(f"options.{other} is missing", param=f"options.{other}")

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """See :class:`hpp_middleware.ports.Dialect`."""
        asked = chat.read(request)
        said = say(asked, target.model_name, chat.cap_of(request, cap))
        provider = target.provider
        verb = "converse-stream" if request.stream else "converse"
        key = provider.api_key
        headers = (
            ("Content-Type", "application/json"),
            ("Accept", EVENT_STREAM if request.stream else "application/json"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "hpp-router"),
            *provider.headers.items(),
            *(() if key is None else (("Authorization", f"Bearer {key}"),)),
        )
        more = MORE_TOKENS + TOOL_TOKENS * bool(asked.tools) + FORMAT_TOKENS * (asked.response_format is not None)
        more += IMAGE_TOKENS * request.images.count
        if said.has_packed:
            more += target.model.context or CONTEXT_TOKENS
        return HTTPCall(
            url=f"{provider.base_url.rstrip('/')}/model/{segment(target.model_name)}/{verb}",
            headers=[*headers, ("X-Request-Id", request_id)],
            body=_encode(said.body),
            connect_s=provider.timeouts.connect,
            more_tokens=more,
            long_cache=said.caches_long,
            dropped=chat.unsaid(request, said.fields),
            stream_type=EVENT_STREAM,
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
        translation = answer.ConverseStream(
            event_bytes,
            show_reasoning=_shows_reasoning(request),
            holds_cached="openai." in target.model_name,
        )
        return translating.Reader(translation, request, target, cap=cap, charge=charge, request_id=request_id)

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        pieces = answer.converse(body, show_reasoning=_shows_reasoning(request))
        return translating.answer(pieces, target, charge=charge, request_id=request_id)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
        """See :class:`hpp_middleware.ports.Dialect`."""
        fields = _body.decode(body)
        kind = headers.get("x-amzn-errortype") or fields.get("__type") or fields.get("code") or ""
        message = fields.get("message") or fields.get("Message") or ""
        return _encode({"error": errors.error(str(kind), str(message), status)})

    def usage_in(self, body: bytes) -> Seen:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return translating.usage_in(body, "usage", answer.reported)


def region_of(provider: Provider) -> str:
    """
    The AWS region that requests are signed for.

    Raises:
        ConfigurationError: It is neither set nor in the URL.
    """
    found = _HOST.match(provider.base_url)
    region = provider.options.get("region") or (found[1].lower() if found is not None else "")
    if not _REGION.fullmatch(region):
        raise ConfigurationError("options.region is missing, or no AWS region", param="options.region")
    return region


def _shows_reasoning(request: Request) -> bool:
    return "reasoning" not in request.fields or not chat.read(request).exclude_reasoning
