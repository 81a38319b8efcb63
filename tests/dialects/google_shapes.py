"""What the tests of Google's dialects share: requests that Google's own SDK judges, and targets."""

import base64
import json
from enum import Enum
from typing import Any

from google.genai import Client, models, types
from pydantic import BaseModel

from hpp_middleware.core import parse
from hpp_middleware.dialects.gemini import Gemini, Vertex
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

__all__ = ["KEY", "PRICE", "REQUEST_ID", "asked", "body_of", "judged", "request", "target"]

KEY = "AIza-an-operators-key-of-his"
REQUEST_ID = "req_0199aabbccdd00112233445566778899"
PRICE = Price(base=Rates(input=1, output=2))


def target(
    model: str = "gemini-2.5-flash", *, price: Price = PRICE, known: Model | None = None, **settings: Any
) -> Target:
    settings = {"base_url": "https://generativelanguage.googleapis.com/v1beta", "api_key": KEY, **settings}
    return Target(
        id=f"gemini/{model}",
        provider_name="gemini",
        model_name=model,
        provider=Provider(**settings),
        model=known or Model(),
        price=price,
    )


def request(messages: Any = "Hi", **fields: Any) -> Request:
    """A chat completion as it is parsed from the client's bytes."""
    turns = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
    text = json.dumps({"model": "gemini/m", "messages": turns, **fields})
    return parse.completion(text.encode(), Limits())


def asked(where: Target | None = None, messages: Any = "Hi", *, cap: int | None = None, **fields: Any) -> HTTPCall:
    dialect = Vertex() if where is not None and where.provider.dialect == "vertex" else Gemini()
    return dialect.call(request(messages, **fields), where or target(), cap=cap, request_id=REQUEST_ID)


def body_of(where: Target | None = None, messages: Any = "Hi", *, cap: int | None = None, **fields: Any) -> Any:
    """The body that is sent, once Google's SDK would have sent it too."""
    found = json.loads(asked(where, messages, cap=cap, **fields).body)
    judged(found)
    return found


def judged(body: dict[str, Any]) -> None:
    """Read a body by Google's types, which know no other fields, and have Google's SDK write it: it is the same."""
    config = {**body.get("generationConfig", {})}
    config |= {name: body[name] for name in ("systemInstruction", "tools", "toolConfig") if name in body}
    read = types._GenerateContentParameters.model_validate(
        {"model": "gemini-2.5-flash", "contents": body["contents"], "config": config}
    )
    client = Client(api_key="unused")
    written = models._GenerateContentParameters_to_mldev(client._api_client, read)
    del written["_url"]
    if "systemInstruction" in written:
        written["systemInstruction"] = {"parts": written["systemInstruction"]["parts"]}  # it has no role that matters
    assert _plain(written) == _plain(body)


def _plain(value: Any) -> Any:
    """What Google's SDK has written, as JSON; bytes are base64, of either kind."""
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(by_alias=True, exclude_none=True))
    if isinstance(value, dict):
        found = {name: _plain(each) for name, each in value.items()}
        if isinstance(found.get("thoughtSignature"), str):
            found["thoughtSignature"] = found["thoughtSignature"].replace("-", "+").replace("_", "/")
        return found
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
