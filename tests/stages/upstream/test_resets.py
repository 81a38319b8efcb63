"""When an upstream may be asked again, in each provider's words."""

import pytest

from hpp_middleware.stages.upstream.resets import retry_after_s

NOW = 1_700_000_000.0
"""2023-11-14T22:13:20Z."""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:20 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "no", "retry-after": "2"}, 2),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-remaining-requests": "0"}, 0.12),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, 360),
        ({"x-ratelimit-reset-tokens": "2m59.56s"}, 179.56),
        ({"x-ratelimit-reset-tokens": "1d2h3m4s"}, 93_784),
        # Both are spent: until the later. One is: until that one. None is said to be: the first.
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "9s",
                "x-ratelimit-remaining-tokens": "0",
            },
            9,
        ),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "9s",
                "x-ratelimit-remaining-tokens": "5",
            },
            1,
        ),
        ({"x-ratelimit-reset-requests": "5s", "x-ratelimit-reset-tokens": "9s"}, 5),
        ({"x-ratelimit-reset": "1700000004000", "x-ratelimit-remaining": "0"}, 4),
        ({"x-ratelimit-reset": "1700000004"}, 4),
        ({"x-ratelimit-reset": "12"}, 12),
        (
            {
                "anthropic-ratelimit-input-tokens-reset": "2023-11-14T22:13:50Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2023-11-14T23:13:50Z",
                "anthropic-ratelimit-requests-remaining": "40",
            },
            30,
        ),
        ({"anthropic-ratelimit-tokens-reset": "2023-11-14T22:13:20"}, 0),
        ({"anthropic-ratelimit-tokens-reset": "tomorrow"}, None),
        ({"x-ratelimit-reset-tokens": ""}, None),
        ({"x-ratelimit-reset-tokens": "²"}, None),
        ({"x-ratelimit-limit-tokens": "5"}, None),
    ],
)
def test_what_a_provider_says_is_read(headers: dict[str, str], seconds: float | None) -> None:
    found = retry_after_s(headers, now=NOW, limited=True)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1e-6))


def test_when_limits_are_reset_matters_only_where_one_was_run_into() -> None:
    headers = {"x-ratelimit-reset-tokens": "9s", "x-ratelimit-remaining-tokens": "0"}
    assert retry_after_s(headers, now=NOW) is None
    assert retry_after_s({**headers, "retry-after": "3"}, now=NOW) == 3
