"""
The conformance suite of the transport port: what an HTTP client of your own can be held to.

Plain asserts, so that any runner can use them; each message is the promise that it checks. ::

    def make(*, connections=1000, proxy=None, ca_file=None):
        return MyTransport(...)

    await check_transport(make)

``make`` returns a fresh transport each time, and ``aclose()`` is called on it. ``connections`` is how many it has at
most. Where it takes ``ca_file``, a file of certificates to trust, it is held to what is promised of TLS, and where it
takes ``proxy``, an HTTP proxy's URL, of proxies; certificates are made by trustme (the extra ``testing``). Servers are
on loopback, and ``TRANSPORT_PROMISES`` names every promise by itself: ``await promise(make)``.
"""

from hpp_middleware.testing.transports import keeping, reaching, reading, securing
from hpp_middleware.testing.transports.bench import MakeTransport, TransportPromise, takes

__all__ = ["TRANSPORT_PROMISES", "MakeTransport", "TransportPromise", "check_transport", "promises_of"]

TRANSPORT_PROMISES = (
    *reaching.PROMISES,
    *reading.PROMISES,
    *keeping.PROMISES,
    *securing.PROMISES,
    *securing.TLS_PROMISES,
    *securing.PROXY_PROMISES,
)


def promises_of(make: MakeTransport) -> list[TransportPromise]:
    """The promises that a factory's transports can be held to, by the settings that it takes."""
    can_trust, can_proxy = takes(make, "ca_file"), takes(make, "proxy")
    return [
        promise
        for promise in TRANSPORT_PROMISES
        if (can_trust or promise not in securing.TLS_PROMISES)
        and ((can_trust and can_proxy) or promise not in securing.PROXY_PROMISES)
    ]


async def check_transport(make: MakeTransport) -> None:
    """Hold a :class:`~hpp_middleware.ports.Transport` to every promise."""
    for promise in promises_of(make):
        await promise(make)
