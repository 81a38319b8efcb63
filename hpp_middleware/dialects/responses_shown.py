"""What a Response has shown of its usage and text, and what of it the client gets."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import names, relay, responses
from hpp_middleware.core.feeding import Count, size
from hpp_middleware.core.relay_cost import Charge, priced, unpriced
from hpp_middleware.core.settlement import End
from hpp_middleware.core.usage import Reading, falls, read_responses, told_responses
from hpp_middleware.types.completion import Request, Seen, Target

__all__ = ["Shown", "in_our_words", "is_null", "item_bytes"]


class _Part(Struct, gc=False):
    text: Any = None
    refusal: Any = None


class _Item(Struct, gc=False):
    type: Any = None
    content: list[_Part] | None = None
    name: Any = None
    arguments: Any = None
    input: Any = None
    action: Any = None
    operation: Any = None


_item = msgspec.json.Decoder(_Item)
_encode = msgspec.json.Encoder().encode


class Shown:
    """
    One Response's.

    Args:
        request: What the client asked.
        target: The resolved model.
        charge: What the answer is charged, where the client is told so.
        request_id: Ours, for a Response whose id is never told.
        text: Its text, counted.

    Attributes:
        finished: Whether it is whole.
        text: As given.
    """

    def __init__(self, request: Request, target: Target, charge: Charge | None, request_id: str, text: Count) -> None:
        created, response_id = names.created(request_id), f"resp_{request_id.removeprefix('req_')}"
        self._asked = responses.asked(
            request.fields, response_id=response_id, created=created, model=target.shown or target.id
        )
        self._charge = charge
        self._reading: Reading | None = None
        self._raw: Raw | None = None
        self._early = False
        self._id: str | None = None
        self.finished = False
        self.text = text

    @property
    def seen(self) -> Seen:
        """For the settlement."""
        reading = self._reading
        return Seen(
            usage=reading.usage if reading else None,
            usage_raw=self._raw,
            usage_doubtful=reading.doubtful if reading else False,
            usage_early=self._early,
            relayed_bytes=self.text.bytes,
            texts=self.text.texts,
            finished=self.finished,
            upstream_id=self._id,
        )

    def take(self, response: dict[str, Raw], *, early: bool = False) -> None:
        """
        Note the id, and the usage: the last report counts. One that cannot be read, or takes back what text has borne
        out, leaves the one before.

        Args:
            response: A Response.
            early: Whether it is still in progress: what it reports cannot be all that comes out.
        """
        if self._id is None and "id" in response:
            self._id = relay.text(response["id"])
        usage = response.get("usage")
        if usage is None or is_null(usage):
            return
        reading, before = read_responses(usage), self._reading
        if before is not None and (reading is None or (self.text.texts and falls(before, reading))):
            self._reading = Reading(before.usage, doubtful=True)
        else:
            self._reading, self._raw, self._early = reading, relay.mended(usage), early

    def response(self, response: dict[str, Raw], end: End | None = None) -> dict[str, Raw]:
        """What the client gets of a Response; with an ``end`` it is the last word, and says what it is charged."""
        found = {**self._asked, **response, "model": self._asked["model"]}
        if end is not None and self._charge is not None:
            found["usage"] = in_our_words(priced(self.seen, self._charge(end, self.seen)))
        elif not is_null(response.get("usage")):
            reading = read_responses(response["usage"])  # which may be another one than what is billed: see take
            if reading is not None:
                found["usage"] = _whole_usage(response["usage"], reading, keep_cost=self._charge is None)
        return found


def in_our_words(usage: Raw) -> Raw:
    """A ``usage`` with its cost: of this API's shape already where it is the provider's own, else made so."""
    reading = read_responses(usage)
    if reading is None:
        return responses.usage_of(usage) or relay.NULL
    return _whole_usage(usage, reading, keep_cost=True)


def _whole_usage(usage: Raw, reading: Reading, *, keep_cost: bool) -> Raw:
    """A provider's usage, with the details that it lacks."""
    found: dict[str, Any] = relay.members.decode(relay.mended(usage if keep_cost else unpriced(usage)))
    told = told_responses(reading.usage)
    for name in ("input_tokens_details", "output_tokens_details"):
        given = found.get(name)
        found[name] = (
            told[name] if given is None or given == relay.NULL else {**told[name], **relay.members.decode(given)}
        )
    return Raw(_encode(found))


def item_bytes(raw: Raw) -> int:
    """UTF-8 bytes of generated text in an output item, of whatever kind; 0 where it cannot be understood."""
    try:
        item = _item.decode(raw)
    except relay.BROKEN:
        mended = relay.mended(raw)
        return item_bytes(mended) if mended != raw else 0  # a character was cut in two
    texts = [item.name, item.arguments, item.input, item.action, item.operation]
    for part in item.content or ():
        texts += [part.text, part.refusal]
    return sum(size(text) if isinstance(text, str) else len(_encode(text)) for text in texts if text)


def is_null(raw: Raw | None) -> bool:
    """Whether a member is absent or null."""
    return raw is None or raw == relay.NULL
