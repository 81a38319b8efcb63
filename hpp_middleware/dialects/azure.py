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
from hpp_middleware.dialects.openai import _headers as headers_of
from hpp_middleware.dialects.options import check_names
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
_SAME_API = ("/openai/v1", "/openai")

_FILTERS = "prompt_filter_results"
_encode = msgspec.json.Encoder().encode

Shared = tuple[tuple[str, str], ...]


class Azure(OpenAI):
    """The dialect: OpenAI's in all but the address and the key's header."""

    def __init__(self) -> None:
        super().__init__()
        self._heads: dict[tuple[int, bool], tuple[Provider, Shared]] = {}

    def check(self, provider: Provider) -> None:
        """See :class:`hpp_middleware.ports.Dialect`."""
        check_names(provider, OPTIONS)
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
            if reason is not None and value != _NULL and field not in target.provider.allow_fields:
                raise RequestError(f"{field} is not accepted: {reason}.", param=field)
        call = super().call(request, target, cap=cap, request_id=request_id)
        place, shared = self.endpoint(
            target.provider, "chat/completions", stream=request.stream, deployment=target.model_name
        )
        return replace(call, url=place, headers=[*shared, *call.headers[len(call.shared) :]], shared=shared)

    def endpoint(
        self, provider: Provider, path: str, *, stream: bool, deployment: str | None = None
    ) -> tuple[str, Shared]:
        """
        Where one of the provider's APIs is, and all that a call to it says in its head but what is its own.

        Args:
            provider: Whose.
            path: As :func:`url` takes it.
            stream: Whether a stream is asked for.
            deployment: Of which deployment; None where the body says that.
        """
        found = self._heads.get((id(provider), stream))
        if found is None:  # it keeps the provider, so that no other one can come to have its id
            found = provider, _head(provider, "text/event-stream" if stream else "application/json")
            if len(self._heads) >= 2 * MOST_PROVIDERS:
                self._heads.clear()
            self._heads[id(provider), stream] = found
        return url(provider, path, deployment), found[1]

    def _json_endpoint(self, target: Target, path: str) -> tuple[str, Shared]:
        return self.endpoint(target.provider, path, stream=False, deployment=target.model_name)

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


def _head(provider: Provider, accept: str) -> Shared:
    """OpenAI's headers, with the key where Azure looks for it."""
    shared = headers_of(provider, accept)
    if provider.api_key is None or provider.options.get("auth") == "bearer":
        return shared
    bearer = ("Authorization", f"Bearer {provider.api_key}")
    return tuple(("api-key", provider.api_key) if pair == bearer else pair for pair in shared)


def url(provider: Provider, operation: str, deployment: str | None) -> str:
    """
    Where an operation of a deployment is.

    Args:
        provider: Its ``base_url`` ends before ``/openai``, or with it, or with ``/openai/v1``.
        operation: ``chat/completions``, ``embeddings``, ``images/generations`` or ``responses``.
        deployment: Its name; None where the operation has it in the body, as all of the v1 API do, as ``model``.
    """
    base = provider.base_url.rstrip("/")
    for ending in _SAME_API:
        base = base.removesuffix(ending)
    version = provider.options.get("api_version") or "v1"
    if version == "v1":
        return f"{base}/openai/v1/{operation}"
    if version == "preview":
        return f"{base}/openai/v1/{operation}?api-version=preview"
    place = operation if deployment is None else f"deployments/{segment(deployment)}/{operation}"
    return f"{base}/openai/{place}?api-version={segment(version)}"
