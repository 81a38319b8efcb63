"""The published document: valid OpenAPI 3.1, and of one mind with the code."""

import json
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from starlette.routing import Route

from hpp_middleware import Gateway, Provider
from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.apis.images import IMAGES, MOST
from hpp_middleware.apis.media import Media
from hpp_middleware.apis.responses import request as responses
from hpp_middleware.asgi.metrics import Metrics
from hpp_middleware.core import drawing, parse
from hpp_middleware.core.deadlines import HEADERS
from hpp_middleware.dialects import openai, unpriced
from hpp_middleware.observers.prometheus import PrometheusObserver
from hpp_middleware.testing import get
from hpp_middleware.types.provider import Limits

DOCUMENT: dict[str, Any] = json.loads((files("hpp_middleware.asgi") / "openapi.json").read_text("utf-8"))


def resolved(node: Any) -> Any:
    """A node of the document, or what it refers to."""
    while isinstance(node, dict) and "$ref" in node:
        target = DOCUMENT
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def make_gateway() -> Gateway:
    return Gateway(
        providers={"openai": Provider(base_url="http://127.0.0.1:9/v1")},
        prices=None,
        metrics=Metrics(PrometheusObserver()),
    )


# --- the document by itself -----------------------------------------------------------------------


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    schema = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig())
    schema.validate()
    assert len(list(schema.get_all_operations())) == len(list(operations()))


def test_a_broken_document_would_not_pass_as_valid() -> None:
    broken = {**DOCUMENT, "info": {"title": "no version"}}
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(broken, config=SchemathesisConfig()).validate()


def test_a_request_may_lower_the_deadlines_wherever_a_provider_is_asked() -> None:
    declared = {each["name"] for each in DOCUMENT["components"]["parameters"].values()}
    assert set(HEADERS.values()) == declared
    for path, _, operation in operations():
        named = {resolved(each)["name"] for each in operation.get("parameters", [])} & declared
        asks = path.startswith("/llm/v1/") and path.rpartition("/")[2] not in {"route", "models", "{id}"}
        assert named == (declared if asks else set()), path


def test_every_schema_in_it_is_a_valid_json_schema() -> None:
    schemas = [node["schema"] for node in walk(DOCUMENT) if isinstance(node.get("schema"), dict)]
    schemas += DOCUMENT["components"]["schemas"].values()
    assert len(schemas) > 40
    for schema in schemas:
        jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
        assert jsonschema_rs.meta.is_valid({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    used = {node["$ref"] for node in walk(DOCUMENT) if "$ref" in node}
    for reference in used:
        assert resolved({"$ref": reference})
    there = {
        f"#/components/{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        if kind != "securitySchemes"
        for name in components
    }
    assert there == used


def examples() -> Iterator[Any]:
    """Pairs of a schema and an example of it."""
    for node in walk(DOCUMENT):
        if isinstance(node.get("schema"), dict):
            given = [each["value"] for each in node.get("examples", {}).values()]
            given += [node["example"]] if "example" in node else []
            yield from (pytest.param(node["schema"], value, id=json.dumps(value)[:60]) for value in given)


@pytest.mark.parametrize(("schema", "example"), list(examples()))
def test_every_example_fits_its_schema(schema: dict[str, Any], example: Any) -> None:
    jsonschema_rs.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(example)


def test_every_operation_is_described_for_a_newcomer() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    for path, method, operation in operations():
        assert operation["summary"], (path, method)
        assert operation["description"].endswith("."), (path, method)
        assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
        for status, response in operation["responses"].items():
            assert resolved(response)["description"], (path, status)
            assert "X-Request-Id" in resolved(response)["headers"], (path, status)


def test_it_says_which_version_of_the_package_it_belongs_to() -> None:
    assert DOCUMENT["info"]["version"] == version("hpp_middleware")


# --- the document and the code --------------------------------------------------------------------


def test_every_route_of_the_app_is_in_it_and_nothing_else() -> None:
    routed = {
        (route.path.replace(":path}", "}"), method)
        for route in make_gateway().app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"  # what Starlette adds to every GET
    }
    documented = {(path, method) for path, method, _ in operations()}
    twins = {(path.removeprefix("/llm") if path.startswith("/llm/v1") else f"/llm{path}") for path, _ in documented}
    assert documented <= routed
    assert {path for path, _ in routed - documented} <= twins  # /v1/... is an alias, as its head says
    assert all(isinstance(route, Route) for route in make_gateway().app.routes)


def test_the_fields_that_are_refused_are_the_ones_that_the_router_refuses() -> None:
    properties = DOCUMENT["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    assert {name for name, schema in properties.items() if schema.get("not") == {}} == parse.STEERING
    assert {name for name, schema in properties.items() if schema.get("type") == "null"} == openai.COST_FIELDS.keys()
    assert set(DOCUMENT["components"]["schemas"]["Message"]["properties"]["role"]["enum"]) == parse._ROLES
    assert set(properties["service_tier"]["enum"]) - {None} == unpriced.SERVICE_TIERS
    unchecked = {"audio", "reasoning", "reasoning_effort"}  # acted on, but never refused
    assert parse.ACTED_ON - unchecked <= properties.keys()


def test_a_response_is_refused_what_the_document_says() -> None:
    properties = DOCUMENT["components"]["schemas"]["ResponseRequest"]["properties"]
    assert {name for name, schema in properties.items() if schema.get("not") == {}} == parse.STEERING
    assert {name for name, schema in properties.items() if schema.get("type") == "null"} == responses.REFUSED.keys()
    assert properties["max_output_tokens"]["maximum"] == Limits().max_tokens
    assert properties["tools"]["maxItems"] == Limits().tools


@pytest.mark.parametrize(("name", "api"), [("EmbeddingsRequest", EMBEDDINGS), ("ImagesRequest", IMAGES)])
def test_embeddings_and_images_refuse_what_steers_and_know_the_same_fields(name: str, api: Media) -> None:
    properties = DOCUMENT["components"]["schemas"][name]["properties"]
    assert {field for field, schema in properties.items() if schema.get("not") == {}} == parse.STEERING
    assert properties.keys() - parse.STEERING == api.acted_on


def test_what_can_be_drawn_and_embedded_is_as_much_as_it_says() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    images, texts = schemas["ImagesRequest"]["properties"], schemas["EmbeddingsRequest"]["properties"]
    assert tuple(images["size"]["enum"]) == (*drawing.SIZES, None)
    assert tuple(images["quality"]["enum"]) == (*drawing.QUALITIES, "auto", None)
    assert images["n"]["maximum"] == MOST
    assert {each.get("maxItems") for each in texts["input"]["anyOf"]} == {None, Limits().inputs}


def test_the_limits_in_it_are_the_default_ones() -> None:
    properties = DOCUMENT["components"]["schemas"]["ChatCompletionRequest"]["properties"]
    limits = Limits()
    assert properties["n"]["maximum"] == limits.n
    assert properties["messages"]["maxItems"] == limits.messages
    assert properties["tools"]["maxItems"] == limits.tools
    assert properties["max_tokens"]["maximum"] == properties["max_completion_tokens"]["maximum"] == limits.max_tokens
    request = DOCUMENT["components"]["schemas"]["ChatCompletionRequest"]["description"]
    assert f"at most {limits.depth} levels deep and {limits.body_bytes // 2**20} MiB" in request
    assert f"{limits.default_cap:,} by default" in properties["max_tokens"]["description"]


@pytest.mark.anyio
@pytest.mark.parametrize("root_path", ["", "/ai", "/a/b"])
async def test_it_is_served_with_the_place_where_the_app_is_mounted(root_path: str) -> None:
    async with (
        make_gateway() as gateway,
        get(gateway.app, f"{root_path}/openapi.json", scope={"root_path": root_path}) as call,
    ):
        served = await call.json()
    assert served.pop("servers") == [{"url": root_path or "/"}]
    assert served == {name: value for name, value in DOCUMENT.items() if name != "servers"}
