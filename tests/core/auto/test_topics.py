"""Topics are told by the words that are known, and their parts fit in few bytes."""

import math
from zlib import crc32

import msgspec
import pytest

from hpp_middleware import ConfigurationError
from hpp_middleware.core.auto.topics import TAGS, Reader, Topics, tags_packed


def tag(word: str) -> int:
    return crc32(word.encode()) & (TAGS - 1)


def topics(**words: tuple[int, int]) -> Topics:
    """Of the law and of sums: what each word says for either, from -8 to 7."""
    known = sorted(words, key=tag)
    return Topics(
        names=["law", "sums"],
        gains=[0.2, -0.1],
        bases=[0.0, 0.0],
        steps=[0.5, 1.0],
        tags=tags_packed([tag(word) for word in known]),
        words=bytes((words[word][0] + 8) | (words[word][1] + 8) << 4 for word in known),
    )


def test_known_words_speak_for_topics_and_others_for_none() -> None:
    reader = Reader(topics(court=(7, -3), integer=(-8, 7)))
    assert reader.shares([]) == reader.shares(["unheard"]) == [0.5, 0.5]
    law, sums = reader.shares(["court"])
    assert math.isclose(law / sums, math.exp(7 * 0.5 + 3 * 1.0))
    law, sums = reader.shares(["a", "integer"])
    assert math.isclose(sums / law, math.exp((7 * 1.0 + 8 * 0.5) / 2))  # the mean over all words of the text


def test_with_a_lower_power_more_words_of_a_topic_say_more() -> None:
    given = topics(court=(7, 0), jury=(7, 0))
    words = ["court", "jury", "a", "b"]
    for power, divided_by in ((1.0, 4.0), (0.5, 2.0), (0.0, 1.0)):
        law, sums = Reader(msgspec.structs.replace(given, power=power)).shares(words)
        assert math.isclose(law / sums, math.exp(14 * 0.5 / divided_by))
    old = msgspec.to_builtins(given, builtin_types=(bytes,))
    del old["power"]  # as of a file from before there was one
    assert msgspec.convert(old, Topics, builtin_types=(bytes,)).power == 1.0


def test_a_topic_adds_its_gain_as_far_as_it_is_likely() -> None:
    reader = Reader(topics(court=(7, -8)))
    assert reader.names == ["topic:law", "topic:sums"]
    assert [round(gain, 3) for gain in reader.gains(["court"])] == [0.2, -0.0]
    assert reader.gains(["unheard"]) == [0.1, -0.05]


@pytest.mark.parametrize("tags", [[], [0], [5], [254, 509, 764, 1274], [TAGS - 1], list(range(0, 3000, 7))], ids=str)
def test_tags_come_out_as_they_went_in(tags: list[int]) -> None:
    blank = Topics(
        names=["a", "b"],
        gains=[0.0, 0.0],
        bases=[0.0, 0.0],
        steps=[1.0, 1.0],
        tags=tags_packed(tags),
        words=bytes(len(tags)),
    )
    assert list(Reader(blank)._known) == tags


def test_parts_that_do_not_fit_are_refused() -> None:
    good = topics(court=(1, 1))
    for change in ({"gains": [0.1]}, {"names": ["law"]}, {"words": b""}, {"tags": b""}):
        with pytest.raises(ConfigurationError, match="another release"):
            Reader(Topics(**{**{name: getattr(good, name) for name in Topics.__struct_fields__}, **change}))
