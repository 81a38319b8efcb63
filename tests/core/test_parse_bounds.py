"""No body costs far more than its size: what has too many values is refused before it is read."""

import pytest

from hpp_middleware.core import parse
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
