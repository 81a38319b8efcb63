"""
The ports: what the path needs from the outside. Protocols; nothing to inherit or register.

The stores have a conformance suite in :mod:`hpp_middleware.testing`, by which a backend of your own can be held to
its promises.
"""

from hpp_middleware.ports.exchange import (
    API,
    Capabilities,
    Client,
    Dialect,
    Observer,
    PriceList,
    RoutingPolicy,
    StreamReader,
    Tokenizer,
    Transport,
    UpstreamResponse,
    Watchable,
)
from hpp_middleware.ports.limits import LimitStore
from hpp_middleware.ports.stores import (
    Archive,
    Audit,
    CredentialEpoch,
    CredentialExpiry,
    CredentialReassign,
    CredentialRehash,
    CredentialStore,
    HealthStore,
    Ledger,
    Moved,
    Mover,
    QuotaStore,
    Store,
)

__all__ = [
    "API",
    "Archive",
    "Audit",
    "Capabilities",
    "Client",
    "CredentialEpoch",
    "CredentialExpiry",
    "CredentialReassign",
    "CredentialRehash",
    "CredentialStore",
    "Dialect",
    "HealthStore",
    "Ledger",
    "LimitStore",
    "Moved",
    "Mover",
    "Observer",
    "PriceList",
    "QuotaStore",
    "RoutingPolicy",
    "Store",
    "StreamReader",
    "Tokenizer",
    "Transport",
    "UpstreamResponse",
    "Watchable",
]
