"""What a request is carried out with."""

from msgspec import Struct

from hpp_middleware.ports import Client, Transport
from hpp_middleware.stages.limits.admission import Admission
from hpp_middleware.stages.settle.replay import Keyed
from hpp_middleware.stages.setup.setup import Setup
from hpp_middleware.stages.worker.worker import Worker

__all__ = ["Means"]


class Means(Struct, frozen=True):
    """
    What all exchanges of a request have in common.

    Attributes:
        setup: The gateway's.
        worker: This event loop's.
        client: Where the answer goes.
        keyed: The request's own key.
        transport: What to send by, instead of the provider's own.
        admission: Takes what another model's own limits ask; None where nothing is limited.
    """

    setup: Setup
    worker: Worker
    client: Client
    keyed: Keyed
    transport: Transport | None
    admission: Admission | None
