"""Embeddings of providers that have words of their own for them: asked and answered in OpenAI's."""

import base64
import struct
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.embedding import inputs
from hpp_middleware.core.fields import NULL, bad
from hpp_middleware.core.relay import UNREADABLE, ProtocolError, mended
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.core.usage import reading
from hpp_middleware.core.usage_media import told_embeddings
from hpp_middleware.dialects import media
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage

__all__ = ["Embedded", "OwnEmbeddings", "unsaid"]

_SAID = frozenset({"model", "input", "dimensions", "encoding_format", "stream"})

_HARMLESS = frozenset({"user"})

_encode = msgspec.json.Encoder().encode


class Embedded(Struct):
    """
    What a provider has answered.

    Attributes:
        vectors: One a text, in their order.
        tokens: What it has counted; None where it has not.
        usage: The same as it came.
    """

    vectors: list[list[float]]
    tokens: int | None = None
    usage: Raw = NULL


class OwnEmbeddings(media.Embeddings):
    """
    The dialect of embeddings, but for what :meth:`body` and :meth:`read` say.

    Args:
        endpoint: Where a call goes.

    Attributes:
        most: Texts in one request.
    """

    most: ClassVar[int | None] = None

    def body(self, texts: list[str], size: Raw | None, target: Target) -> Any:
        """
        The request's body.

        Args:
            texts: To be embedded.
            size: The dimensions that are asked for.
            target: The model.
        """
        raise NotImplementedError

    def read(self, body: bytes) -> Embedded:
        """What an answer says; it may raise whatever reading raises."""
        raise NotImplementedError

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:  # noqa: ARG002
        """See :class:`hpp_middleware.ports.Dialect`."""
        media.refuse_unpriced(request, target)
        texts: Any = inputs(request.fields["input"])
        if request.tokens is not None:
            raise bad("input", "must be text for this provider, no tokens")
        most = self.most_texts(target)
        if most is not None and len(texts) > most:
            raise bad("input", f"must not have more than {most} entries for this model's provider")
        dropped = unsaid(request, _SAID, _HARMLESS)
        size = request.fields.get("dimensions", NULL)
        url, shared = self._endpoint(target, self.path)
        return HTTPCall(
            url=url,
            headers=[*shared, ("X-Request-Id", request_id)],
            body=_encode(self.body(texts, None if size == NULL else size, target)),
            connect_s=target.provider.timeouts.connect,
            shared=shared,
            more_tokens=self.more_tokens(request, 0),
            dropped=dropped,
        )

    def most_texts(self, target: Target) -> int | None:  # noqa: ARG002  # mostly the same for each
        """How many texts a model takes at once; None where there is no bound but ours."""
        return self.most

    def answer(
        self,
        body: bytes,
        request: Request,
        target: Target,
        *,
        charge: Charge | None = None,
        request_id: str = "",  # noqa: ARG002  # it has no id
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        packed = request.fields.get("encoding_format", NULL) == Raw(b'"base64"')
        try:
            found = self.read(body)
            data = [
                {"object": "embedding", "index": index, "embedding": _base64(each) if packed else each}
                for index, each in enumerate(found.vectors)
            ]
        except (*UNREADABLE, struct.error) as problem:
            raise ProtocolError("the body has no embeddings") from problem
        report = reading(Usage(input=found.tokens)) if found.tokens is not None else None
        shown = Raw(_encode(told_embeddings(report.usage))) if report is not None else None
        seen = Seen(
            usage=report.usage if report is not None else None,
            usage_raw=mended(found.usage) if found.usage != NULL else None,
            usage_shown=shown,
            usage_doubtful=report is not None and report.doubtful,
            finished=True,
        )
        fields: dict[str, Any] = {"object": "list", "data": data, "model": target.shown or target.id}
        if shown is not None:
            fields["usage"] = shown
        return media.told(fields, seen, charge, told_embeddings), seen


def unsaid(request: Request, said: frozenset[str], harmless: frozenset[str]) -> tuple[str, ...]:
    """
    The fields that are left out.

    Args:
        request: Whose.
        said: Those that the provider has a word for.
        harmless: Those that change nothing of an answer's worth.
    Raises:
        RequestError: 400: one cannot be said, and is not harmless.
    """
    left = [field for field, value in request.fields.items() if field not in said and value != NULL]
    for field in left:
        if field not in harmless:
            raise bad(field, "cannot be said to this provider")
    return tuple(left)


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
