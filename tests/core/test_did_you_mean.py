"""What a mistyped name may have meant."""

from hpp_middleware.core.did_you_mean import did_you_mean

KNOWN = ("base_url", "breaker", "timeouts")


def test_the_name_that_is_most_like_it_is_told() -> None:
    assert did_you_mean("base_ulr", KNOWN) == "; did you mean base_url?"
    assert did_you_mean("time_outs", iter(KNOWN)) == "; did you mean timeouts?"


def test_of_a_name_that_is_like_none_nothing_is_told() -> None:
    assert did_you_mean("zzz", KNOWN) == did_you_mean("base_ulr", ()) == ""


def test_how_like_it_must_be_is_up_to_who_asks() -> None:
    assert did_you_mean("beaker", KNOWN, alike=0.9) == "; did you mean breaker?"
    assert did_you_mean("bracket", KNOWN, alike=0.5) == "; did you mean breaker?"
    assert did_you_mean("bracket", KNOWN, alike=0.9) == ""
