"""No body costs far more than its size: what has too many values is refused before it is read."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from rounds import rounds

from hpp_middleware.core import body as bodies
from hpp_middleware.core import parse
from hpp_middleware.dialects.unpriced import PACKED
from hpp_middleware.errors import RequestError
from hpp_middleware.types.provider import Limits

LIMITS = Limits(values=1_000)
HEAD = b'{"model":"a/b","messages":[{"role":"user","content":"x"}],"more":'


@pytest.mark.parametrize(
    "value",
    [b"[" + b"[]," * 1_000 + b"1]", b"[" + b"1," * 1_000 + b"1]", b"{" + b'"k":1,' * 600 + b'"k":1}'],
    ids=["arrays", "numbers", "keys"],
)
def test_too_many_values_are_refused(value: bytes) -> None:
    with pytest.raises(RequestError, match="1000 values"):
        parse.completion(HEAD + value + b"}", LIMITS)


def test_the_same_marks_in_a_text_count_as_one_value() -> None:
    text = b"[]{},:" * 5_000
    request = parse.completion(HEAD + b'"' + text + b'"}', LIMITS)
    assert bytes(request.fields["more"]) == b'"' + text + b'"'


def test_the_bound_itself_passes() -> None:
    body = HEAD + b"[" + b"1," * 900 + b"1]}"
    assert parse.completion(body, LIMITS).model == "a/b"


values: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([0, "", "[{", "]}", '"', '\\"', "\\", '\\\\"[[', "é", "a,b:c"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(['"', "{", "a", "\\"]), inner, max_size=3)
    ),
    max_leaves=30,
)


def deepest(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(deepest, inner), default=0)


def passes(body: bytes, limits: Limits) -> bool:
    try:
        bodies.members(body, limits)
    except RequestError:
        return False
    return True


@settings(max_examples=rounds(150, soak=500), deadline=None)
@given(values, st.integers(1, 6))
def test_a_body_passes_as_deep_as_it_may_be_and_no_deeper(value: Any, depth: int) -> None:
    body = json.dumps({"a": value}).encode()
    assert passes(body, Limits(depth=depth)) is (deepest({"a": value}) <= depth)


@settings(max_examples=rounds(150, soak=500), deadline=None)
@given(values, st.integers(1, 40))
def test_the_values_are_counted_alike_at_once_and_one_by_one(value: Any, most: int) -> None:
    body = json.dumps({"a": value, "deep": [[[[]]]]}).encode()
    padded = body + b" " * bodies.LARGE
    assert passes(body, Limits(depth=5, values=most)) is passes(padded, Limits(depth=5, values=most))


@pytest.mark.parametrize("filler", [b"x" * 20_000, b"[," * 10_000, b"x" * 20_000 + b"[," * 10_000])
def test_a_large_body_is_bounded_as_a_small_one(filler: bytes) -> None:
    body = b'{"a":"' + filler + b'","b":[' + b"1," * 500 + b"1]}"
    assert passes(body, Limits(values=505))
    assert not passes(body, Limits(values=504))


@pytest.mark.parametrize("apart", [1, bodies.NEAR - 1, bodies.NEAR, bodies.NEAR + 1, 20 * bodies.NEAR])
def test_the_values_of_a_large_body_are_counted_however_far_apart_they_are(apart: int) -> None:
    numbers = bodies.SMALL // apart + 2 * bodies.FEW
    body = b'{"a":[' + b",".join([b"1".ljust(apart)] * numbers) + b"]}"
    assert passes(body, Limits(values=numbers + 2))
    assert not passes(body, Limits(values=numbers + 1))


def test_brackets_that_do_not_match_are_no_json() -> None:
    for text in (b"]" + b"[" * 70, b"[" * 70 + b"}" * 70, b"[}" * 70, b'{"a":' + b"[" * 63 + b'\\"' + b"]" * 63 + b"}"):
        with pytest.raises(RequestError):
            bodies.members(text, LIMITS)


@pytest.mark.parametrize(
    ("body", "message"),
    [(b'{"a":"\xff"}', "UTF-8"), (b"[]", "a JSON object"), (b'{"a":', "valid JSON"), (b"", "valid JSON")],
)
def test_what_is_no_json_object_is_refused_by_what_it_is_not(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        bodies.members(body, LIMITS)


@pytest.mark.parametrize("hidden", [rb'"\u0061\u002fb"', rb'"a\/b"', rb'"\u0061/b"'])
def test_no_escape_hides_a_word_from_a_search(hidden: bytes) -> None:
    assert bodies.unescaped(Raw(hidden)) == b'"a/b"'


@pytest.mark.parametrize("plain", [rb'"a\nb"', b'"a/b"', rb'"\ud83d\ude00"', b"1.10", "\u00e9".encode()])
def test_what_hides_nothing_stays_as_it_is(plain: bytes) -> None:
    assert bodies.unescaped(Raw(plain)) == plain


def test_a_number_beyond_every_range_cannot_be_searched() -> None:
    with pytest.raises(RequestError, match="valid JSON"):
        bodies.unescaped(Raw(rb'["\u0061",1e999]'))


_SAID = st.sampled_from(
    [
        b'"file_data"',
        b'"url"',
        b'"image_url"',
        b'"data:application/pdf;',
        b'"data:image/png',
        b'"1h"',
        b'"cache_control"',
    ]
)
_FILLING = st.sampled_from([b"A", b" ", b":", b",", b"\\\\", b'\\"', b"\xc3\xa9"])


@settings(max_examples=rounds(100, soak=1000), deadline=None)
@given(st.lists(st.one_of(_SAID, st.tuples(_FILLING, st.integers(1, 3 * bodies.LONG)), st.sampled_from([b'"', b":"]))))
def test_a_long_string_is_cut_and_nothing_that_is_searched_for_is_lost(pieces: list[bytes | tuple[bytes, int]]) -> None:
    value = b"".join(piece if isinstance(piece, bytes) else piece[0] * piece[1] for piece in pieces)
    cut = bodies.words(Raw(value))
    assert len(cut) <= len(value)
    for word in (b'"file_data"', b'url"', b'"cache_control"', b'"1h"'):
        assert (word in cut) == (word in value)
    assert (PACKED.search(cut) is None) == (PACKED.search(value) is None)


def test_of_an_image_only_its_beginning_is_searched() -> None:
    image = b'"data:image/png;base64,' + b"A" * 100_000 + b'"'
    assert bodies.words(Raw(b'[{"url":' + image + b'},"cache_control"]')) == (
        b'[{"url":' + image[: bodies.HEAD] + b'"},"cache_control"]'
    )


def image(size: int, filler: str = "A") -> str:
    return f"data:image/png;base64,{filler * size}"


def spoken(content: Any, **fields: Any) -> bytes:
    said = {"model": "a/b", "messages": [{"role": "user", "content": content}], **fields}
    return json.dumps(said, ensure_ascii=False).encode()


def test_the_length_of_an_image_stands_in_for_its_data() -> None:
    url = image(100_000)
    body = spoken([{"type": "text", "text": 'say "it"\n'}, {"type": "image_url", "image_url": {"url": url}}], n=1)
    short = bodies.brief(body)
    said = json.loads(short, strict=False)
    kept = said["messages"][0]["content"][1]["image_url"].pop("url")
    assert len(short) < 1_000
    assert kept == f"{url[: bodies.HEAD - 1]}\x7f{len(url) - bodies.HEAD + 1}"
    whole = json.loads(body)
    del whole["messages"][0]["content"][1]["image_url"]["url"]
    assert said == whole


@pytest.mark.parametrize(
    "body",
    [
        spoken("data:image/png"),
        spoken("x" * 100_000),
        spoken(image(100_000) + "\n"),
        spoken(image(100_000), user="\x7f1"),
        HEAD + b"[1," + b" " * 100_000 + b'2],"n":1}',
        HEAD + b'"a\\"data:' + b"x" * 100_000 + b'\\"b"}',
        spoken("data:" + "x" * 57 + "\u00e9" + "x" * 100_000),
        spoken(image(100_000)).replace(b"a/b", b"\\u007f1"),
    ],
    ids=[
        "small",
        "text",
        "an escape",
        "its own words",
        "no string",
        "escaped quotes",
        "a letter at the cut",
        "its code",
    ],
)
def test_what_is_no_data_for_certain_is_left_in(body: bytes) -> None:
    assert bodies.brief(body) is body


@settings(max_examples=rounds(100, soak=1000), deadline=None)
@given(st.lists(st.sampled_from(["data:", "x" * 5_000, '"', "\\", "\n", ",", " ", "é"]), max_size=8))
def test_what_is_cut_out_is_the_inside_of_one_string(pieces: list[str]) -> None:
    texts = ["".join(pieces), image(20_000), *pieces]
    short = json.loads(bodies.brief(json.dumps(texts, ensure_ascii=False).encode()), strict=False)
    for text, found in zip(texts, short, strict=True):
        kept, left_out = re.split(r"\x7f\d+", found), re.findall(r"\x7f(\d+)", found)
        assert (text.startswith(kept[0]), text.endswith(kept[-1])) == (True, True)
        assert len(text.encode()) == len("".join(kept).encode()) + sum(map(int, left_out))
