"""Two answers agree or contradict each other, by what they come to."""

from typing import Any

import msgspec
import pytest

from hpp_middleware.core.auto.agree import agree, can_differ, is_comparable
from hpp_middleware.core.parse import completion
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits


def asked(**fields: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return completion(msgspec.json.encode(body), Limits())


def answer(content: str | None, **message: Any) -> bytes:
    return msgspec.json.encode({"choices": [{"message": {"role": "assistant", "content": content, **message}}]})


WORKING = "First we add 3 and 4, which is 7, and then multiply by 2.\nThis takes a line or two of explanation.\n"
FROGS = "Frogs live near ponds and rivers, where they eat insects, and lay their eggs in still water each spring."
TAXES = "Income is taxed by bracket: each further dollar is charged at the rate of the bracket that it falls into."


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Paris", "Paris.", True),
        ("Paris", "It is Paris.", True),
        ("Paris", "Lyon", False),
        ("42", "42.0", True),
        ("$1,234", "1234", True),
        ("42", "43", False),
        ("B", "(B)", True),
        ("B", "C. Lyon", False),
        ("B. Paris", "B) Paris, France", True),
        (WORKING + "\\boxed{14}", "Quickly: \\boxed{14}", True),
        (WORKING + "\\boxed{14}", WORKING + "\\boxed{15}", False),
        (WORKING + "\\boxed{\\frac{1}{2}}", WORKING + "\\boxed{\\frac{1}{3}}", False),
        (WORKING + "The answer is 14.", "Answer: **14**", True),
        (WORKING + "The answer is 14.", WORKING + "The answer is 12.", False),
        (WORKING + "So she has 14 apples.", WORKING + "In all that makes 14", True),
        (WORKING + "So she has 14 apples.", WORKING + "So she has 9 apples.", False),
        (FROGS, FROGS.replace("each spring", "every year"), True),
        (FROGS, TAXES, False),
        ("yes", FROGS, False),
    ],
)
def test_texts_agree_where_they_come_to_the_same(one: str, other: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert agree(answer(one), answer(other), asked()) is expected
    assert agree(answer(other), answer(one), asked()) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ('{"a": 1, "b": ["x"]}', '{"b": ["x"], "a": 1.0}', True),
        ('{"a": 1}', '{"a": 2}', False),
        ('{"a": 1}', '{"b": 1}', False),
        ('{"a": [1]}', '{"a": [1, 2]}', False),
        ('{"a": "Paris"}', '{"a": "paris."}', True),
        ('{"a": "Paris"}', '{"a": "Lyon"}', False),
        ('{"a": true}', '{"a": null}', False),
        ("[" * 40 + "1" + "]" * 40, "[" * 40 + "2" + "]" * 40, True),  # deeper than anybody looks
    ],
)
def test_json_agrees_member_by_member(one: str, other: str, expected: bool) -> None:  # noqa: FBT001 - a table
    request = asked(response_format={"type": "json_object"})
    assert agree(answer(one), answer(other), request) is expected


def test_a_call_agrees_with_calls_alone() -> None:
    call = answer(None, tool_calls=[{"id": "1"}])
    assert agree(call, call, asked())
    assert not agree(call, answer("Paris"), asked())
    assert not is_comparable(call, asked())
    assert is_comparable(answer("Paris"), asked())


def test_who_says_the_same_each_time_is_not_asked_twice() -> None:
    assert can_differ(asked())
    assert can_differ(asked(temperature=0.7))
    assert not can_differ(asked(temperature=0))
    assert not can_differ(asked(temperature=0.0))
    assert not can_differ(asked(seed=4))
