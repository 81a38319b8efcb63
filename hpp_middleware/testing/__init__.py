"""
For tests, this package's and yours: conformance suites for backends, a fake upstream with faults, and an ASGI client
that goes message by message.

Nothing here is needed to serve, and nothing needs a test runner.
"""

from hpp_middleware.testing.asgi import Call, get, post
from hpp_middleware.testing.dialects import DIALECT_PROMISES, Sample, check_dialect
from hpp_middleware.testing.script import USAGE, Script
from hpp_middleware.testing.stores import (
    AUDIT_PROMISES,
    CREDENTIAL_PROMISES,
    LEDGER_PROMISES,
    LIMIT_PROMISES,
    QUOTA_PROMISES,
    STORE_PROMISES,
    check_audit,
    check_crashes,
    check_credential_store,
    check_ledger,
    check_limits,
    check_quota_store,
    check_shared_limits,
    check_shared_store,
    check_store,
)
from hpp_middleware.testing.streaming import check_streaming
from hpp_middleware.testing.transports import TRANSPORT_PROMISES, check_transport
from hpp_middleware.testing.upstream import Exchange, FakeUpstream, TokenCount

__all__ = [
    "AUDIT_PROMISES",
    "CREDENTIAL_PROMISES",
    "DIALECT_PROMISES",
    "LEDGER_PROMISES",
    "LIMIT_PROMISES",
    "QUOTA_PROMISES",
    "STORE_PROMISES",
    "TRANSPORT_PROMISES",
    "USAGE",
    "Call",
    "Exchange",
    "FakeUpstream",
    "Sample",
    "Script",
    "TokenCount",
    "check_audit",
    "check_crashes",
    "check_credential_store",
    "check_dialect",
    "check_ledger",
    "check_limits",
    "check_quota_store",
    "check_shared_limits",
    "check_shared_store",
    "check_store",
    "check_streaming",
    "check_transport",
    "get",
    "post",
]
