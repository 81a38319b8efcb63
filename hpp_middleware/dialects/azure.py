"""
Azure OpenAI: OpenAI's dialect at other addresses, where a deployment's name stands for a model.

Sources: https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle (the v1 API, which needs no
``api-version``), https://learn.microsoft.com/azure/foundry/openai/reference (the dated versions),
https://learn.microsoft.com/azure/foundry/openai/concepts/content-filter (what filters add to answers).
"""

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from hpp_middleware.core import relay, sse
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.dialects.openai import MOST_PROVIDERS, OpenAI, Stream
from hpp_middleware.dialects.urls import segment
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

__all__ = ["OPTIONS", "Azure", "url"]

OPTIONS = frozenset({"api_version", "auth", "resource"})
"""
``api_version``: ``v1`` (the default), ``preview`` for the v1 API's previews, or a date: ``2024-10-21``. ``auth``:
``api-key`` (the default), or ``bearer`` where ``api_key`` is a token of Entra's. ``resource``: for the preset's URL.
"""

UNPRICED = {"data_sources": "searches are billed apart, and make the prompt longer than what is sent"}

_NULL = Raw(b"null")
_WITHOUT_DEPLOYMENT = frozenset({"responses"})
_SAME_API = ("/openai/v1", "/openai")

_FILTERS = "prompt_filter_results"
_encode = msgspec.json.Encoder().encode

Shared = tuple[tuple[str, str], ...]


class Azure(OpenAI):
    """The dialect: OpenAI's in all but the address and the key's header."""

    def __init__(self) -> None:
        super().__init__()
        self._heads: dict[int, tuple[Shared, Shared]] = {}  # OpenAI's, which keeps its id its own, and ours

    def check(self, provider: Provider) -> None:
        """See :class:`hpp_middleware.ports.Dialect`."""
        for name in sorted(provider.options.keys() - OPTIONS):
            raise ConfigurationError(
                f"options.{name} is unknown; there are {', '.join(sorted(OPTIONS))}", param=f"options.{name}"
            )
        if provider.options.get("auth", "api-key") not in {"api-key", "bearer"}:
            raise ConfigurationError("options.auth must be api-key or bearer", param="options.auth")
        if "/deployments/" in provider.base_url or "?" in provider.base_url:
            raise ConfigurationError(
                "base_url must end before /openai: a model's name is its deployment's", param="base_url"
            )

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """See :class:`hpp_middleware.ports.Dialect`."""
        for field, value in request.fields.items():
            reason = UNPRICED.get(field.casefold())
            if reason is not None and value != _NULL:
                raise RequestError(f"{field} is not accepted: {reason}.", param=field)
        call = super().call(request, target, cap=cap, request_id=request_id)
        shared = self._head(target.provider, call.shared)
        return replace(
            call,
            url=url(target.provider, "chat/completions", target.model_name),
            headers=[*shared, *call.headers[len(call.shared) :]],
            shared=shared,
        )

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",  # noqa: ARG002  # an answer has its own
    ) -> Stream:
        """See :class:`hpp_middleware.ports.Dialect`."""
        found = Stream(request, target, event_bytes=event_bytes, cap=cap, charge=charge)
        found.relay = _Relay(request, target, cap=cap, charge=charge)
        return found

    def _head(self, provider: Provider, shared: Shared) -> Shared:
        """OpenAI's headers with the key where Azure looks for it."""
        if provider.api_key is None or provider.options.get("auth") == "bearer":
            return shared
        found = self._heads.get(id(shared))
        if found is None:
            bearer = ("Authorization", f"Bearer {provider.api_key}")
            found = shared, tuple(("api-key", provider.api_key) if pair == bearer else pair for pair in shared)
            if len(self._heads) >= 2 * MOST_PROVIDERS:
                self._heads.clear()
            self._heads[id(shared)] = found
        return found[1]


class _Relay(relay.Relay):
    """
    OpenAI's, but for Azure's first event, of what filters found in the prompt: it has no choices, no id, and no object,
    which clients stumble over. What it says is told with the first event that has choices.
    """

    _filters: Raw | None = None
    _begun = False

    def feed(self, event: sse.Event) -> bytes:
        """See :class:`hpp_middleware.core.relay.Relay`."""
        if self._begun or event.data is None:
            return super().feed(event)
        try:
            fields = relay.members.decode(event.data)
        except relay.BROKEN:
            return super().feed(event)  # which says what is wrong, or knows an end mark
        alone = _FILTERS in fields and bytes(fields.get("choices", _NULL)) in {b"[]", b"null"}
        if alone and fields.get("usage", _NULL) == _NULL:
            self._filters = fields[_FILTERS]
            return b""
        self._begun = True
        if self._filters is not None:
            event = event._replace(data=_encode({**fields, _FILTERS: self._filters}))
        return super().feed(event)


def url(provider: Provider, operation: str, deployment: str) -> str:
    """
    Where an operation of a deployment is.

    Args:
        provider: Its ``base_url`` ends before ``/openai``, or with it, or with ``/openai/v1``.
        operation: ``chat/completions``, ``embeddings``, ``images/generations`` or ``responses``.
        deployment: Its name; the v1 API has it in the body, as ``model``.
    """
    base = provider.base_url.rstrip("/")
    for ending in _SAME_API:
        base = base.removesuffix(ending)
    version = provider.options.get("api_version") or "v1"
    if version == "v1":
        return f"{base}/openai/v1/{operation}"
    if version == "preview":
        return f"{base}/openai/v1/{operation}?api-version=preview"
    place = operation if operation in _WITHOUT_DEPLOYMENT else f"deployments/{segment(deployment)}/{operation}"
    return f"{base}/openai/{place}?api-version={segment(version)}"
