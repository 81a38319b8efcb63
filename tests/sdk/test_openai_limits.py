"""OpenAI's and Anthropic's SDKs under limits: they wait as long as they are told, and not where that is in vain."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anthropic
import openai
import pytest
from background import BackgroundUpstream
from rig import KEY, MODEL
from rig import gateway as make_gateway

from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.limits import Ask, RateLimit, Standing
from sdk.served import CONSUMERS, HI, Router, error_of, sdk, served


class Patient(MemoryLimits):
    """
    Its time stands still until somebody is refused, and then goes on by as long as that client is told to wait.

    Attributes:
        waited: How long each of them has really waited before it asked again.
    """

    def __init__(self) -> None:
        self.waited: list[float] = []
        self._time = Clock()
        self._refused: float | None = None
        super().__init__(clock=self._time)

    async def take(self, ask: Ask) -> Standing:
        """As ever; but what was refused fits when it is asked again."""
        if self._refused is not None:
            self.waited.append(time.monotonic() - self._refused)
            self._refused = None
        standing = await super().take(ask)
        if not standing.admitted and ask.draws[0].amount <= ask.draws[0].room:
            self._refused = time.monotonic()
            self._time.now += 0.5
        return standing


@contextmanager
def limited(upstream: BackgroundUpstream, *limits: RateLimit, store: Patient | None = None) -> Iterator[Router]:
    found = make_gateway(upstream.url, consumers=CONSUMERS, rate_limits=limits, limit_store=store or Patient())
    with served(upstream, found) as router:
        yield router


def test_the_sdk_waits_as_long_as_it_is_told_and_is_then_answered(background_upstream: BackgroundUpstream) -> None:
    limit, store = RateLimit(requests_per_second=2, requests_burst=1), Patient()
    with limited(background_upstream, limit, store=store) as router, sdk(router, max_retries=2) as client:
        for _ in range(3):
            answer = client.chat.completions.create(model=MODEL, messages=HI)
            assert answer.choices[0].message.content == "Hello world"
        assert [seconds >= 0.49 for seconds in store.waited] == [True, True]
        assert router.requests == 5
        assert len(router.upstream.log) == 3


def test_the_sdk_does_not_try_again_what_is_larger_than_its_window(background_upstream: BackgroundUpstream) -> None:
    with (
        limited(background_upstream, RateLimit(tokens_per_minute=500)) as router,
        sdk(router, max_retries=2) as client,
        pytest.raises(openai.RateLimitError) as raised,
    ):
        client.chat.completions.create(model=MODEL, messages=HI, max_tokens=1000)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert "smaller output cap" in error_of(raised)["message"]
    assert router.requests == 1
    assert router.upstream.log == []


def test_a_stream_has_the_headers_too(background_upstream: BackgroundUpstream) -> None:
    limit = RateLimit(requests_per_minute=60, tokens_per_minute=10_000, concurrency=1)
    with limited(background_upstream, limit) as router, sdk(router) as client:
        for left in ("59", "58"):
            raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True, max_tokens=9)
            assert raw.headers["x-ratelimit-limit-requests"] == "60"
            assert raw.headers["x-ratelimit-remaining-requests"] == left
            assert raw.headers["x-ratelimit-reset-tokens"].endswith("s")
            for _ in raw.parse():
                pass


def test_anthropics_sdk_reads_its_own_headers_and_waits(background_upstream: BackgroundUpstream) -> None:
    limit, store = RateLimit(requests_per_second=2, requests_burst=1), Patient()
    with limited(background_upstream, limit, store=store) as router:
        client = anthropic.Anthropic(
            base_url=router.url.removesuffix("/llm/v1"),
            api_key=KEY,
            max_retries=2,
            http_client=anthropic.DefaultHttpxClient(trust_env=False),
        )
        with client:
            for _ in range(2):
                raw = client.messages.with_raw_response.create(
                    model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
                )
                assert raw.headers["anthropic-ratelimit-requests-limit"] == "1"
                assert raw.headers["anthropic-ratelimit-requests-remaining"] == "0"
            assert router.requests == 3
            assert [seconds >= 0.49 for seconds in store.waited] == [True]
            with pytest.raises(anthropic.RateLimitError) as raised:
                client.with_options(max_retries=0).messages.create(
                    model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
                )
            assert raised.value.response.headers["retry-after"] == "1"
