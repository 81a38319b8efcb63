"""
The endpoints, each a plain ASGI callable that may raise a :class:`~hpp_middleware.errors.GatewayError`.

The key is checked inside each endpoint, by the matched route and never by a rebuilt URL.
"""

import json
import re
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw
from starlette.types import Receive, Scope, Send

from hpp_middleware.apis.chat import CHAT
from hpp_middleware.asgi.anthropic_models import anthropic_model, anthropic_models
from hpp_middleware.asgi.client import ASGIClient, raw, read_body
from hpp_middleware.asgi.paths import ID_HEADERS, is_anthropics
from hpp_middleware.core import auth, deadlines, price, replay
from hpp_middleware.core.auto import facts
from hpp_middleware.errors import GatewayError, RequestError
from hpp_middleware.ports import API, Transport
from hpp_middleware.stages import count
from hpp_middleware.stages.route import lineup
from hpp_middleware.stages.settle.journal import JournalError
from hpp_middleware.stages.worker.worker import Worker
from hpp_middleware.types.auto import AUTO
from hpp_middleware.types.completion import Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.quota import Balance, Entry

if TYPE_CHECKING:
    from hpp_middleware.asgi.app import Gateway

__all__ = ["Endpoints"]

_ID = re.compile(rb"[A-Za-z0-9._:/@-]{1,200}")
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Endpoints:
    """
    What the contract names, for one gateway.

    Args:
        gateway: Whose they are.
        public_models: Whether the models list needs no key.
    """

    def __init__(self, gateway: "Gateway", *, public_models: bool) -> None:
        self._gateway = gateway
        self._public_models = public_models

    async def completions(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A ``POST`` of one of :data:`hpp_middleware.asgi.paths.APIS`, where the router has found it."""
        await self.complete(scope, _client(scope, receive, send), None, scope["hpp.api"])

    async def complete(
        self,
        scope: Scope,
        client: ASGIClient,
        worker: Worker | None,
        api: API,
        *,
        within: str | None = None,
        through: Callable[[Consumer], Transport] | None = None,
    ) -> None:
        """
        A completion, in whatever API.

        Args:
            scope: The request's.
            client: Who asks.
            worker: This event loop's, where it is known.
            api: What the client speaks.
            within: A provider; models are named without it.
            through: What to send by, instead of the provider's own transport.
        """
        gateway = self._gateway
        client.deaf = gateway.deaf
        consumer = await gateway.identify(scope, worker)
        headers = dict(scope["headers"])
        key = replay.key_from(scope["headers"]) if b"idempotency-key" in headers else None
        given = headers.get(b"x-request-id")
        hear = getattr(api, "heard", None)
        worker = worker or gateway.here()
        timeouts = deadlines.asked(headers)
        if (turn := worker.queue.enter(consumer.id, timeouts)) is not None:
            await turn
        try:  # until it is settled; what was refused by now has not even been read
            await gateway.answer(
                consumer,
                await read_body(client.receive, headers, gateway.limits),
                client,
                request_id=scope["hpp.request_id"],
                client_request_id=given.decode("ascii") if given and _ID.fullmatch(given) else None,
                idempotency_key=key,
                worker=worker,
                api=api if hear is None else hear(scope["headers"]),
                within=within,
                transport=through(consumer) if through is not None else None,
                hints=None if facts.HINTS.isdisjoint(headers) else facts.hints(scope["headers"]),
                timeouts=timeouts,
            )
        finally:
            worker.queue.leave(consumer.id)

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /v1/route``: which model would answer a chat completion, and why; nothing is held or forwarded."""
        gateway = self._gateway
        consumer = await gateway.identify(scope)
        headers = dict(scope["headers"])
        body = await read_body(receive, headers, gateway.limits)
        worker = await gateway.worker()  # prices are read when it starts
        request = CHAT.request(body, gateway.limits)
        hints = facts.hints(scope["headers"])
        found = lineup.explain(gateway.setup, request, consumer, hints=hints, health=worker.health)
        await respond(send, _encode(found))

    async def count_tokens(self, scope: Scope, receive: Receive, send: Send) -> None:
        """``POST /v1/messages/count_tokens``: how large a prompt is; nothing is held, and nothing charged."""
        gateway = self._gateway
        consumer = await gateway.identify(scope)
        headers = dict(scope["headers"])
        worker = await gateway.worker()
        lower = deadlines.asked(headers)
        with await worker.queue.place(consumer.id, lower):
            body = await read_body(receive, headers, gateway.limits)
            found = await count.count_tokens(
                *(gateway.setup, worker, consumer, body),
                request_id=scope["hpp.request_id"],
                lower=lower,
            )
        await respond(send, found)

    async def models(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """``GET /llm/v1/models``: what this key may use, or all that there is."""
        consumer = await self._reader(scope)
        targets = [target for target in self._gateway.catalog.targets() if _visible(consumer, target)]
        if is_anthropics(scope["headers"]):
            await respond(send, _encode(anthropic_models(targets, auto=self._chooses)))
            return
        found = [_model(target) for target in targets]
        if self._chooses:
            found.insert(0, _AUTO)
        await respond(send, _encode({"object": "list", "data": found}))

    async def model(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """``GET /llm/v1/models/{id}``; the id contains ``/``."""
        consumer = await self._reader(scope)
        model_id = scope["path_params"]["id"]
        if model_id == AUTO and self._chooses:
            await respond(send, _encode(_AUTO))
            return
        target = self._gateway.catalog.find(self._gateway.catalog.aliases.get(model_id, model_id))
        if target is None or model_id == AUTO or not _visible(consumer, target):
            raise RequestError("There is no such model.", status=404, code="not_found", param="model")
        told = anthropic_model if is_anthropics(scope["headers"]) else _model
        await respond(send, _encode(told(target)))

    async def usage(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """``GET /api/usage``."""
        consumer = await self._gateway.identify(scope)
        balance = await self._gateway.balance(consumer)
        body = {
            "consumer_id": consumer.id,
            "username": consumer.username,
            "custom_id": consumer.custom_id,
            "quota": _usd(balance.quota),
            "used": _usd(balance.used),
            "remaining": _usd(balance.remaining),
            "requests": balance.requests,
            "total_tokens": balance.tokens,
            "total_cost": _usd(balance.used),
        }
        await respond(send, _encode(body))

    async def quota_check(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """``GET /api/quota-check``."""
        consumer = await self._gateway.identify(scope)
        await respond(send, _encode(_quota(await self._gateway.balance(consumer))))

    async def audit(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """``GET /api/user/audit/{log_id}``; another consumer's is a 404."""
        consumer = await self._gateway.identify(scope)
        entries = await self._gateway.entries(consumer, scope["path_params"]["log_id"])
        await respond(send, _encode(_entry(entries)))

    async def healthz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """``GET /healthz``: the process answers."""
        await respond(send, _encode({"status": "ok"}))

    async def readyz(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """
        ``GET /readyz``: the stores can be reached, the journal has room, and it is not about to stop; else 503.

        Upstreams that fail do not make it one: whoever goes elsewhere for that finds the same ones there.
        """
        status, stores = "ok", "reachable"
        try:
            await self._gateway.ready()
        except JournalError:
            status = "unavailable"
        except GatewayError:
            status, stores = "unavailable", "unreachable"
        if self._gateway.here().queue.closed:
            status = "stopping"
        journal = self._gateway.journal
        body = {
            "status": status,
            "stores": stores,
            "journal": {"pending": journal.pending, "slots": journal.slots},
            "upstreams": {name: {"state": state} for name, state in self._gateway.provider_states().items()},
        }
        await respond(send, _encode(body), status=200 if status == "ok" else 503)

    async def openapi(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """``GET /openapi.json``, its server being where this app is mounted."""
        document = json.loads((resources.files("hpp_middleware.asgi") / "openapi.json").read_text("utf-8"))
        if self._gateway.metrics is None:
            del document["paths"]["/metrics"]
        document["servers"] = [{"url": scope.get("root_path", "") or "/"}]
        await respond(send, _encode(document))

    @property
    def _chooses(self) -> bool:
        """Whether ``hpprouter/auto`` can be asked for."""
        return self._gateway.setup.auto is not None

    async def _reader(self, scope: Scope) -> Consumer | None:
        """Who reads the models: nobody in particular, where they are public and no key is shown."""
        if self._public_models and not auth.shown_in(scope["headers"]):
            return None
        return await self._gateway.identify(scope)


async def respond(send: Send, body: bytes, *, status: int = 200, headers: list[tuple[str, str]] | None = None) -> None:
    """A JSON response, which no cache may keep: a key in ``apikey`` tells a shared one nothing of whose it is."""
    whole = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    whole += headers or []
    await send({"type": "http.response.start", "status": status, "headers": raw(whole)})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _client(scope: Scope, receive: Receive, send: Send) -> ASGIClient:
    return ASGIClient(receive, send, scope["hpp.request_id"], ID_HEADERS.get(scope["hpp.api"].name))


def _visible(consumer: Consumer | None, target: Target) -> bool:
    return consumer is None or auth.allows(consumer, target.id)


def _usd(nano: int) -> Raw:
    return Raw(price.dollars(nano).encode())


def _rate(rate: int | None) -> Raw | None:
    return Raw(price.token_dollars(rate).encode()) if rate is not None else None


def _model(target: Target) -> dict[str, Any]:
    model, rates = target.model, target.price.base
    return {
        "id": target.id,
        "object": "model",
        "created": model.created,
        "owned_by": target.provider_name,
        "name": model.name or target.model_name,
        "description": model.description,
        "pricing": {
            "input": _rate(rates.input),
            "output": _rate(rates.output) if target.price.only != "embeddings" else None,
            "cache_write": _rate(rates.cache_write),
            "cache_read": _rate(rates.cache_read),
        },
        "context": model.context,
        "max_output": model.max_output,
        "tool": model.tool,
        "structured": model.structured,
        "knowledge_cutoff": model.knowledge_cutoff,
        "input_modalities": model.input_modalities,
        "output_modalities": model.output_modalities,
    }


_AUTO: dict[str, Any] = {
    "id": AUTO,
    "object": "model",
    "created": 0,
    "owned_by": "hpprouter",
    "name": "Auto",
    "description": "The router chooses the model; the chosen one's price is billed.",
    "pricing": None,
    "context": None,
    "max_output": None,
    "tool": None,
    "structured": None,
    "knowledge_cutoff": None,
    "input_modalities": None,
    "output_modalities": None,
}


def _quota(balance: Balance) -> dict[str, Any]:
    return {
        "has_quota": balance.remaining > 0,
        "quota": _usd(balance.quota),
        "used": _usd(balance.used),
        "remaining": _usd(balance.remaining),
        "held": _usd(balance.held),
        "available": _usd(balance.available),
    }


def _entry(entries: list[Entry]) -> dict[str, Any]:
    """One request's ledger lines as one entry: a correction speaks last."""
    first, last = entries[0], entries[-1]
    usage = last.report.usage
    rates = price.rates_for(first.draft.price, usage.prompt)
    return {
        "id": first.hold,
        "client_request_id": first.draft.client_request_id,
        "created": first.created,
        "model": first.draft.model,
        "requested_model": first.draft.requested_model,
        "routing": msgspec.structs.asdict(first.draft.routed) if first.draft.routed is not None else None,
        "outcome": last.report.outcome,
        "estimated": last.report.estimated,
        "usage": {
            "prompt_tokens": usage.prompt,
            "completion_tokens": usage.completion,
            "total_tokens": usage.total,
            "cached_tokens": usage.cache_read,
            "cache_write_tokens": usage.cache_write,
            "reasoning_tokens": usage.reasoning,
            "input_audio_tokens": usage.input_audio,
            "output_audio_tokens": usage.output_audio,
        },
        "prices": {name: _rate(getattr(rates, name)) for name in rates.__struct_fields__},
        "cost": _usd(sum(entry.amount for entry in entries)),
        "lines": [{"line": entry.line, "seq": entry.seq, "amount": _usd(entry.amount)} for entry in entries],
        "attempts": [
            {
                "provider": attempt.provider,
                "model": attempt.model,
                "status": attempt.status,
                "error": attempt.error,
                "prompt_tokens": attempt.usage.prompt if attempt.usage is not None else None,
                "completion_tokens": attempt.usage.completion if attempt.usage is not None else None,
                "cost": _usd(attempt.cost),
            }
            for attempt in last.report.attempts
        ],
    }
