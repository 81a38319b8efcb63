"""A provider's deadlines, lowered by a request, and never raised."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.deadlines import HEADERS, asked, is_clients, lowered
from hpp_middleware.errors import RequestError
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.provider import Timeouts

SETTINGS = Timeouts(connect=5, first_byte=60, idle=30, total=600)
SECONDS = st.floats(min_value=0.001, max_value=10_000)


def given_in(name: str, value: bytes) -> dict[bytes, bytes]:
    return {b"content-type": b"application/json", HEADERS[name].lower().encode(): value}


def test_headers_that_say_nothing_of_deadlines_ask_nothing() -> None:
    assert asked({}) is None
    assert asked({b"content-type": b"application/json", b"x-request-id": b"7"}) is None


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(("value", "seconds"), [(b"30", 30.0), (b"2.5", 2.5), (b"0.001", 0.001), (b"007", 7.0)])
def test_a_header_is_a_number_of_seconds(name: str, value: bytes, seconds: float) -> None:
    assert asked(given_in(name, value)) == Deadlines(**{name: seconds})


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize(
    "value", [b"", b"0", b"0.0", b"-1", b"soon", b"1e3", b"inf", b"nan", b"1,5", b"5 s", b" 5", b".5", b"5.", b"9" * 30]
)
def test_any_other_value_is_refused_by_the_headers_name(name: str, value: bytes) -> None:
    with pytest.raises(RequestError) as refused:
        asked(given_in(name, value))
    assert (refused.value.status, refused.value.param) == (400, HEADERS[name])
    assert HEADERS[name] in str(refused.value)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_deadline_of_a_hosts_own_code_is_above_0(seconds: float) -> None:
    with pytest.raises(RequestError, match="idle"):
        Deadlines(idle=seconds)


def test_without_a_request_the_settings_stay_the_very_object() -> None:
    assert lowered(SETTINGS, None) is SETTINGS
    assert lowered(SETTINGS, Deadlines(connect=6, first_byte=61, idle=31, total=601)) is SETTINGS


@given(
    st.builds(
        Deadlines,
        connect=st.none() | SECONDS,
        first_byte=st.none() | SECONDS,
        idle=st.none() | SECONDS,
        total=st.none() | SECONDS,
    )
)
def test_each_is_the_lower_one_and_the_others_stay(deadlines: Deadlines) -> None:
    found = lowered(SETTINGS, deadlines)
    for name in HEADERS:
        seconds, setting = getattr(deadlines, name), getattr(SETTINGS, name)
        assert getattr(found, name) == (setting if seconds is None else min(seconds, setting))


@pytest.mark.parametrize(
    ("ran_out", "waited_s", "flowing"), [("total", 20.0, True), ("idle", 12.0, True), ("first_byte", 9.0, False)]
)
def test_a_deadline_is_the_clients_where_it_is_the_lowered_one_that_ran_out(
    ran_out: str,
    waited_s: float,
    flowing: bool,  # noqa: FBT001
) -> None:
    def is_its(deadlines: Deadlines | None, total: float = 600) -> bool:
        return is_clients(SETTINGS, deadlines, total=total, flowing=flowing, waited_s=waited_s)

    total = waited_s if ran_out == "total" else 600.0
    assert is_its(Deadlines(**{ran_out: waited_s}), total)
    assert is_its(Deadlines(**{ran_out: waited_s}), total + 0.01)  # the loop woke a little early
    assert not is_its(None, total)
    assert not is_its(Deadlines(connect=1), total)
    assert not is_its(Deadlines(**{ran_out: 601.0}), total)
    other = {"total": "idle", "idle": "first_byte", "first_byte": "idle"}[ran_out]
    assert not is_its(Deadlines(**{other: 1.0}), total)
