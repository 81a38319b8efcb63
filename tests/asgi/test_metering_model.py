"""The meter around an app that runs a real model: llama.cpp in its own process, behind FastAPI."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import llama
import openai
import pytest
from servers import serve_module

KEY = "made-up-key-of-alice"


@pytest.fixture(scope="module", params=["uvicorn", "granian", "hypercorn"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("model")
    llama.write_model(folder / "tiny.gguf")
    settings = {"PYTHONPATH": str(Path(__file__).parent), "MODEL": str(folder / "tiny.gguf")}
    with serve_module(request.param, "model_app:app", folder, **settings) as url:
        yield url


def used(url: str) -> tuple[int, int]:
    """Tokens and nano-dollars so far; a read waits for the settlement of what this worker has answered."""
    with httpx2.Client(trust_env=False) as client:
        usage = client.get(f"{url}/billing/api/usage", headers={"apikey": KEY}).json()
    return usage["total_tokens"], round(usage["used"] * 10**9)


def asked(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, http_client=httpx2.Client(trust_env=False))


def test_an_answer_is_billed_by_the_models_own_count(served: str) -> None:
    tokens, nano = used(served)
    with asked(served) as client:
        answer = client.chat.completions.create(
            model="tiny-random", messages=[{"role": "user", "content": "hello world"}], max_tokens=8, temperature=0
        )
    assert answer.model == "tiny-random"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    cost = answer.usage.prompt_tokens * 1_000 + answer.usage.completion_tokens * 2_000
    assert used(served) == (tokens + answer.usage.total_tokens, nano + cost)


def test_a_stream_is_too(served: str) -> None:
    tokens, nano = used(served)
    with asked(served) as client:
        *_, last = client.chat.completions.create(
            model="tiny-random",
            messages=[{"role": "user", "content": "hello world"}],
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    assert last.usage is not None
    cost = last.usage.prompt_tokens * 1_000 + last.usage.completion_tokens * 2_000
    assert used(served) == (tokens + last.usage.total_tokens, nano + cost)


def test_without_a_key_the_model_does_not_run(served: str) -> None:
    before = used(served)
    with asked(served).with_options(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="tiny-random", messages=[{"role": "user", "content": "hello"}])
    assert used(served) == before
