"""Whatever a provider answers, in any dialect and to any client API: an answer, or a fault that is told as its own."""

import json
from random import Random
from typing import Any

import pytest
from rounds import rounds

from attacks.answers import GEMINI, GEMINI_EMBEDDED, MESSAGE_EVENTS, NATIVE, RESPONSE_EVENTS, STREAMS, WHOLE, sse
from attacks.mutating import mutated, scratched, written
from attacks.targets import API_OF, DIALECTS, TARGETS, target
from hpp_middleware.core.relay import ProtocolError, StreamedError
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.core.settlement import End, Settlement, settle
from hpp_middleware.dialects.gemini import refusal
from hpp_middleware.errors import RequestError, UpstreamError
from hpp_middleware.ports import Dialect
from hpp_middleware.stages.route.speak import said
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.provider import Limits

LIMITS = Limits()
ID = f"req_{'0' * 32}"
HOLD = 10**9

ASKED: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}]},
    "messages": {"max_tokens": 2000, "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"input": "hi"},
    "embeddings": {"input": ["a", "b"]},
    "images": {"prompt": "p"},
}


def ask(api: str, where: Target, **fields: Any) -> tuple[Request, Dialect, bool]:
    """A request and its dialect, and whether that is the provider's own of the API."""
    spoken = API_OF[api]
    asked = spoken.request(json.dumps({"model": "x/y", **ASKED[api], **fields}).encode(), LIMITS)
    request, dialect = said(spoken, asked, where, DIALECTS, LIMITS)
    return request, dialect, api != "chat" and request is asked


def charging(where: Target) -> Charge:
    def charge(end: End, seen: Seen) -> Settlement:
        return settle(end, seen, price=where.price, hold=HOLD, prompt_estimate=10)

    return charge


def check(seen: Seen, where: Target) -> None:
    """What was seen can be settled, however it ends, and written down."""
    for end in End:
        assert settle(end, seen, price=where.price, hold=HOLD, prompt_estimate=10).amount >= 0
    if seen.usage_raw is not None:
        json.loads(bytes(seen.usage_raw).decode())


def whole(request: Request, dialect: Dialect, where: Target, data: bytes, charge: Charge | None) -> str:
    try:
        out, seen = dialect.answer(data, request, where, charge=charge, request_id=ID)
    except ProtocolError:
        return "fault"
    except StreamedError as error:
        check(error.args[1] if len(error.args) > 1 else Seen(), where)
        return "error"
    assert out
    check(seen, where)
    return "answer"


def streamed(
    request: Request, dialect: Dialect, where: Target, data: bytes, charge: Charge | None, *, step: int
) -> str:
    reader = dialect.stream(request, where, event_bytes=1 << 20, cap=1000, charge=charge, request_id=ID)
    found = "answer"
    try:
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        reader.close()
    except ProtocolError:
        found = "fault"
    except StreamedError:
        found = "error"
    assert reader.failed(UpstreamError("x", status=502, code="server", provider="p"), None)
    check(reader.seen, where)
    return found


@pytest.mark.parametrize("api", ASKED)
def test_no_answer_is_our_fault(api: str) -> None:
    random, ends = Random(f"answers to {api}"), set()
    for _ in range(rounds(600, soak=40_000)):
        where = random.choice(TARGETS)
        streams = api not in {"embeddings", "images"} and random.random() < 0.6
        try:
            request, dialect, native = ask(api, where, **({"stream": True} if streams else {}))
        except RequestError:
            continue  # it serves no embeddings, or no images
        google = where.provider.dialect in {"gemini", "vertex"}
        charge = charging(where) if random.random() < 0.5 else None
        if streams:
            events, wire = STREAMS[where.provider.dialect] if not native else (NATIVE[api][0], sse)
            data = wire(mutated([event for event in events if random.random() < 0.9], random))
            data = scratched(data, random) if random.random() < 0.3 else data
            ends.add(streamed(request, dialect, where, data, charge, step=random.choice([1, 7, 50, 10**6])))
            continue
        bodies = WHOLE[where.provider.dialect] if not native else NATIVE[api][1]
        if native and google:
            bodies = GEMINI_EMBEDDED if api == "embeddings" else GEMINI
        data = written(mutated(random.choice(bodies), random)).encode()
        data = scratched(data, random) if random.random() < 0.2 else data
        ends.add(whole(request, dialect, where, data, charge))
    assert {"answer", "fault"} <= ends


BAD_NAME = b'"usage":{"input_tokens":3,"output_tokens":2,"\xff":1}'


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("usage", [BAD_NAME, b'"usage":"none"', b'"usage":9223372036854775808', b'"usage":{"x":1e999}'])
def test_an_odd_usage_of_a_message_or_a_response_spoils_no_answer(usage: bytes, *, told: bool) -> None:
    message = b'{"id":"m","type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn",%s}' % usage
    response = b'{"id":"r","status":"completed","output":[],%s}' % usage
    for api, dialect, body in (("messages", "anthropic", message), ("responses", "openai", response)):
        where = target(dialect)
        request, found, native = ask(api, where)
        assert native
        assert whole(request, found, where, body, charging(where) if told else None) == "answer"


def test_items_whose_ids_are_no_strings_are_passed_on() -> None:
    where = target("openai")
    request, dialect, _ = ask("responses", where, stream=True)
    item = {"type": "message", "id": ["odd"], "content": [{"type": "output_text", "text": "hi"}]}
    events = [{"type": f"response.output_item.{part}", "item": item} for part in ("added", "done")]
    assert streamed(request, dialect, where, sse([*events, RESPONSE_EVENTS[-2]]), None, step=10**6) == "answer"


def test_a_usage_in_no_utf_8_is_kept_as_text_by_every_way_in() -> None:
    where = target("anthropic")
    request, dialect, _ = ask("messages", where, stream=True)
    data = sse(MESSAGE_EVENTS[:-1]).replace(b'"input_tokens":10', b'"input_tokens":10,"note":"\xff"')
    assert streamed(request, dialect, where, data, None, step=10**6) == "answer"


def test_a_long_error_of_google_s_is_searched_in_its_head_only() -> None:
    """The search takes the square of a text's length."""
    message = "token count " * 20_000 + "exceeds"
    body = json.dumps({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}).encode()
    assert json.loads(refusal.refused(body))["error"]["code"] == "invalid_request"
    short = body.replace(b"token count " * 20_000, b"token count 5 ")
    assert json.loads(refusal.refused(short))["error"]["code"] == "context_length_exceeded"
