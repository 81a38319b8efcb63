"""A request for images: what is asked, field by field."""

import json
from typing import Any

import pytest

from hpp_middleware.apis.images import IMAGES
from hpp_middleware.core.parse import STEERING
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Drawing, Request
from hpp_middleware.types.provider import Limits


def asked(**fields: Any) -> Request:
    return IMAGES.request(json.dumps({"prompt": "A cat", **fields}).encode(), Limits())


def test_a_prompt_is_enough() -> None:
    found = asked()
    assert (found.model, found.api, found.n, found.cap, found.stream) == ("gpt-image-1", "images", 1, None, False)
    assert found.drawing == Drawing()
    assert found.output_modalities == {"image"}


@pytest.mark.parametrize("size", ["1024x1024", "1024x1536", "1536x1024"])
@pytest.mark.parametrize("quality", ["low", "medium", "high"])
@pytest.mark.parametrize("n", [1, 4])
def test_what_is_to_be_drawn_is_known(size: str, quality: str, n: int) -> None:
    found = asked(model="openai/gpt-image-2", size=size, quality=quality, n=n)
    assert (found.model, found.n, found.drawing) == ("openai/gpt-image-2", n, Drawing(size, quality))


def test_a_quality_that_is_left_to_the_model_is_none() -> None:
    assert asked(quality="auto").drawing == asked(quality=None, size=None).drawing == Drawing()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", None),
        ("prompt", 1),
        ("prompt", ["a"]),
        ("model", "no good"),
        ("model", ""),
        ("n", 0),
        ("n", 5),
        ("n", "2"),
        ("n", 1.5),
        ("size", "512x512"),
        ("size", "auto"),
        ("size", 1024),
        ("quality", "hd"),
        ("quality", "High"),
        ("background", "blue"),
        ("output_format", "gif"),
        ("user", 1),
        ("stream", True),
        ("N", 1),
        ("Quality", "low"),
        *((name, "x") for name in sorted(STEERING)),
    ],
)
def test_a_field_that_is_wrong_is_named(field: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        asked(**{field: value})
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "invalid_request", field)
    assert field in error.message


def test_a_prompt_is_required() -> None:
    with pytest.raises(RequestError, match="prompt is required"):
        IMAGES.request(b"{}", Limits())


def test_what_is_right_or_unknown_passes_as_it_came() -> None:
    fields = {"background": "opaque", "output_format": "webp", "output_compression": 80, "moderation": "low"}
    found = asked(**fields)
    assert {name: json.loads(bytes(found.fields[name])) for name in fields} == fields


def test_it_cannot_be_said_by_chat() -> None:
    with pytest.raises(RequestError, match="serves no images") as caught:
        IMAGES.as_chat(asked(), Limits())
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported_model", "model")
