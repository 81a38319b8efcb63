"""One exchange with a model: what was asked, and where it goes."""

from msgspec import Raw, Struct
from msgspec.structs import force_setattr

from hpp_middleware.types.preferences import Named, Preferences
from hpp_middleware.types.price import Price, Usage
from hpp_middleware.types.provider import Model, Provider

__all__ = ["Drawing", "Images", "Request", "Seen", "Target"]


class Images(Struct, frozen=True, gc=False):
    """The images of a prompt: how many, and how many bytes of the body are inline image data."""

    count: int = 0
    inline_bytes: int = 0


class Drawing(Struct, frozen=True, gc=False):
    """Images that are to be drawn: ``1024x1024`` and the like, and ``low`` to ``high``; None leaves it to the model."""

    size: str | None = None
    quality: str | None = None


class Request(Struct, frozen=True, kw_only=True):
    """
    What the client asked for, validated where the router acts on it: a chat completion, or what another API calls one.

    Attributes:
        fields: The top-level members, each value raw and each key once.
        model: The ``model`` as given.
        api: The API that ``fields`` are written in; see :mod:`hpp_middleware.apis`.
        stream: Whether SSE is asked for.
        include_usage: Whether the client asked for the usage event itself.
        n: The number of choices, or of images to be drawn.
        cap: The client's output cap, the larger where it gave both; None where it gave none. 0 where there is no output
            to be billed.
        images: See :class:`Images`.
        audio_input: Whether a content part is audio.
        unbounded: Whether a content part is of a size that its bytes do not bound: neither text, nor an image or sound
            as usual.
        output_modalities: What is asked for besides text.
        hidden_reasoning: Whether the request asks for reasoning.
        inputs: How many texts are to be embedded.
        tokens: The tokens of the prompt, where the client has given them as such.
        drawing: What is to be drawn; its model knows no other output cap.
        models: What is to be asked behind ``model``, where that does not answer: it is not among ``fields``.
        preferences: Who may answer, as the client says; None where it does not. Nor is this among ``fields``.
        plain: ``fields`` themselves, where all that they say is known to be text, images, and settings without a price:
            then nothing dearer need be looked for in them. Nobody has looked at other fields that are made of them.
    """

    fields: dict[str, Raw]
    model: str
    api: str = "chat"
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    cap: int | None = None
    images: Images = Images()
    audio_input: bool = False
    unbounded: bool = False
    output_modalities: frozenset[str] = frozenset()
    hidden_reasoning: bool = False
    inputs: int = 0
    tokens: int | None = None
    drawing: Drawing | None = None
    models: tuple[Named, ...] = ()
    preferences: Preferences | None = None
    plain: dict[str, Raw] | None = None


class Target(Struct, frozen=True, kw_only=True):
    """
    Where a request goes, and at what price.

    Attributes:
        id: The resolved ``provider/model``.
        provider_name: Its first part.
        model_name: The rest, as the upstream knows it.
        shown: What answers call it, where that is not ``id``.
        vouched: Whether the operator or the price list tells the model's ``max_output``. What a catalogue alone tells
            may be out of date: a cap of ours goes by it, but no hold for a client's cap is made smaller.
        upstream: The name of its upstream, where its provider has several.
        key: By what that is known: its provider's name, and its own after a ``#`` where there are several; made here.
    """

    id: str
    provider_name: str
    model_name: str
    provider: Provider
    model: Model
    price: Price
    shown: str | None = None
    vouched: bool = True
    upstream: str | None = None
    key: str = ""

    def __post_init__(self) -> None:
        key = self.provider_name if self.upstream is None else f"{self.provider_name}#{self.upstream}"
        force_setattr(self, "key", key)


class Seen(Struct, frozen=True, kw_only=True, gc=False):
    """
    What an upstream's answer showed, right at any moment of it.

    Attributes:
        usage: The last usage reported, normalised; None where there was none.
        usage_raw: The same as it came.
        usage_shown: The same as the client is told it, where that is not as it came: in OpenAI's shape.
        usage_doubtful: Whether it contradicts itself.
        usage_early: Whether it says what went in, and not yet what came out, so that it is no bill.
        relayed_bytes: UTF-8 bytes of generated text so far.
        texts: The pieces that the text came in; each is at least one token.
        text_after_usage: Whether text has come since that report of usage.
        images: How many images there were.
        finished: Whether every choice has its finish reason.
        upstream_id: The completion's id at the upstream.
    """

    usage: Usage | None = None
    usage_raw: Raw | None = None
    usage_shown: Raw | None = None
    usage_doubtful: bool = False
    usage_early: bool = False
    relayed_bytes: int = 0
    texts: int = 0
    text_after_usage: bool = False
    images: int = 0
    finished: bool = False
    upstream_id: str | None = None
