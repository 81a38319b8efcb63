"""What a mistyped name may have meant."""

from hpp_middleware.core.meant import meant

KNOWN = ("base_url", "breaker", "timeouts")


def test_the_name_that_is_most_like_it_is_told() -> None:
    assert meant("base_ulr", KNOWN) == "; did you mean base_url?"
    assert meant("time_outs", iter(KNOWN)) == "; did you mean timeouts?"


def test_of_a_name_that_is_like_none_nothing_is_told() -> None:
    assert meant("zzz", KNOWN) == meant("base_ulr", ()) == ""


def test_how_like_it_must_be_is_up_to_who_asks() -> None:
    assert meant("beaker", KNOWN, alike=0.9) == "; did you mean breaker?"
    assert meant("bracket", KNOWN, alike=0.5) == "; did you mean breaker?"
    assert meant("bracket", KNOWN, alike=0.9) == ""
