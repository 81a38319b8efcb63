"""
A chat completion as the body of ``generateContent``.

Sources: https://ai.google.dev/api/generate-content (the request), https://ai.google.dev/gemini-api/docs/function-calling
(``functionCallingConfig``), https://ai.google.dev/gemini-api/docs/structured-output (``responseJsonSchema``).

``maxOutputTokens`` is the bound of the hold: what a model writes and what it thinks count against it together
(https://github.com/googleapis/python-genai/issues/2062 has it measured), and each candidate has it for itself.
"""

from typing import Any

import msgspec
from msgspec import Struct

from hpp_middleware.core.bound import image_tokens_of
from hpp_middleware.dialects import chat
from hpp_middleware.dialects.chat import Chat, Function, bad
from hpp_middleware.dialects.gemini import thinking
from hpp_middleware.dialects.gemini.contents import Contents
from hpp_middleware.types.completion import Request, Target

__all__ = ["IMAGE_CAP", "PAGES", "Asked", "asked", "draws"]

SAID = (
    "frequency_penalty",
    "modalities",
    "n",
    "presence_penalty",
    "reasoning",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
)

HARMLESS = chat.HARMLESS - {"seed"} | {"cache_control"}
"""``cache_control`` marks what Anthropic is to cache; Gemini caches by itself, and asks nothing for it."""

PAGES = 1000
"""The most pages of a document (https://ai.google.dev/gemini-api/docs/document-processing)."""

_PAGE_TOKENS = 560
_PAGE_TOKENS_BEFORE_3 = 258
"""What a page costs at the default resolution (https://ai.google.dev/gemini-api/docs/media-resolution)."""

IMAGE_CAP = 2_520
"""
The tokens of the largest image that comes out (https://ai.google.dev/gemini-api/docs/pricing). It is drawn whole,
whatever the cap: no smaller one would hold enough for it.
"""

_encode = msgspec.json.Encoder().encode


class Asked(Struct, frozen=True, kw_only=True):
    """
    A request.

    Attributes:
        body: JSON.
        more_tokens: What its documents, and images that came as files, cost beyond their bytes, at most.
        least_cap: The least output cap that it can do with.
        dropped: Fields that are left out.
    """

    body: bytes
    more_tokens: int
    least_cap: int
    dropped: tuple[str, ...]


def asked(request: Request, target: Target, cap: int | None) -> Asked:
    """
    The request to send.

    Args:
        request: A chat completion.
        target: Where it goes.
        cap: The output cap where the client gave none.
    Raises:
        RequestError: 400: a field cannot be expressed; it is named.
    """
    dropped = chat.unsaid(request, SAID, harmless=HARMLESS)
    found = chat.read(request)
    contents = Contents(found.messages, target.model_name)
    body: dict[str, Any] = {"contents": contents.turns}
    if contents.system:
        body["systemInstruction"] = {"parts": contents.system}
    body |= _tools(found)
    body["generationConfig"] = _generation(request, found, target, chat.cap_of(request, cap))
    return Asked(
        body=_encode(body),
        more_tokens=_pages(contents.documents, target) + contents.pictures * image_tokens_of(target),
        least_cap=IMAGE_CAP if draws(request, target) else 0,
        dropped=dropped,
    )


def draws(request: Request, target: Target) -> bool:
    """Whether an image may come out: it was asked for, or the model has a price for images, and so does it unasked."""
    return "image" in request.output_modalities or target.price.base.output_image is not None


def _generation(request: Request, found: Chat, target: Target, cap: int | None) -> dict[str, Any]:
    said: dict[str, Any] = {
        "maxOutputTokens": cap,
        "candidateCount": request.n if request.n > 1 else None,
        "temperature": found.temperature,
        "topP": found.top_p,
        "topK": found.top_k,
        "seed": found.seed,
        "presencePenalty": found.presence_penalty,
        "frequencyPenalty": found.frequency_penalty,
        "stopSequences": found.stop or None,
        "thinkingConfig": thinking.config(found, target.model_name) or None,
        "responseModalities": _modalities(request, target),
    }
    form = found.response_format
    if form is not None:
        said["responseMimeType"] = "application/json"
        said["responseJsonSchema"] = form.schema
    return {name: value for name, value in said.items() if value is not None}


def _modalities(request: Request, target: Target) -> list[str] | None:
    """
    What is to come out, where that is not text alone.

    Raises:
        RequestError: 400: it is something else than text and images, or an image has no room.
    """
    wanted = request.output_modalities
    if wanted - {"image"}:
        raise bad("modalities", "must be of text and image here")
    if draws(request, target) and request.cap is not None and request.cap < IMAGE_CAP:
        raise bad("max_tokens", f"must be at least {IMAGE_CAP} where an image may come out")
    return ["TEXT", "IMAGE"] if wanted else None


def _tools(found: Chat) -> dict[str, Any]:
    choice = found.tool_choice
    if not found.tools:
        if isinstance(choice, Function) or choice == "required":
            raise bad("tool_choice", "names a tool, and there are no tools")
        return {}
    functions = [tool.function for tool in found.tools]
    said: dict[str, Any] = {"tools": [{"functionDeclarations": [_declared(each) for each in functions]}]}
    config: dict[str, Any] = {}
    if isinstance(choice, Function):
        if all(choice.name != each.name for each in functions):
            raise bad("tool_choice.function.name", "is the name of no tool")
        config = {"mode": "ANY", "allowedFunctionNames": [choice.name]}
    elif choice == "required":
        config = {"mode": "ANY"}
    elif choice == "none":
        config = {"mode": "NONE"}
    elif any(each.strict for each in functions):
        config = {"mode": "VALIDATED"}  # as AUTO, and arguments hold to their schema
    if config:
        said["toolConfig"] = {"functionCallingConfig": config}
    return said


def _declared(function: Function) -> dict[str, Any]:
    said: dict[str, Any] = {"name": function.name}
    if function.description:
        said["description"] = function.description
    if function.parameters:
        said["parametersJsonSchema"] = function.parameters
    return said


def _pages(documents: int, target: Target) -> int:
    """
    The most that pages cost: the bytes of a document say little of how many it has.

    An operator who knows his clients' documents sets the provider's option ``document_pages``.
    """
    if not documents:
        return 0
    a_page = _PAGE_TOKENS_BEFORE_3 if thinking.family(target.model_name) < (3, 0) else _PAGE_TOKENS
    most = documents * int(target.provider.options.get("document_pages", PAGES)) * a_page
    return min(most, target.model.context or most)
