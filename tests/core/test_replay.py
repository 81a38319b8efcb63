"""What an Idempotency-Key claims."""

import json
from itertools import combinations

import pytest

from hpp_middleware.core import replay
from hpp_middleware.errors import RequestError

BODY = b'{"model":"p/m","messages":[{"role":"user","content":"Hi"}]}'


def claimed(consumer: str = "alice", key: str = "k", body: bytes = BODY) -> tuple[str, str]:
    claim = replay.claim(consumer, key, body, ttl_s=60)
    assert claim.ttl_s == 60
    return claim.key, claim.fingerprint


@pytest.mark.parametrize("key", ["k", "7f1c" * 60, "a b", "~!@#$%^&*()", "x" * 255])
def test_a_key_is_printable_and_not_too_long(key: str) -> None:
    assert replay.key_from([(b"accept", b"*/*"), (b"idempotency-key", key.encode())]) == key


@pytest.mark.parametrize("key", [b"", b" ", b"x" * 256, b"a\x00b", b"a\tb", "é".encode(), b"\xff"])
def test_what_is_no_key_is_refused_by_its_name(key: bytes) -> None:
    with pytest.raises(RequestError, match="Idempotency-Key") as caught:
        replay.key_from([(b"idempotency-key", key)])
    assert (caught.value.status, caught.value.param) == (400, "Idempotency-Key")


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="once"):
        replay.key_from([(b"idempotency-key", b"k"), (b"idempotency-key", b"k")])


def test_a_request_without_a_key_has_none() -> None:
    assert replay.key_from([(b"accept", b"*/*")]) is None


def test_the_same_request_is_known_in_another_order_and_spacing() -> None:
    spaced = b' { "messages" : [ {"content":"Hi", "role" : "user"} ], "model" : "p\\/m" } '
    assert json.loads(spaced) == json.loads(BODY)
    assert claimed(body=spaced) == claimed()


def test_consumers_keys_and_bodies_are_told_apart() -> None:
    keys = [claimed(consumer, key)[0] for consumer, key in (("a", "bc"), ("ab", "c"), ("a", "b:c"), ("a:b", "c"))]
    assert len(set(keys)) == len(keys)
    bodies = [BODY, BODY.replace(b"Hi", b"hi"), BODY.replace(b"p/m", b"p/n"), BODY.replace(b"}]}", b'}],"n":2}')]
    for one, other in combinations(bodies, 2):
        assert claimed(body=one)[0] == claimed(body=other)[0]
        assert claimed(body=one)[1] != claimed(body=other)[1]
    assert claimed(key="k")[1] != claimed(key="l")[1]  # no prompt can be guessed from it


def test_every_answer_has_a_secret_of_its_own() -> None:
    parts = [(b"p" * 16, "a", "k", "h"), (b"q" * 16, "a", "k", "h"), (b"p" * 16, "b", "k", "h")]
    parts += [(b"p" * 16, "a", "l", "h"), (b"p" * 16, "a", "k", "i")]
    secrets = [replay.secret(*part) for part in parts]
    assert len(set(secrets)) == len(parts)
    assert all(len(secret) == 32 for secret in secrets)


@pytest.mark.parametrize("status", ["running", "mismatch", "finished"])
def test_a_repeat_that_cannot_be_answered_is_a_409_that_no_sdk_repeats(status: str) -> None:
    error = replay.conflict(status)
    assert (error.status, error.retryable) == (409, False)
    assert error.code.startswith("idempotency_")


@pytest.mark.parametrize("number", ["1e999", "9" * 5000])
def test_a_body_that_cannot_be_compared_is_a_400(number: str) -> None:
    with pytest.raises(RequestError, match="compared") as caught:
        claimed(body=b'{"metadata":%s}' % number.encode())
    assert caught.value.status == 400


def test_a_consumer_of_any_name_has_keys_of_its_own() -> None:
    assert claimed("\ud800")[0] != claimed("\ud801")[0]
