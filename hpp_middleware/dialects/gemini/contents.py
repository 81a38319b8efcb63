"""
Messages as Gemini's ``contents``.

System and developer messages become the ``systemInstruction``, wherever they stand. What several tools have answered
goes back in one turn, as Gemini asks for. A thought signature, which a model of version 3 wants back with each call of
a function, comes in the call's ``extra_content`` (https://ai.google.dev/gemini-api/docs/openai) or in
``reasoning_details`` (OpenRouter's form); where a client has lost it, the word that Google documents for that stands in
its place (https://ai.google.dev/gemini-api/docs/thought-signatures#faqs).

Media: https://ai.google.dev/gemini-api/docs/file-input-methods.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.dialects.chat import Call, Message, Part, bad, data_url, parts_of, text_of
from hpp_middleware.dialects.gemini import thinking
from hpp_middleware.dialects.sound import is_bounded

__all__ = ["Contents"]

UNSIGNED = "skip_thought_signature_validator"
"""Google's word for a signature that is not to be had."""

_FORMAT = "google-gemini-v1"
"""OpenRouter's name for proofs of Google's."""

_SIGNED_SINCE = (3, 0)
_FETCHED_SINCE = (2, 5)

_IMAGES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "heic": "image/heic",
    "heif": "image/heif",
}
"""What a fetched image may be, by the end of its URL: Gemini wants to be told before it looks."""

_SOUNDS = {"wav": "audio/wav", "mp3": "audio/mp3"}
"""Formats whose length their bytes bound; of others, a few bytes may be hours of silence, billed by the second."""

_objects = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class Contents:
    """
    A conversation, read once.

    Args:
        messages: Of the request.
        model: The model's name.

    Attributes:
        system: The parts of the ``systemInstruction``.
        turns: The ``contents``.
        documents: How many documents are among them, which are billed by the page.
        pictures: How many images came as files, which nobody has counted as images yet.
    Raises:
        RequestError: 400: something in a message cannot be expressed; it is named.
    """

    def __init__(self, messages: Sequence[Message], model: str) -> None:
        self.system: list[dict[str, Any]] = []
        self.turns: list[dict[str, Any]] = []
        self.documents = self.pictures = 0
        self._version = thinking.family(model)
        self._called: dict[str, str] = {}  # names of functions, by the id of their call
        for number, message in enumerate(messages):
            where = f"messages[{number}]"
            if message.role in {"system", "developer"}:
                self.system += _text(text_of(message, where))
            elif message.role == "assistant":
                self._add("model", self._answer(message, where))
            elif message.role == "tool":
                self._add("user", [self._result(message, where)])
            else:
                parts = enumerate(parts_of(message))
                self._add("user", [said for at, part in parts for said in self._part(part, f"{where}.content[{at}]")])
        if not self.turns:
            raise bad("messages", "must have one that is no system message, and is not empty")

    def _add(self, role: str, parts: list[dict[str, Any]]) -> None:
        """Another turn, or more of the last one: whoever speaks twice has spoken once, but for what tools answer."""
        if not parts:
            return
        last = self.turns[-1] if self.turns else None
        if last is not None and last["role"] == role and _is_result(last["parts"][0]) == _is_result(parts[0]):
            last["parts"] += parts
        else:
            self.turns.append({"role": role, "parts": parts})

    def _answer(self, message: Message, where: str) -> list[dict[str, Any]]:
        """What the model has said; its thoughts are its own affair, and are not repeated."""
        told = [
            text for at, part in enumerate(parts_of(message)) for text in _text(_spoken(part, f"{where}.content[{at}]"))
        ]
        told += _text(message.refusal or "")
        told_apart = _proofs(message)
        signature = _signature(message.extra_content) or told_apart.get(None)
        if signature is not None and told:
            told[-1]["thoughtSignature"] = signature
        calls = message.tool_calls or []
        proofs = [_signature(call.extra_content) or told_apart.get(call.id) for call in calls]
        if calls and not any(proofs) and self._version >= _SIGNED_SINCE:
            proofs[0] = UNSIGNED
        for at, (call, proof) in enumerate(zip(calls, proofs, strict=True)):
            self._called[call.id] = call.function.name
            args = _arguments(call, f"{where}.tool_calls[{at}].function.arguments")
            said: dict[str, Any] = {"functionCall": {"id": call.id, "name": call.function.name, "args": args}}
            told.append(said if proof is None else {**said, "thoughtSignature": proof})
        return told

    def _result(self, message: Message, where: str) -> dict[str, Any]:
        call = message.tool_call_id
        if call is None or call not in self._called:
            raise bad(f"{where}.tool_call_id", "must be the id of a tool call of an earlier message")
        text = text_of(message, where)
        found = _object(text)
        response = {"output": text} if found is None else found
        return {"functionResponse": {"id": call, "name": self._called[call], "response": response}}

    def _part(self, part: Part, where: str) -> list[dict[str, Any]]:
        if part.type == "text" and part.text is not None:
            return _text(part.text)
        if part.type == "image_url":
            return [self._image(part, f"{where}.image_url")]
        if part.type == "input_audio":
            return [_audio(part, f"{where}.input_audio")]
        if part.type == "file":
            return [self._file(part, f"{where}.file")]
        raise bad(
            f"{where}.type", "cannot be expressed to this provider: it must be text, image_url, input_audio or file"
        )

    def _image(self, part: Part, where: str) -> dict[str, Any]:
        found = part.image_url
        url = found.get("url") if isinstance(found, dict) else found
        if not isinstance(url, str):
            raise bad(f"{where}.url", "is required")
        inline = data_url(url)
        if inline is not None:
            return self._inline(*inline, f"{where}.url")
        if url[:5].lower() == "data:":
            raise bad(f"{where}.url", "must be base64: data:image/png;base64,...")
        if self._version < _FETCHED_SINCE:
            raise bad(f"{where}.url", "must be a data: URL: this model's provider fetches no images for it")
        path = url.partition("#")[0].partition("?")[0]
        kind = _IMAGES.get(path.rpartition(".")[2].lower())
        if kind is None:
            raise bad(f"{where}.url", f"must be a data: URL, or end in one of .{', .'.join(_IMAGES)}")
        return {"fileData": {"mimeType": kind, "fileUri": url}}

    def _file(self, part: Part, where: str) -> dict[str, Any]:
        data = (part.file or {}).get("file_data")
        inline = data_url(data) if isinstance(data, str) else None
        if inline is None:
            raise bad(f"{where}.file_data", "must be a data: URL in base64")
        self.pictures += inline[0].startswith("image/")
        return self._inline(*inline, f"{where}.file_data")

    def _inline(self, kind: str, data: str, where: str) -> dict[str, Any]:
        is_document = kind == "application/pdf"
        if not is_document and not kind.startswith(("image/", "text/")):
            raise bad(where, "must be an image, a PDF or text")
        self.documents += is_document
        return {"inlineData": {"mimeType": kind, "data": data}}


def _is_result(part: dict[str, Any]) -> bool:
    return "functionResponse" in part


def _text(text: str) -> list[dict[str, Any]]:
    """A part of text; none for an empty one, which Gemini does not take."""
    return [{"text": text}] if text else []


def _spoken(part: Part, where: str) -> str:
    """What an assistant's part says; thoughts that another provider has told say nothing here."""
    if part.type in {"thinking", "redacted_thinking", "reasoning"}:
        return ""
    said = part.refusal if part.type == "refusal" else part.text if part.type == "text" else None
    if said is None:
        raise bad(f"{where}.type", "must be text or refusal here")
    return said


def _audio(part: Part, where: str) -> dict[str, Any]:
    sound = part.input_audio or {}
    data, kind = sound.get("data"), _SOUNDS.get(str(sound.get("format")))
    if kind is None:
        raise bad(f"{where}.format", f"must be {' or '.join(_SOUNDS)}")
    if not isinstance(data, str):
        raise bad(f"{where}.data", "must be base64")
    if not is_bounded(data, str(sound.get("format"))):
        raise bad(f"{where}.data", "must be a WAV of plain samples, or an MP3: no other one's bytes bound its length")
    return {"inlineData": {"mimeType": kind, "data": data}}


def _arguments(call: Call, where: str) -> dict[str, Raw]:
    found = _object(call.function.arguments or "{}")
    if found is None:
        raise bad(where, "must be a JSON object")
    return found


def _object(text: str) -> dict[str, Raw] | None:
    """A JSON object, its values as they are written; None for any other text."""
    try:
        found = _objects.decode(text)
        _encode(found)  # a lone surrogate shows only now
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return found


def _signature(extra: dict[str, Any] | None) -> str | None:
    google = (extra or {}).get("google")
    found = google.get("thought_signature") if isinstance(google, dict) else None
    return found if isinstance(found, str) and found else None


def _proofs(message: Message) -> dict[str | None, str]:
    """The signatures in OpenRouter's form, by the call's id, or by none where text was signed; the first counts."""
    found: dict[str | None, str] = {}
    for detail in message.reasoning_details or []:
        data, call = detail.get("data"), detail.get("id")
        form = detail.get("format", _FORMAT if call is not None else None)
        if detail.get("type") != "reasoning.encrypted" or form != _FORMAT:
            continue
        if isinstance(data, str) and (call is None or isinstance(call, str)):
            found.setdefault(call, data)
    return found
