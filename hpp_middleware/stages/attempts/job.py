"""What an exchange is given to do."""

from msgspec import Struct

from hpp_middleware.core import reply, settlement
from hpp_middleware.core.bound import Bound
from hpp_middleware.core.drawing import IMAGE_IN_CHAT
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.ports import Dialect, StreamReader
from hpp_middleware.types.auto import Routed
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import CostIn, Headers, HTTPCall
from hpp_middleware.types.provider import Limits, MissingUsage, Timeouts
from hpp_middleware.types.streams import KeepAlive

__all__ = ["Job"]


class Job(Struct, frozen=True, kw_only=True):
    """
    The request, where it goes, and what was held for it.

    Attributes:
        id: The request's, and the hold's.
        timeouts: The deadlines: the provider's, as the request has lowered them.
        keyed: Whether the request can be asked for again by a key of its own: its stream is then drained for a client
            that has left, whatever its provider's policy.
        attempts: Which call for the request it is, where there may be several; 0 where there is one only.
        keep_alive: What a stream says while its provider is silent; None for nothing.
        before: What an earlier call for the same request is charged: it is a part of what this one comes to.
        routed: How its model was chosen, where the router did.
        clamped: Whether the output cap was lowered to what the balance affords.
        downgraded: Whether a budget had no room for the model that was asked for.
    """

    id: str
    account: str
    request: Request
    target: Target
    call: HTTPCall
    bound: Bound
    hold: int
    cap: int
    limits: Limits
    timeouts: Timeouts
    missing_usage: MissingUsage
    cost_in: CostIn = "header"
    keyed: bool = False
    routed: Routed | None = None
    before: Settlement | None = None
    keep_alive: KeepAlive | None = None
    attempts: int = 0
    clamped: bool = False
    downgraded: bool = False

    def response_bytes(self) -> int:
        """The largest JSON answer."""
        of_media = self.request.drawing is not None or self.request.inputs
        return self.limits.media_bytes if of_media else self.limits.response_bytes

    def drains(self) -> bool:
        """Whether its stream is read on, for a client that has left."""
        return self.keyed or self.call.unsized or self.target.provider.on_disconnect == "drain"

    def headers(self, cost: int | None = None) -> Headers:
        """What every answer's head says."""
        headers = reply.completion_headers(self.target, cost, self.call.dropped, self.routed, self.attempts)
        if self.clamped:
            headers.append(("X-HPP-Router-Max-Tokens", str(self.cap)))
        if self.downgraded:
            headers.append(("X-HPP-Router-Downgraded", "budget"))
        return headers

    def reader(self, dialect: Dialect, charge: Charge | None) -> StreamReader:
        """What reads the streamed answer, which says what it is charged if ``charge`` does."""
        return dialect.stream(
            self.request,
            self.target,
            event_bytes=self.limits.event_bytes,
            cap=self.cap,
            charge=charge,
            request_id=self.id,
        )

    def charge(self, end: End, seen: Seen) -> Settlement:
        """What it is charged for an end, and for what was seen of the answer."""
        before = self.before
        if before is None:
            return settlement.settle_by(self, end, seen, self.target.price, self.hold)
        found = settlement.settle_by(self, end, seen, self.target.price, self.hold - before.amount)
        return settlement.together(before, found)

    @property
    def prompt_estimate(self) -> int:
        """Tokens of the prompt, estimated."""
        return self.bound.prompt_estimate

    @property
    def image_estimate(self) -> int:
        """Tokens of each image, estimated: of one that was to be drawn, or came in a chat."""
        cap = self.bound.cap
        drawn = self.request.drawing is not None
        return cap if drawn else min(cap, self.target.model.image_output_tokens or IMAGE_IN_CHAT)

    @property
    def hidden_reasoning(self) -> bool:
        """
        What is thought or spoken is not in the relayed text, nor is what a document is in the request's: an estimate
        from it would be far too low.
        """
        target = self.target
        if self.call.unsized:
            return True
        thinks = self.request.hidden_reasoning or target.model.reasoning or self.request.output_modalities
        return bool(thinks) or target.price.base.output_image is not None
