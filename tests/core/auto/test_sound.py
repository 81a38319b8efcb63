"""What a host's policy has decided is read as plain words and numbers, or refused before anything is held."""

from enum import Enum
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.auto.sound import routed, sound
from hpp_middleware.errors import GatewayError
from hpp_middleware.types.auto import Decision, Routed

GIVEN: dict[str, Any] = {"model": "fake/t1", "basket": "mine", "rule": "r"}


ANYTHING = st.none() | st.text() | st.floats() | st.integers() | st.lists(st.text() | st.floats(), max_size=2)


class Tier(str, Enum):  # noqa: UP042  # as older code has it, whose str() is its name
    LARGE = "L"


def test_what_is_sound_stays_as_it_is() -> None:
    whole = Decision(**GIVEN, version="v", tier="T1", score=0.5, reason="why", fallbacks=("fake/t2",), samples=2)
    assert sound(whole) == whole


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("tier", Tier.LARGE, "L"),
        ("score", np.float32(0.5), 0.5),
        ("score", 1, 1.0),
        ("samples", np.int64(2), 2),
        ("fallbacks", ["fake/t2"], ("fake/t2",)),
        ("features", [["a\nb", np.float64(1)]], (("a b", 1.0),)),
        ("reason", "a\ud800b", "a b"),
        ("version", "", ""),
    ],
)
def test_a_value_of_a_kind_of_its_own_is_what_it_stands_for(name: str, value: object, read: object) -> None:
    found = getattr(sound(Decision(**{**GIVEN, name: value})), name)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("model", None, r"model"),
        ("basket", "", "no header"),
        ("rule", "é", "no header"),
        ("version", None, r"version"),
        ("tier", 0, r"tier"),
        ("tier", "a\nb", "no header"),
        ("score", 10**400, "wrong kind"),
        ("score", True, r"score"),
        ("features", (("a", object()),), "wrong kind"),
        ("answer_tokens", 0, "tokens"),
    ],
)
def test_what_no_header_can_say_or_no_store_can_keep_is_refused(name: str, value: object, problem: str) -> None:
    with pytest.raises(GatewayError, match=problem) as caught:
        sound(Decision(**{**GIVEN, name: value}))
    assert (caught.value.status, caught.value.code) == (500, "smart_routing_failed")


@pytest.mark.parametrize("value", [None, "fake/t1", GIVEN])
def test_what_is_no_decision_is_refused(value: object) -> None:
    with pytest.raises(GatewayError, match="no Decision"):
        sound(value)


def test_what_a_host_adds_to_its_decisions_it_is_given_back() -> None:
    class Mine(Decision, frozen=True, kw_only=True):
        notes: object = None

    notes = object()
    found = sound(Mine(**GIVEN, notes=notes))
    assert isinstance(found, Mine)
    assert found.notes is notes


@given(
    st.fixed_dictionaries(
        {name: st.just(value) | ANYTHING for name, value in GIVEN.items()},
        optional=dict.fromkeys(("version", "tier", "score", "reason", "features", "fallbacks", "samples"), ANYTHING),
    )
)
def test_whatever_is_decided_is_refused_or_can_be_kept(values: dict[str, Any]) -> None:
    try:
        kept = routed(sound(Decision(**values)))
    except GatewayError:
        return
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Routed) == kept
