"""OpenAI's official SDK reads the cost where OpenRouter's clients look for it, and it is the ledger's."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from background import BackgroundUpstream
from openai.types import CompletionUsage
from rig import KEY, MODEL, USAGE_NANO
from rig import gateway as make_gateway

from hpp_middleware.testing import USAGE, Script
from sdk.served import CONSUMERS, HI, Router, sdk, served


@pytest.fixture
def client(background_upstream: BackgroundUpstream) -> Iterator[openai.OpenAI]:
    """Of a router that tells the cost in the usage."""
    gateway = make_gateway(background_upstream.url, consumers=CONSUMERS, cost_in="usage")
    with served(background_upstream, gateway) as found, sdk(found) as client:
        yield client


def cost_of(usage: CompletionUsage | None) -> Decimal:
    """What the SDK makes of the JSON number, as it prints it: exact for any amount of so few digits."""
    assert usage is not None
    assert usage.model_extra is not None
    return Decimal(repr(usage.model_extra["cost"]))


def audited(client: openai.OpenAI, request_id: str | None) -> Any:
    return client.get(f"../../api/user/audit/{request_id}", cast_to=object)


def test_a_completion_says_what_it_cost(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
    usage = raw.parse().usage
    assert cost_of(usage) == Decimal(raw.headers["x-hpp-router-cost"]) == Decimal(USAGE_NANO) / 10**9
    assert usage is not None
    assert usage.total_tokens == USAGE["total_tokens"]
    assert Decimal(repr(audited(client, raw.request_id)["cost"])) == cost_of(usage)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_says_at_its_end_what_it_cost(client: openai.OpenAI, options: dict[str, Any]) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True, **options)
    *chunks, last = list(raw.parse())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert last.choices == []
    assert cost_of(last.usage) == Decimal(USAGE_NANO) / 10**9
    assert Decimal(repr(audited(client, raw.headers["x-request-id"])["cost"])) == cost_of(last.usage)


def test_the_stream_helper_puts_the_cost_into_the_completion(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HI) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hello world"
    assert cost_of(final.usage) == Decimal(USAGE_NANO) / 10**9


@pytest.mark.parametrize("stream", [False, True])
def test_an_estimate_is_called_one_and_has_tokens_that_a_client_can_read(
    client: openai.OpenAI, background_upstream: BackgroundUpstream, *, stream: bool
) -> None:
    background_upstream.next(Script(usage=None))
    if stream:
        usage = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))[-1].usage
    else:
        usage = client.chat.completions.create(model=MODEL, messages=HI).usage
    assert usage is not None
    assert usage.model_extra is not None
    assert usage.model_extra["estimated"] is True
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert cost_of(usage) * 10**9 == usage.prompt_tokens * 1_000 + usage.completion_tokens * 2_000


def test_by_default_an_answer_says_what_the_upstream_says(
    router: Router, background_upstream: BackgroundUpstream
) -> None:
    background_upstream.next(Script(usage={**USAGE, "cost": 0.125}), Script())
    with sdk(router, KEY) as plain:
        theirs = plain.chat.completions.create(model=MODEL, messages=HI)
        none = plain.chat.completions.create(model=MODEL, messages=HI)
    assert cost_of(theirs.usage) == Decimal("0.125")
    assert none.usage is not None
    assert "cost" not in (none.usage.model_extra or {})
