"""
What is asked, in what a client sent: without the examples before it, the marks of a chat template, or JSON around it.

The scorer was fitted on questions as benchmarks write them. The same question is asked with three solved ones before
it, as the last of many turns, or with its options numbered: here it becomes the same text again, as far as a few
patterns can tell. What none of them knows stays as it is. No pattern goes back over more than a line, so that no text
takes long.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["HEAD", "TAIL", "text_of"]

HEAD = 4096
"""Characters that are read from the beginning of a text."""

TAIL = 1024
"""Characters that are read from the end of a text that is longer than both together."""

ENOUGH = 100
"""Characters of a question that stands for itself: of a shorter one, what was said before it says what it is about."""

LEAST = 15
"""Characters that a question has at least, if what stands around it is to be passed over."""

EXAMPLES = 4
"""Answers, from the end, after which a question is looked for."""

_FEWEST, _MOST = 3, 10
"""Options of a question."""

_Marks = list[re.Match[str]]

_QUESTION = "q|question|problem|exercise|frage|pregunta|domanda|pergunta|вопрос|问题|問題"
_ANSWER = "a|(?:your |correct )?answer|solution|output|response|antwort|respuesta|réponse|risposta|ответ|答案|回答|答え"
_COUNTED = r"[ \t]*(?:\d+[ \t]*)?"

_USER = re.compile(
    r"<\|im_start\|>user\b|<\|start_header_id\|>user<\|end_header_id\|>|<start_of_turn>user\b|<\|user\|>|\[INST\]"
    r"|^### ?(?:Instruction|User|Human):",
    re.MULTILINE,
)
_USER_ENDS = re.compile(
    r"<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|<\|assistant\|>|\[/INST\]|^### ?(?:Response|Assistant):",
    re.MULTILINE,
)
_ASKED = re.compile(
    rf"^[ \t>*#]*(?:{_QUESTION}|input|human|user){_COUNTED}[:.：][ \t*]*",  # noqa: RUF001 - as Chinese has it
    re.IGNORECASE | re.MULTILINE,
)
_ANSWERED = re.compile(
    rf"^[ \t>*#]*({_ANSWER}|assistant){_COUNTED}[:：][ \t*]*\n?[ \t]*(\S?)",  # noqa: RUF001
    re.IGNORECASE | re.MULTILINE,
)
_CONTEXT = re.compile(r"[*#> \t]*(?:context|passage|document|background|article|text)\b[^\n]{0,20}:", re.IGNORECASE)
_LABEL = re.compile(rf"[*#> \t]*(?:{_QUESTION}){_COUNTED}\**[:：\n]\**", re.IGNORECASE)  # noqa: RUF001
_TO_ANSWER = re.compile(rf"[*#> \t]*(?:{_ANSWER}|assistant)\**[:：]?[* \t]*\Z", re.IGNORECASE)  # noqa: RUF001
_TOLD_FIRST = re.compile(
    r"(?:please |kindly )?(?:answer|solve|respond|read|choose|select|pick|think|consider|here is|below is|the following"
    r"|you are|you will|work (?:out|through))\b[^\n]{0,160}[.:!][ \t]*\n",
    re.IGNORECASE,
)
_TOLD_LAST = re.compile(
    r"(?:please |now )?(?:answer|respond|reply|think|give|explain|show|return|output|put|provide|let's|choose|select"
    r"|after|which)\b"
    r"(?=.*\b(?:answers?|steps?|options?|letters?|choices?|json|reason|reasoning|number of)\b).{0,160}\Z",
    re.IGNORECASE,
)
_TAG = re.compile(r"</?(?:question|problem|prompt|input|query|options|choices|instructions?)>[ \t]*\n?", re.IGNORECASE)
_HEADED = re.compile(
    r"[ \t*#<_]*(?:the |answer |possible )?(?:options|choices|answers|possible answers)[ \t*:>_]*\Z", re.IGNORECASE
)
_CHOICE = re.compile(
    r"^[ \t>]*(?:[-*+][ \t]+)?[*_`\"]*(?:(?:option|choice)[ \t]+)?"
    r"\(?(?:([A-J])|(\d\d?))[*_`\"]*[.):][*_`]*[ \t]+(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
_INLINE = re.compile(r"(?<!\S)\(?([A-J])\)[ \t]+(?=\S)")
_BULLET = re.compile(r"^[ \t]*[-*+\u2022][ \t]+(?=\S)", re.MULTILINE)
_CHOOSES = re.compile(r"\?\s*$|\b(?:options?|choices?|choose|select|which|correct|answer)\b", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]*```(?:text|txt|plain|plaintext|markdown|md)?[ \t]*(?:\n|\Z)", re.MULTILINE)
_CODE_LINE = re.compile(
    r"[;{}][ \t]*$|==|^[ \t]*(?:\w[\w.]* ?=|[\w.]+\(|def \w|class \w+[(:]|import \w+$|from \w+ import|for \w+ in .*:$"
    r"|while .*:$|if .*:$|return\b|#include|function \w+\(|SELECT )",
    re.MULTILINE,
)
_OBJECT = re.compile(r'\{\s*"')
_LETTER = re.compile(r"\(?[A-J][.):][ \t]+")
_QUESTIONS = ("question", "prompt", "problem", "query", "instruction", "input", "text", "content")
_CHOICES = ("choices", "options", "answers")
_json = json.JSONDecoder()


def text_of(messages: object) -> str:
    """
    The text that the choice depends on: what the user asks, all of it that the caps leave.

    Args:
        messages: A list of chat messages (``role`` and ``content``, which is text, parts, or None), or a text. What is
            of another shape has no text: a gateway refuses bad requests elsewhere.
    Returns:
        What the user wrote last, and what he wrote before where that is short; all messages where the user wrote none;
        the first 4,096 characters and the last 1,024.
    """
    if isinstance(messages, str):
        return _read(messages)
    if not isinstance(messages, list | tuple):
        return ""
    said = [message for message in messages if isinstance(message, Mapping)]
    return _read(_last_turns(said)) or _read("\n".join(text for each in said for text in _texts(each.get("content"))))


def _last_turns(said: Sequence[Mapping[str, Any]]) -> str:
    """What the user wrote since the last answer; the turns before it too, the nearest first, until it is enough."""
    found: list[str] = []
    size = 0
    for message in reversed(said):
        role = message.get("role")
        if role == "user":
            texts = list(_texts(message.get("content")))
            found[:0] = texts
            size += sum(map(len, texts))
        elif role == "assistant" and size >= ENOUGH:
            break
    return "\n".join(found)


def _read(text: str) -> str:
    """The question in a text; in a long one it is looked for where it mostly stands, at the end."""
    most = HEAD + TAIL
    if len(text) > most:
        last = _cut(text[-most:])
        text = last if len(last) < most else text[:HEAD] + text[-TAIL:]
    else:
        text = _cut(text)
    text = _unfenced(_unpacked(text))
    return _chosen(_bare(text), chooses=_CHOOSES.search(text[-160:]) is not None)


def _cut(text: str) -> str:
    """The last turn of a chat template; of solved examples, or a text with a question to it, the question."""
    if "<|" in text or "INST]" in text or "### " in text or "_turn>" in text:
        text = _of_template(text)
    return _without_context(_after_examples(text)) if ":" in text or "：" in text else text  # noqa: RUF001


def _of_template(text: str) -> str:
    last = _last(_USER.finditer(text))
    if last is None:
        return text
    end = _USER_ENDS.search(text, last.end())
    told, _, asked = text[last.end() : end.start() if end else len(text)].partition("<</SYS>>")
    found = (asked or told).strip()
    return found if len(found) >= LEAST else text


def _after_examples(text: str) -> str:
    """
    What stands after the last solved example; all of the text where there is none.

    An answer is one only if there are two, or one more is asked for at the end: a text may well have a line that begins
    with "Solution:".
    """
    marks = [each for each in _ANSWERED.finditer(text) if not _is_option(text, each)]
    if len(marks) < 2:
        return text
    for mark in [each for each in marks if each[2]][: -EXAMPLES - 1 : -1]:
        rest = text[mark.end() :]
        asked = _last(_ASKED.finditer(rest))
        begin = asked.end() if asked is not None else rest.find("\n\n")
        if begin >= 0 and len(rest) - begin >= LEAST:
            return rest[begin:].strip("\n")
    return text


def _is_option(text: str, mark: re.Match[str]) -> bool:
    """Whether an ``A:`` begins the first of some options."""
    after = text.find("\n", mark.end()) if len(mark[1]) == 1 else -1
    return after >= 0 and text[after + 1 : after + 16].lstrip(" \t>*-(")[:1] in {"B", "b"}


def _without_context(text: str) -> str:
    """Of a text that is given with a question to it, the question, if that stands for itself."""
    asked = _last(_ASKED.finditer(text)) if _CONTEXT.match(text) is not None else None
    return text[asked.end() :] if asked is not None and len(text) - asked.end() >= ENOUGH else text


def _unpacked(text: str) -> str:
    """A question that is written as JSON, with its options as lines."""
    begin = _OBJECT.search(text) if "{" in text else None
    if begin is None:
        return text
    try:
        found, end = _json.raw_decode(text, begin.start())
    except (ValueError, RecursionError):
        return text
    asked = next((found[name] for name in _QUESTIONS if isinstance(found.get(name), str)), None)
    if asked is None or (end - begin.start()) * 2 < len(text):
        return text
    options: Any = next((found[name] for name in _CHOICES if isinstance(found.get(name), list | dict)), [])
    values = list(options.values() if isinstance(options, dict) else options)[:_MOST]
    lines = [f"{chr(65 + at)}. {_without_letter(str(value))}" for at, value in enumerate(values)]
    return "\n".join([asked, *lines])


def _without_letter(option: str) -> str:
    found = _LETTER.match(option)
    return option[found.end() :] if found is not None else option


def _unfenced(text: str) -> str:
    """What stands between fences that name no language, if it is no code."""
    if "```" not in text or _FENCE.search(text) is None or _CODE_LINE.search(text) is not None:
        return text
    return _FENCE.sub("", text)


def _bare(text: str) -> str:
    """A question without its label, how it is to be answered, and the word that an answer begins with."""
    found = (_TAG.sub("", text) if "</" in text else text).strip()
    for pattern in (_TO_ANSWER, _TOLD_LAST):
        begin = found.rfind("\n") + 1
        if begin and pattern.match(found, begin) is not None:
            found = found[:begin].rstrip()
    for pattern in (_TOLD_FIRST, _LABEL):
        told = pattern.match(found)
        if told is not None:
            found = found[told.end() :].lstrip()
    return found if len(found) >= LEAST else text


def _chosen(text: str, *, chooses: bool) -> str:
    """
    Options as ``A. this``, a line each, whichever way they are written; only the last ones of a text.

    Args:
        text: The question.
        chooses: Whether what stands around it says that something is to be chosen.
    """
    at = text.find("\nA. ")
    if at >= 0 and "\nB. " in text[at:]:
        return _without_head(text[:at]) + text[at:]
    found = (
        _run(list(_CHOICE.finditer(text)), text, chooses=chooses)
        or _run(list(_INLINE.finditer(text)), text, chooses=chooses)
        or _bulleted(text)
    )
    if not found:
        return text
    ends = [each.start() for each in found[1:]] + [len(text)]
    options = [text[mark.end() : end].strip() for mark, end in zip(found, ends, strict=True)]
    lines = [f"{chr(65 + at)}. {option}" for at, option in enumerate(options)]
    return "\n".join([_without_head(text[: found[0].start()].rstrip()), *lines])


def _without_head(stem: str) -> str:
    """A question without the line that says that options follow."""
    begin = stem.rfind("\n") + 1
    return stem[:begin].rstrip() if begin and _HEADED.match(stem, begin) is not None else stem


def _bulleted(text: str) -> _Marks:
    """The bullets that end a text, under a line that says that they are options."""
    marks = list(_BULLET.finditer(text))
    if not _FEWEST <= len(marks) <= _MOST:
        return []
    stem = text[: marks[0].start()].rstrip()
    return marks if _without_head(stem) != stem else []


def _run(marks: _Marks, text: str, *, chooses: bool) -> _Marks:
    """The last marks that count up from the first letter or number; none where nothing is to be chosen."""
    first = next((at for at in range(len(marks) - 1, -1, -1) if _number(marks[at]) == 0), len(marks))
    run = marks[first:]
    run = run[: next((at for at, mark in enumerate(run) if _number(mark) != at), len(run))]
    if not _FEWEST <= len(run) <= _MOST:
        return []
    if run[0].lastindex == 2:  # numbers count steps and clues too
        before, after = text[: run[0].start()].rstrip()[-200:], text[run[-1].end() :].partition("\n")[2]
        asks = chooses or before[-1:] not in {".", ":", ")"} or _CHOOSES.search(before) is not None
        return run if before and asks and len(after) <= 160 else []
    return run


def _number(mark: re.Match[str]) -> int:
    """Which option a mark is of, from 0."""
    return int(mark[2]) - 1 if mark.lastindex == 2 else ord(mark[1].upper()) - 65


def _last(found: Iterable[re.Match[str]]) -> re.Match[str] | None:
    last = None
    for last in found:  # noqa: B007
        pass
    return last


def _texts(content: object) -> Iterable[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | tuple):
        for part in content:
            if isinstance(part, Mapping) and isinstance(text := part.get("text"), str):
                yield text
