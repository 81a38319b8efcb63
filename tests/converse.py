"""What botocore makes of Converse: its validator, its serializer, and its parsers, which are Amazon's own."""

import base64
import json
from functools import cache
from typing import Any

from botocore.eventstream import EventStream
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from botocore.session import Session
from botocore.validate import ParamValidator

__all__ = ["accept", "parsed", "parsed_stream"]


@cache
def _operation(name: str) -> Any:
    return Session().get_service_model("bedrock-runtime").operation_model(name)


def accept(url: str, body: bytes, *, model: str) -> dict[str, Any]:
    """
    Hold a call to Amazon's own client: its validator accepts it, and its serializer writes the same path and body.

    Args:
        url: Where it goes.
        body: What is sent.
        model: The model's id.
    Returns:
        The body, parsed.
    """
    operation = _operation("ConverseStream" if url.endswith("-stream") else "Converse")
    found: dict[str, Any] = json.loads(body)
    params = {"modelId": model, **_with_bytes(found)}
    report = ParamValidator().validate(params, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    written = create_serializer("rest-json").serialize_to_request(params, operation)
    assert url.endswith(written["url_path"]), written["url_path"]
    assert json.loads(written["body"]) == found
    return found


def parsed(body: bytes) -> Any:
    """A whole answer, as Amazon's client reads it."""
    response = {"status_code": 200, "headers": {"content-type": "application/json"}, "body": body}
    return create_parser("rest-json").parse(response, _operation("Converse").output_shape)


def parsed_stream(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream, as Amazon's client reads them."""

    class Raw:
        def stream(self) -> list[bytes]:
            return [body]

        def close(self) -> None: ...

    shape = _operation("ConverseStream").output_shape.members["stream"]
    return list(EventStream(Raw(), shape, create_parser("rest-json")._event_stream_parser, "ConverseStream"))


def _with_bytes(value: Any, name: str = "") -> Any:
    """With bytes in the place of base64, as a client is given them."""
    if isinstance(value, dict):
        return {key: _with_bytes(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    return base64.b64decode(value, validate=True) if name in {"bytes", "redactedContent"} else value
