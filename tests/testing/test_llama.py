"""llama.cpp's own server answers, and the fake upstream has the shape of the real one."""

import json
from typing import Any

import httpx2
import pytest
from llama import Llama

from hpp_middleware.testing import FakeUpstream

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hello world"}],
    "max_tokens": 8,
    "seed": 1,
    "ignore_eos": True,  # llama.cpp's own: random weights would end the text at any token
}
STREAM: dict[str, Any] = {**ASK, "stream": True, "stream_options": {"include_usage": True}}


async def test_the_fake_upstream_answers_in_the_shape_of_a_real_one(llama: Llama, fake_upstream: FakeUpstream) -> None:
    real, fake = await _ask(llama.url, llama.model, ASK), await _ask(fake_upstream.url, "fake-1", ASK)
    assert real["usage"]["completion_tokens"] == 8
    assert fake.keys() <= real.keys()
    assert fake["object"] == real["object"]
    assert fake["usage"].keys() <= real["usage"].keys()
    assert fake["choices"][0].keys() - real["choices"][0].keys() <= {"logprobs"}  # OpenAI has it, llama.cpp if asked
    assert {"role", "content"} <= fake["choices"][0]["message"].keys() & real["choices"][0]["message"].keys()


async def test_the_fake_upstream_streams_in_the_shape_of_a_real_one(llama: Llama, fake_upstream: FakeUpstream) -> None:
    real, fake = await _stream(llama.url, llama.model), await _stream(fake_upstream.url, "fake-1")
    for events in (real, fake):
        *chunks, usage, done = events
        assert done == "[DONE]"
        assert usage["choices"] == []
        assert usage["usage"]["total_tokens"] > 0
        assert any(chunk["choices"][0]["delta"].get("content") for chunk in chunks)
        assert [chunk["choices"][0]["finish_reason"] is None for chunk in chunks] == [True] * (len(chunks) - 1) + [
            False
        ]
    assert {event["object"] for event in real[:-1]} == {event["object"] for event in fake[:-1]}


async def _ask(url: str, model: str, body: dict[str, Any]) -> dict[str, Any]:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        response = await client.post(f"{url}/chat/completions", json={**body, "model": model})
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


async def _stream(url: str, model: str) -> list[Any]:
    async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
        response = await client.post(f"{url}/chat/completions", json={**STREAM, "model": model})
    data = [event.removeprefix("data: ") for event in response.text.strip().split("\n\n")]
    return [item if item == "[DONE]" else json.loads(item) for item in data]
