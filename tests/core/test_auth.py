"""Keys, digests, what is shown in headers, and what a key allows."""

import hashlib
import hmac
import random
import string
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpp_middleware.core import auth
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.consumer import Consumer, Credential

KEY, KEY_ID = auth.make_key(b"\x01" * 8, b"\x02" * 20)
OWN = "an-operators-own-key-of-any-form"
PEPPER = b"a pepper of thirty-two bytes long"


def refusal(headers: list[tuple[bytes, bytes]]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        auth.secret_from(auth.shown_in(headers))
    return caught.value


def test_a_key_has_prefix_id_secret_and_checksum() -> None:
    prefix, key_id, secret, checksum = KEY.split("_")
    assert (prefix, key_id) == ("hpp", KEY_ID)
    assert (len(key_id), len(secret), len(checksum)) == (11, 27, 6)
    assert set(key_id + secret + checksum) <= set(string.ascii_letters + string.digits)
    assert auth.is_well_formed(KEY)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=20, max_size=20))
@example(b"\x00" * 8, b"\x00" * 20)
@example(b"\xff" * 8, b"\xff" * 20)
def test_every_key_is_well_formed_of_one_length_and_can_be_shown(public: bytes, secret: bytes) -> None:
    key, key_id = auth.make_key(public, secret)
    assert len(key) == len(KEY)
    assert key.startswith(f"hpp_{key_id}_")
    assert auth.secret_from([(b"apikey", key.encode())]) == key


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20))
def test_different_secrets_make_different_keys(one: bytes, other: bytes) -> None:
    same = auth.make_key(b"\x01" * 8, one) == auth.make_key(b"\x01" * 8, other)
    assert same == (one == other)


@given(st.integers(4, len(KEY) - 1), st.sampled_from(string.ascii_letters + string.digits))
def test_a_key_with_one_wrong_letter_is_refused_without_asking_a_store(position: int, letter: str) -> None:
    typo = KEY[:position] + letter + KEY[position + 1 :]
    if typo.count("_") == 3 and typo != KEY:
        assert not auth.is_well_formed(typo)
        assert refusal([(b"apikey", typo.encode())]).status == 401


@pytest.mark.parametrize(
    "key", [OWN, "hpp_without-the-other-parts", "sk-0123456789abcdef0123", "hpp_a_b_c_d_e_f_g_h_i_j"]
)
def test_a_key_of_another_form_has_no_checksum_to_fail(key: str) -> None:
    assert auth.is_well_formed(key)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"apikey", KEY.encode())],
        [(b"apikey", b"  " + KEY.encode() + b" ")],
        [(b"authorization", b"Bearer " + KEY.encode())],
        [(b"authorization", b"bEaReR   " + KEY.encode())],
        [(b"authorization", b"Bearer " + KEY.encode()), (b"apikey", KEY.encode())],
        [(b"x-api-key", KEY.encode())],
        [(b"x-api-key", KEY.encode()), (b"authorization", b"Bearer " + KEY.encode()), (b"apikey", KEY.encode())],
        [(b"cookie", b"apikey=x"), (b"apikey", KEY.encode()), (b"x-key", b"another")],
    ],
)
def test_a_key_is_taken_from_any_header_or_from_several_if_equal(headers: list[tuple[bytes, bytes]]) -> None:
    assert auth.secret_from(auth.shown_in(headers)) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="none"),
        pytest.param([(b"apikey", b"")], id="empty"),
        pytest.param([(b"apikey", b"   ")], id="blank"),
        pytest.param([(b"authorization", b"Bearer")], id="scheme-alone"),
        pytest.param([(b"authorization", b"Bearer ")], id="empty-token"),
        pytest.param([(b"authorization", KEY.encode())], id="no-scheme"),
        pytest.param([(b"authorization", b"Basic " + KEY.encode())], id="basic"),
        pytest.param([(b"authorization", b"Bearer\t" + KEY.encode())], id="tab"),
        pytest.param([(b"apikey", KEY.encode()), (b"authorization", b"Basic eA==")], id="basic-beside"),
        pytest.param([(b"apikey", KEY.encode()), (b"authorization", b"Bearer " + OWN.encode())], id="different"),
        pytest.param([(b"apikey", b""), (b"authorization", b"Bearer " + KEY.encode())], id="empty-beside"),
        pytest.param([(b"apikey", KEY.encode()), (b"apikey", OWN.encode())], id="repeated-different"),
        pytest.param([(b"apikey", KEY.encode()), (b"apikey", KEY.encode())], id="repeated-equal"),
        pytest.param([(b"authorization", b"Bearer " + KEY.encode())] * 2, id="repeated-bearer"),
        pytest.param([(b"apikey", b"x" * 19)], id="too-short"),
        pytest.param([(b"apikey", b"x" * 257)], id="too-long"),
        pytest.param([(b"apikey", b"x" * 1_000_000)], id="megabyte"),
        pytest.param([(b"apikey", "schlüssel-mit-umlauten-ü".encode())], id="non-ascii"),
        pytest.param([(b"apikey", b"\xff" * 30)], id="no-utf8"),
        pytest.param([(b"apikey", b"nul-in-the-middle\x00of-a-key")], id="nul"),
        pytest.param([(b"apikey", b"line\r\nbreak-in-the-middle-of")], id="crlf"),
    ],
)
def test_what_cannot_be_one_key_is_a_401(headers: list[tuple[bytes, bytes]]) -> None:
    error = refusal(headers)
    assert (error.status, error.code, error.message) == (401, "unauthorized", "Invalid API key")
    assert error.headers == {"WWW-Authenticate": "Bearer"}
    assert error.type == "authentication_error"


@given(
    st.lists(st.tuples(st.sampled_from([b"apikey", b"authorization", b"cookie"]), st.binary(max_size=300)), max_size=4)
)
def test_headers_of_any_bytes_give_a_key_or_a_401(headers: list[tuple[bytes, bytes]]) -> None:
    secret, status = "", 200
    try:
        secret = auth.secret_from(auth.shown_in(headers))
    except RequestError as error:
        status = error.status
    assert status == 401 or (secret.isascii() and 20 <= len(secret) <= 256)


def test_a_digest_is_hmac_sha256_under_the_pepper() -> None:
    found = auth.digest(KEY, PEPPER)
    assert found == hmac.new(PEPPER, KEY.encode(), hashlib.sha256).digest()
    assert len(found) == 32
    assert found != auth.digest(KEY, b"another pepper, as long as that")
    assert found != auth.digest(KEY[:-1], PEPPER)


CONSUMER = Consumer(id="alice")


def credential(**changes: object) -> Credential:
    settings: dict[str, object] = {"digest": auth.digest(KEY, PEPPER), "id": KEY_ID, "consumer": CONSUMER, **changes}
    return Credential(**settings)  # type: ignore[arg-type]  # a dict of one test's changes


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(None, id="unknown"),
        pytest.param(credential(revoked=50.0), id="revoked"),
        pytest.param(credential(revoked=7200.0), id="revoked-by-a-clock-that-is-ahead"),
        pytest.param(credential(revoked=0.0), id="revoked-at-the-epoch"),
        pytest.param(credential(expires=100.0), id="expires-now"),
        pytest.param(credential(expires=1.0), id="expired"),
        pytest.param(credential(digest=b"\x00" * 32), id="another-digest"),
        pytest.param(credential(digest=auth.digest(KEY, PEPPER)[:20]), id="cut-digest"),
    ],
)
def test_the_refusal_is_the_same_for_every_cause(found: Credential | None) -> None:
    with pytest.raises(RequestError) as caught:
        auth.admit(found, auth.digest(KEY, PEPPER), now=100.0)
    same = auth.unauthorized()
    assert caught.value.message == same.message
    assert caught.value.headers == same.headers
    assert (caught.value.status, caught.value.code, caught.value.param) == (401, "unauthorized", None)


@pytest.mark.parametrize("found", [credential(), credential(expires=100.5)])
def test_a_credential_names_its_consumer(found: Credential) -> None:
    assert auth.admit(found, auth.digest(KEY, PEPPER), now=100.0) is CONSUMER


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        (None, "openai/gpt-5", True),
        ((), "openai/gpt-5", False),
        (("openai/gpt-5",), "openai/gpt-5", True),
        (("openai/gpt-5",), "openai/gpt-5-mini", False),
        (("openai/*",), "openai/gpt-5", True),
        (("openai/*",), "openrouter/openai/gpt-5", False),
        (("*/gpt-5",), "openrouter/openai/gpt-5", True),
        (("OpenAI/*",), "openai/gpt-5", False),
        (("mistral/*", "openai/gpt-?"), "openai/gpt-5", True),
        (("*",), "any/thing", True),
    ],
)
def test_an_allow_list_is_globs_over_the_resolved_id(
    models: tuple[str, ...] | None, model: str, *, allowed: bool
) -> None:
    assert auth.allows(Consumer(id="alice", models=models), model) is allowed


@pytest.mark.parametrize("pepper", [b"", b"short", b"x" * 15])
def test_an_empty_or_short_pepper_is_refused(pepper: bytes) -> None:
    with pytest.raises(ConfigurationError, match="pepper"):
        auth.check_pepper(pepper)


def test_a_pepper_of_sixteen_bytes_will_do() -> None:
    assert auth.check_pepper(b"x" * 16) == b"x" * 16


OTHER_PEPPER = b"another pepper, as long as that"


@pytest.mark.parametrize(
    ("pepper", "previous", "param"),
    [
        (b"", None, "keys.pepper"),
        (b"x" * 15, OTHER_PEPPER, "keys.pepper"),
        (PEPPER.decode(), None, "keys.pepper"),
        (None, OTHER_PEPPER, "keys.pepper"),
        (PEPPER, b"", "keys.previous_pepper"),
        (PEPPER, b"x" * 15, "keys.previous_pepper"),
        (PEPPER, OTHER_PEPPER.decode(), "keys.previous_pepper"),
        (PEPPER, PEPPER, "keys.previous_pepper"),
    ],
)
def test_of_two_peppers_each_must_be_one_and_not_the_other(pepper: object, previous: object, param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        auth.check_peppers(pepper, previous)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param} must ")
    assert "pepper of thirty" not in caught.value.message


def test_a_key_may_be_kept_under_either_pepper_the_current_one_first() -> None:
    assert auth.check_peppers(PEPPER, None).digests(KEY) == (auth.digest(KEY, PEPPER),)
    both = (auth.digest(KEY, PEPPER), auth.digest(KEY, OTHER_PEPPER))
    assert auth.check_peppers(PEPPER, OTHER_PEPPER).digests(KEY) == both


def test_peppers_are_not_shown_where_they_are_printed() -> None:
    shown = repr(auth.check_peppers(PEPPER, OTHER_PEPPER))
    assert "thirty" not in shown
    assert "another" not in shown


def test_a_credential_says_which_pepper_it_is_kept_under() -> None:
    peppers = auth.check_peppers(PEPPER, OTHER_PEPPER)
    of = {pepper: credential(pepper=auth.pepper_id(pepper)) for pepper in (PEPPER, OTHER_PEPPER, b"a third pepper")}
    assert [peppers.which(each) for each in of.values()] == ["current", "previous", "unknown"]
    assert peppers.which(credential()) == "unknown"
    assert auth.check_peppers(PEPPER, None).which(of[OTHER_PEPPER]) == "unknown"


def test_the_id_of_a_pepper_is_short_and_nothing_of_it() -> None:
    found = auth.pepper_id(PEPPER)
    assert found == hmac.new(PEPPER, b"id", hashlib.sha256).hexdigest()[:8]
    assert found != auth.pepper_id(OTHER_PEPPER)


# --- keys that look alike ---


def likenesses(draw: random.Random) -> tuple[str, str]:
    """Two keys that share much, and are not the same."""
    letters = string.ascii_letters + string.digits
    key = "".join(draw.choices(letters, k=64))
    shared = draw.choice([20, 32])
    match draw.randrange(5):
        case 0:
            return key, key[:shared] + "".join(draw.choices(letters, k=64 - shared))
        case 1:
            return key, "".join(draw.choices(letters, k=64 - shared)) + key[-shared:]
        case 2:
            return key, key[: draw.randrange(20, 64)]
        case 3:
            return key, key.swapcase() if draw.random() < 0.5 else key.lower() + "a"
        case _:
            at = draw.randrange(64)
            return key, key[:at] + key[at].swapcase() + key[at + 1 :] + draw.choice(letters)


def test_ten_thousand_pairs_of_keys_that_look_alike_are_two_identities_each() -> None:
    draw = random.Random(20)
    for _ in range(10_000):
        one, other = likenesses(draw)
        assert one != other
        shown = [auth.digest(auth.secret_from([(b"apikey", key.encode())]), PEPPER) for key in (one, other)]
        assert shown[0] != shown[1]
        kept = credential(digest=shown[0])
        assert auth.admit(kept, shown[0], now=0) == CONSUMER
        with pytest.raises(RequestError):
            auth.admit(kept, shown[1], now=0)


@pytest.mark.parametrize(
    "lookalike",
    [
        pytest.param(lambda key: key.replace("a", "\u0430"), id="cyrillic"),
        pytest.param(lambda key: key.replace("o", "\u03bf"), id="greek"),
        pytest.param(lambda key: "".join(chr(ord(each) + 0xFEE0) for each in key), id="full-width"),
        pytest.param(lambda key: key + "\u200b", id="zero-width"),
        pytest.param(lambda key: key + "\u0301", id="combining"),
        pytest.param(lambda key: "\u202e" + key, id="right-to-left"),
        pytest.param(lambda key: key.replace("i", "\u0131"), id="dotless"),
        pytest.param(lambda key: key.replace("k", "\u212a"), id="kelvin"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_key_in_letters_that_look_alike_is_none(lookalike: Callable[[str], str], encoding: str) -> None:
    assert lookalike("kai-" + OWN) != "kai-" + OWN
    headers = [(b"apikey", lookalike("kai-" + OWN).encode(encoding))]
    assert refusal(headers).status == 401


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "x" * 19,
        "x" * 257,
        "a key with spaces in it",
        "schlüssel-mit-umlauten",
        "tab\tin-the-middle-of-it",
        KEY[:-1] + "!",
    ],
)
def test_an_operators_own_key_that_cannot_be_shown_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        auth.check_secret(secret, "consumers.alice.keys")
    assert caught.value.param == "consumers.alice.keys"
    assert not secret or secret not in caught.value.message


@pytest.mark.parametrize("secret", [OWN, KEY, "x" * 20, "x" * 256])
def test_an_operators_own_key_that_is_accepted_can_be_shown(secret: str) -> None:
    assert auth.check_secret(secret, "keys") == secret
    assert auth.secret_from([(b"apikey", secret.encode())]) == secret


def test_a_consumer_without_an_account_pays_from_its_own() -> None:
    assert Consumer(id="alice").account == "alice"
    assert Consumer(id="alice", account="team").account == "team"
