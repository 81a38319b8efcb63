"""Whose fault an end was: the upstream's, nobody's, or not to be known."""

from typing import Any

import pytest

from hpp_middleware.core.settlement import End
from hpp_middleware.core.verdict import verdict
from hpp_middleware.errors import GatewayError, StoreError, UpstreamError, UpstreamUnavailableError
from hpp_middleware.types.provider import Timeouts

OWN = Timeouts(connect=5, first_byte=60, idle=30, total=600)
HURRIED = Timeouts(connect=1, first_byte=2, idle=3, total=4)


def said(end: End | None, error: GatewayError | None = None, **given: Any) -> bool | None:
    settings = {"own": OWN, "kept": OWN, "flowing": False, "duration_s": 1.0, **given}
    return verdict(end, error, **settings)


def fault(status: int = 502, *, retryable: bool = True, code: str | None = None, **more: Any) -> UpstreamError:
    return UpstreamError("no", provider="fake", status=status, retryable=retryable, code=code, **more)


LATE = fault(504, code="timeout")


@pytest.mark.parametrize("end", [End.COMPLETED, End.CUT])
def test_an_answer_is_an_answer(end: End) -> None:
    assert said(end) is True


@pytest.mark.parametrize("end", [End.LEFT, End.UNAWAITED, End.UNSENT, None])
def test_a_departure_says_nothing(end: End | None) -> None:
    assert said(end) is None
    assert said(end, fault()) is None


@pytest.mark.parametrize("end", [End.REFUSED, End.BROKEN])
def test_what_passes_is_a_failure_and_what_does_not_is_the_requests(end: End) -> None:
    assert said(end, fault()) is False
    assert said(end, fault(400, retryable=False, upstream_status=400)) is True


def test_what_is_ours_says_nothing() -> None:
    assert said(End.REFUSED, fault(503, code="upstream_unavailable", unsent=True)) is None
    assert said(End.UNSENT, UpstreamUnavailableError("fake", 3)) is None
    assert said(End.REFUSED, StoreError("no")) is None


def test_a_deadline_of_the_providers_is_a_failure_and_a_clients_says_nothing() -> None:
    assert said(End.DEADLINE, LATE, duration_s=60.0) is False
    assert said(End.DEADLINE, LATE, kept=HURRIED, duration_s=2.0) is None
    assert said(End.DEADLINE, LATE, kept=HURRIED, duration_s=61.0) is False
    assert said(End.REFUSED, LATE, kept=HURRIED, duration_s=1.0) is None
    assert said(End.REFUSED, fault(504, code="timeout", unsent=True), kept=HURRIED, duration_s=1.0) is None
    assert said(End.REFUSED, fault(504, code="timeout", unsent=True), duration_s=5.0) is False


def test_a_stream_that_falls_silent_is_a_failure_and_one_that_is_long_is_none() -> None:
    cut_off = fault(504, code="timeout", upstream_status=200)
    assert said(End.DEADLINE, cut_off, flowing=True, duration_s=40.0) is False
    assert said(End.DEADLINE, cut_off, flowing=True, duration_s=600.0) is None
    assert said(End.DEADLINE, cut_off, flowing=True, kept=HURRIED, duration_s=3.5) is None


def test_a_timeout_that_the_upstream_tells_of_is_its_own() -> None:
    assert said(End.REFUSED, fault(504, code="timeout", upstream_status=504), kept=HURRIED, duration_s=0.1) is False
