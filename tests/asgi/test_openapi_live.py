"""What a running gateway answers, held against the published document: by hand, and by schemathesis."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, NamedTuple

import httpx2
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from rounds import SOAK, rounds
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks, not_a_server_error
from schemathesis.config import SchemathesisConfig
from servers import serve

from hpp_middleware import Gateway, Provider
from hpp_middleware.asgi.metrics import Metrics
from hpp_middleware.observers.prometheus import PrometheusObserver
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.provider import Declared, Limits

KEY = "a-key-of-more-than-twenty-characters"
NARROW_KEY = "a-narrow-key-of-twenty-characters"
POOR_KEY = "a-poor-key-of-twenty-characters"
MOST_DOLLARS = 9_000_000 * 10**9

MODEL = "openai/gpt-5-mini"
PAINTER = "openai/gpt-image-1"
RATES = {"input": "1", "output": "2", "input_audio": "3", "output_audio": "4"}
COMPLETIONS = "/llm/v1/chat/completions"
RESPONSES = "/llm/v1/responses"
MESSAGES = "/llm/v1/messages"
QUESTION = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}]}
BODY_BYTES = 200_000
EXAMPLES = rounds(25, soak=50)
DEADLINES = {f"x-hpp-router-{name}" for name in ("timeout", "connect-timeout", "first-byte-timeout", "idle-timeout")}

DOCUMENT: dict[str, Any] = json.loads((files("hpp_middleware.asgi") / "openapi.json").read_text("utf-8"))
REQUEST = DOCUMENT["components"]["schemas"]["ChatCompletionRequest"]


class Live(NamedTuple):
    """A gateway over real HTTP, and its provider."""

    upstream: FakeUpstream
    client: httpx2.Client

    def send(self, method: str, path: str, *, at: str | None = None, key: str | None = KEY, **settings: Any) -> Any:
        """A request whose response is checked against what the document says of ``at``."""
        headers = {**({"apikey": key} if key else {}), **settings.pop("headers", {})}
        response = self.client.request(method, path, headers=headers, **settings)
        case = SCHEMA[at or path][method].Case(path_parameters={"id": "?", "log_id": "?"})
        case.validate_response(
            response, checks=named("status_code", "content_type", "response_headers", "response_schema")
        )
        return response

    def ask(self, key: str = KEY, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        return self.send("POST", COMPLETIONS, key=key, json={**QUESTION, **fields}, headers=headers or {})


def named(*names: str) -> list[Any]:
    load_all_checks()
    return [CHECKS.get_one(f"{name}_conformance") for name in names]


@contextmanager
def living(**settings: Any) -> Iterator[Live]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(FakeUpstream()) as upstream:
        gateway = Gateway(
            providers={"openai": Provider(base_url=upstream.url, api_key="upstream-secret", breaker=None, retries=0)},
            models={MODEL: {**RATES, "tags": ("eu",)}, PAINTER: {**RATES, "output_image": "5"}},
            aliases={"fast": MODEL},
            prices=None,
            consumers={
                "alice": Declared(quota=MOST_DOLLARS, keys=(KEY,)),
                "bob": Declared(quota=MOST_DOLLARS, keys=(NARROW_KEY,), models=("openai/other",)),
                "carol": Declared(quota=1, keys=(POOR_KEY,)),
            },
            limits=Limits(body_bytes=BODY_BYTES),
            metrics=Metrics(PrometheusObserver()),
            **settings,
        )
        with serve(gateway.app) as url, httpx2.Client(base_url=url, trust_env=False) as client:
            yield Live(upstream, client)


def load() -> Any:
    """The document, with the models that this gateway has: any other is a 400, as it says."""
    schemas = dict(DOCUMENT["components"]["schemas"])
    there: dict[str, list[str | None]] = {
        "ChatCompletionRequest": [MODEL, "fast"],
        "ResponseRequest": [MODEL, "fast"],
        "MessageRequest": [MODEL, "fast"],
        "CountTokensRequest": [MODEL, "fast"],
        "EmbeddingsRequest": [MODEL, "fast"],
        "ImagesRequest": [PAINTER, "gpt-image-1", None],
    }
    for name, models in there.items():
        properties = schemas[name]["properties"]
        further = {"type": ["array", "null"], "maxItems": 8, "items": {"enum": [each for each in models if each]}}
        schemas[name] = {
            **schemas[name],
            "properties": {
                **properties,
                "model": {**properties["model"], "enum": models},
                **({"models": further} if "models" in properties else {}),
            },
        }
    names = {"type": ["array", "null"], "items": {"enum": ["openai", MODEL]}}
    kept = ("order", "allow_fallbacks", "require_parameters", "sort")  # the others may leave nobody to answer, a 400
    preferences = schemas["ProviderPreferences"]["properties"]
    schemas["ProviderPreferences"] = {
        "type": ["object", "null"],
        "additionalProperties": False,
        "properties": {**{name: preferences[name] for name in kept}, "order": names},
    }
    config = SchemathesisConfig()
    config.output.sanitization.update(enabled=False)
    config.projects.default.generation.update(max_examples=EXAMPLES, deterministic=True, with_security_parameters=False)
    refusals = config.projects.default.checks.negative_data_rejection
    refusals.expected_statuses = [*refusals.expected_statuses, "413"]  # said before a body is read
    config.projects.default.phases.coverage.enabled = SOAK  # thousands of cases, in the order of the document
    return schemathesis.openapi.from_dict(
        {**DOCUMENT, "paths": untagged(), "components": {**DOCUMENT["components"], "schemas": schemas}}, config=config
    )


def untagged() -> Any:
    """The document's paths, but for the tags that a client may ask for: hardly one that is drawn is a model's here."""
    paths = json.loads(json.dumps(DOCUMENT["paths"]))
    for operations in paths.values():
        for operation in operations.values():
            parameters = operation.get("parameters", [])
            parameters[:] = [each for each in parameters if each.get("name") != "X-HPP-Router-Require"]
    return paths


SCHEMA = load()


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living() as running:
        yield running


# --- each answer by hand --------------------------------------------------------------------------


def test_a_json_completion_and_everything_that_can_be_read_of_it(live: Live) -> None:
    answer = live.ask(model="fast", headers={"X-Request-Id": "my-job-17"})
    assert answer.status_code == 200
    assert answer.headers["x-hpp-router-resolved-model"] == answer.json()["model"] == MODEL
    log_id = answer.headers["x-request-id"]
    entry = live.send("GET", f"/api/user/audit/{log_id}", at="/api/user/audit/{log_id}").json()
    assert (entry["id"], entry["client_request_id"], entry["requested_model"]) == (log_id, "my-job-17", "fast")
    assert entry["cost"] == float(answer.headers["x-hpp-router-cost"]) > 0
    assert live.send("GET", "/api/usage").json()["requests"] >= 1
    assert live.send("GET", "/api/quota-check").json()["has_quota"] is True


def test_a_stream_and_one_that_breaks(live: Live) -> None:
    whole = live.ask(stream=True)
    assert whole.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (whole.headers["cache-control"], whole.headers["x-accel-buffering"]) == ("no-cache", "no")
    assert whole.text.endswith("data: [DONE]\n\n")
    live.upstream.next(Script(truncate_after_events=1))
    broken = live.ask(stream=True)
    last = json.loads(broken.text.rstrip().rpartition("data: ")[2])
    assert last["error"]["type"] == "upstream_error"
    assert "[DONE]" not in broken.text


def test_a_response_its_stream_and_its_errors(live: Live) -> None:
    asked = {"model": MODEL, "input": "Hello!"}
    whole = live.send("POST", RESPONSES, json=asked)
    assert (whole.status_code, whole.json()["model"]) == (200, MODEL)
    streamed = live.send("POST", RESPONSES, json={**asked, "stream": True})
    assert "event: response.completed" in streamed.text
    for status, key in ((401, None), (403, NARROW_KEY), (429, POOR_KEY)):
        assert live.send("POST", RESPONSES, key=key, json=asked).status_code == status
    assert live.send("POST", RESPONSES, json={**asked, "store": True}).json()["error"]["param"] == "store"
    live.upstream.next(Script(status=500))
    assert live.send("POST", RESPONSES, json=asked).status_code == 502


def test_a_message_its_stream_and_its_errors(live: Live) -> None:
    asked = {**QUESTION, "max_tokens": 100}
    whole = live.send("POST", MESSAGES, json=asked)
    assert (whole.status_code, whole.json()["model"]) == (200, MODEL)
    streamed = live.send("POST", MESSAGES, json={**asked, "stream": True})
    assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "event: message_stop" in streamed.text
    counted = live.send("POST", f"{MESSAGES}/count_tokens", json=QUESTION)
    assert counted.json()["estimated"] is True
    for status, key, body in (
        (400, KEY, QUESTION),
        (401, None, asked),
        (403, NARROW_KEY, asked),
        (429, POOR_KEY, asked),
    ):
        refused = live.send("POST", MESSAGES, key=key, json=body)
        assert (refused.status_code, refused.json()["type"]) == (status, "error")
    live.upstream.next(Script(status=500))
    assert live.send("POST", MESSAGES, json=asked).status_code == 502


@pytest.mark.parametrize("path", ["/llm/v1/models", "/healthz", "/readyz", "/openapi.json", "/metrics"])
def test_what_needs_no_key(live: Live, path: str) -> None:
    assert live.send("GET", path, key=None).status_code == 200


@pytest.mark.parametrize("name", [MODEL, MODEL.replace("/", "%2F"), "fast"])
def test_one_model_by_id_or_alias(live: Live, name: str) -> None:
    found = live.send("GET", f"/llm/v1/models/{name}", at="/llm/v1/models/{id}")
    assert (found.status_code, found.json()["id"]) == (200, MODEL)


@pytest.mark.parametrize("path", ["/llm/v1/models", "/api/usage", "/api/quota-check"])
def test_a_wrong_key_is_refused_wherever_it_is_shown(live: Live, path: str) -> None:
    refused = live.send("GET", path, key="a-key-that-nobody-ever-made")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "at"),
    [("/api/user/audit/nothing", "/api/user/audit/{log_id}"), ("/llm/v1/models/openai/nothing", "/llm/v1/models/{id}")],
)
def test_what_is_not_there(live: Live, path: str, at: str) -> None:
    missing = live.send("GET", path, at=at)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("status", "code", "settings"),
    [
        (400, "invalid_request", {"json": {**QUESTION, "n": 0}}),
        (400, "invalid_request", {"content": b"{", "headers": {"content-type": "application/json"}}),
        (400, "unsupported_model", {"json": {**QUESTION, "model": "openai/nothing"}}),
        (400, "smart_routing_failed", {"json": {**QUESTION, "model": "hpprouter/auto"}}),
        (401, "unauthorized", {"json": QUESTION, "key": None}),
        (403, "model_not_allowed", {"json": QUESTION, "key": NARROW_KEY}),
        (413, "request_too_large", {"json": {**QUESTION, "padding": " " * BODY_BYTES}}),
        (415, "unsupported_media_type", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (429, "insufficient_quota", {"json": QUESTION, "key": POOR_KEY}),
    ],
)
def test_each_refusal_of_the_router(live: Live, status: int, code: str, settings: dict[str, Any]) -> None:
    refused = live.send("POST", COMPLETIONS, **settings)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "status", [400, 401, 402, 403, 404, 408, 409, 413, 415, 418, 422, 429, 500, 502, 503, 504, 529]
)
def test_each_refusal_of_a_provider(live: Live, status: int) -> None:
    live.upstream.next(Script(status=status))
    error = live.ask().json()["error"]
    assert (error["type"], error["provider"], error["upstream_status"]) == ("upstream_error", "openai", status)


@pytest.mark.parametrize(
    "script", [Script(close_before_head=True), Script(raw_body=b"<html>"), Script(truncate_at_byte=9)]
)
def test_a_provider_that_answers_nothing_sensible(live: Live, script: Script) -> None:
    live.upstream.next(script)
    assert live.ask().status_code == 502


def test_an_empty_quota_as_a_402() -> None:
    with living(quota_status=402) as live:
        refused = live.ask(key=POOR_KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_quota")
        assert live.send("POST", RESPONSES, key=POOR_KEY, json={"model": MODEL, "input": "Hello!"}).status_code == 402
        assert live.send("POST", MESSAGES, key=POOR_KEY, json={**QUESTION, "max_tokens": 100}).status_code == 402


def test_the_flat_form_of_the_routers_own_errors() -> None:
    with living(error_format="simple") as live:
        refused = live.send("GET", "/api/usage", key=None)
        assert refused.json() == {"error": "unauthorized", "message": "Invalid API key"}
        assert live.ask(model="openai/nothing").json()["error"] == "unsupported_model"
        assert live.ask(key=POOR_KEY).json()["error"] == "insufficient_quota"
        live.upstream.next(Script(status=500))
        assert live.ask().json()["error"]["type"] == "upstream_error"


# --- what nobody thought of -----------------------------------------------------------------------


@SCHEMA.hook  # type: ignore[untyped-decorator]  # schemathesis types neither of these two
def filter_body(_context: Any, body: Any) -> bool:
    """JSON Schema takes 2.0 for an integer; the router, as its document says in words, does not."""
    if not isinstance(body, dict):
        return True
    values = [
        body.get(name) for name in ("n", "max_tokens", "max_completion_tokens", "max_output_tokens", "dimensions")
    ]
    thinking = body.get("thinking")
    values += [thinking.get("budget_tokens")] if isinstance(thinking, dict) else []
    tokens = body.get("input")
    for each in tokens if isinstance(tokens, list) else []:
        values += each if isinstance(each, list) else [each]
    return not any(isinstance(value, float) and value.is_integer() for value in values)


@SCHEMA.parametrize()  # type: ignore[untyped-decorator]  # as above
def test_whatever_is_sent_the_answer_is_one_that_the_document_names(case: "Case[Any]", live: Live) -> None:
    response = case.call(base_url=str(live.client.base_url), headers={"apikey": KEY})
    hurried = response.status_code == 504 and any(name.lower() in DEADLINES for name in case.headers)  # its own wish
    case.validate_response(response, excluded_checks=[not_a_server_error] if hurried else [])
