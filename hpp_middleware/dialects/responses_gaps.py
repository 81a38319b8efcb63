"""
What a server leaves out of a Response's events, filled in: OpenAI's SDKs rely on all of it.

llama.cpp's server numbers neither events nor outputs (its events have ``item_id`` only). A stream whose first event has
a ``sequence_number`` is whole, and is not looked at.

Source: the types of OpenAI's Python SDK, 3.3; llama.cpp's ``server-task.cpp``.
"""

from typing import Any

__all__ = ["Gaps"]

_IN_CONTENT = ("response.content_part", "response.output_text", "response.refusal", "response.reasoning_text")


class Gaps:
    """
    One stream's.

    Attributes:
        number: Of the next event.
    """

    def __init__(self) -> None:
        self.number = 0
        self._places: dict[Any, int] = {}  # of outputs, by the id of the item
        self._parts: dict[Any, int] = {}  # how many each has
        self._names: dict[Any, Any] = {}  # of the functions that are called

    def filled(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with what it lacks."""
        kind, item, item_id = str(event.get("type")), event.get("item"), _name(event.get("item_id"))
        given: dict[str, Any] = {"sequence_number": self.number}
        self.number += 1
        if isinstance(item, dict):
            item_id = _name(item.get("id"))
            if kind == "response.output_item.added":
                self._places[item_id] = len(self._places)
                self._names[item_id] = item.get("name")
            if item.get("type") == "reasoning":
                event["item"] = {"summary": [], **item}
        given |= self._place(kind, item_id)
        part = event.get("part")
        if isinstance(part, dict) and part.get("type") == "output_text":
            event["part"] = {"annotations": [], **part}
        return {**given, **event}

    def _place(self, kind: str, item_id: Any) -> dict[str, Any]:
        """Where in the output it is, and what an event of its kind says besides."""
        given: dict[str, Any] = {}
        if item_id is not None:
            given["output_index"] = self._places.get(item_id, 0)
        if kind == "response.content_part.added":
            self._parts[item_id] = self._parts.get(item_id, 0) + 1
        if kind.startswith(_IN_CONTENT):
            given["content_index"] = max(0, self._parts.get(item_id, 0) - 1)
        if kind.startswith("response.reasoning_summary"):
            given["summary_index"] = 0
        if kind.startswith("response.output_text."):
            given["logprobs"] = []
        if kind == "response.function_call_arguments.done":
            given["name"] = self._names.get(item_id) or ""
        return given


def _name(found: Any) -> str | None:
    """An item's id; what else may stand there is none."""
    return found if isinstance(found, str) else None
