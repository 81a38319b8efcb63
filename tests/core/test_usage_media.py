"""Usage of embeddings and images into disjoint buckets: real reports, contradictions, and what is none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ImagesResponse
from openai.types.create_embedding_response import Usage as EmbeddingsUsage

from hpp_middleware.core.usage import MOST_TOKENS
from hpp_middleware.core.usage_media import read_embeddings, read_images, told_embeddings, told_images
from hpp_middleware.types.price import Usage


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


# What gpt-image-1.5 reported for one image of low quality: see hpp_middleware.core.drawing.
GPT_IMAGE_1_5 = {
    "input_tokens": 48,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 48},
    "output_tokens": 481,
    "output_tokens_details": {"image_tokens": 272, "text_tokens": 209},
    "total_tokens": 529,
}
GPT_IMAGE_1 = {
    "input_tokens": 50,
    "input_tokens_details": {"image_tokens": 40, "text_tokens": 10},
    "output_tokens": 4160,
    "total_tokens": 4210,
}


@pytest.mark.parametrize(
    ("report", "usage"),
    [
        (GPT_IMAGE_1_5, Usage(input=48, output=209, output_image=272)),
        (GPT_IMAGE_1, Usage(input=10, input_image=40, output_image=4160)),
        ({"input_tokens": 3, "output_tokens": 5}, Usage(input=3, output_image=5)),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, Usage()),
        (
            {"input_tokens": 9, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4, "image_tokens": 3}},
            Usage(input=2, cache_read=4, input_image=3, output_image=5),
        ),
    ],
)
def test_a_report_of_images_is_read(report: dict[str, Any], usage: Usage) -> None:
    found = read_images(encoded(report))
    assert found is not None
    assert (found.usage, found.doubtful) == (usage, False)


@pytest.mark.parametrize(
    "report",
    [
        {**GPT_IMAGE_1_5, "total_tokens": 530},
        {**GPT_IMAGE_1_5, "output_tokens_details": {"image_tokens": 272, "text_tokens": 500}},
        {**GPT_IMAGE_1_5, "output_tokens_details": {"image_tokens": 271, "text_tokens": 209}},
        {**GPT_IMAGE_1_5, "input_tokens_details": {"image_tokens": 49, "text_tokens": 0}},
        {**GPT_IMAGE_1_5, "input_tokens_details": {"cached_tokens": 49}},
    ],
)
def test_a_report_of_images_that_contradicts_itself_is_doubtful_and_none_is_counted_twice(
    report: dict[str, Any],
) -> None:
    found = read_images(encoded(report))
    assert found is not None
    assert found.doubtful
    assert (found.usage.prompt, found.usage.completion) == (48, 481)
    assert min(found.usage.input, found.usage.output_image) >= 0


@pytest.mark.parametrize(
    "report",
    [
        {},
        [],
        None,
        {"input_tokens": 1},
        {"input_tokens": "1", "output_tokens": 1},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": 1.5},
        {"input_tokens": 1, "output_tokens": MOST_TOKENS + 1},
        {"input_tokens": 1, "output_tokens": 1, "output_tokens_details": {"text_tokens": -1}},
    ],
)
def test_what_is_no_report_of_images_is_none(report: Any) -> None:
    assert read_images(encoded(report)) is None


@pytest.mark.parametrize(
    ("report", "usage"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input=8)),
        ({"prompt_tokens": 0, "total_tokens": 0}, Usage()),
        ({"prompt_tokens": 8}, Usage(input=8)),
        ({"total_tokens": 8}, Usage(input=8)),
        ({"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8, "request_count": 1}, Usage(input=8)),
    ],
)
def test_a_report_of_embeddings_is_read(report: dict[str, Any], usage: Usage) -> None:
    found = read_embeddings(encoded(report))
    assert found is not None
    assert (found.usage, found.doubtful) == (usage, False)


def test_a_report_of_embeddings_that_contradicts_itself_is_doubtful() -> None:
    found = read_embeddings(encoded({"prompt_tokens": 8, "total_tokens": 9}))
    assert found is not None
    assert (found.usage, found.doubtful) == (Usage(input=8), True)


@pytest.mark.parametrize("report", [{}, [], {"prompt_tokens": "8"}, {"prompt_tokens": -1}, {"prompt_tokens": 10**10}])
def test_what_is_no_report_of_embeddings_is_none(report: Any) -> None:
    assert read_embeddings(encoded(report)) is None


COUNTS = st.integers(0, 10**8)


@given(st.builds(Usage, input=COUNTS, cache_read=COUNTS, input_image=COUNTS, output=COUNTS, output_image=COUNTS))
def test_what_is_told_of_images_is_what_openais_own_type_takes_and_reads_back_the_same(usage: Usage) -> None:
    told = told_images(usage)
    body = ImagesResponse.model_validate({"created": 1, "usage": told}, strict=True)
    assert body.usage is not None
    assert body.usage.total_tokens == usage.total
    found = read_images(encoded(told))
    assert found is not None
    assert not found.doubtful
    assert (found.usage.prompt, found.usage.input_image) == (usage.prompt, usage.input_image)
    assert (found.usage.output, found.usage.output_image) == (usage.output, usage.output_image)


@given(COUNTS)
def test_what_is_told_of_embeddings_reads_back_the_same(prompt: int) -> None:
    told = told_embeddings(Usage(input=prompt))
    assert EmbeddingsUsage.model_validate(told, strict=True).total_tokens == prompt
    found = read_embeddings(encoded(told))
    assert found is not None
    assert found.usage == Usage(input=prompt)
