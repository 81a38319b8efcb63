"""
Seals over the ledger, and the checks that find what was altered.

``seal`` chains an account's lines and keeps the chain's head; ``heads`` writes the heads to a file outside the
database; ``check`` compares lines, seals, heads, sums and holds.
"""

from hpp_middleware.audit.check import Auditor, Checked
from hpp_middleware.audit.heads import Heads, Known
from hpp_middleware.audit.seal import Audited, Sealed, Sealer, Sealing

__all__ = ["Audited", "Auditor", "Checked", "Heads", "Known", "Sealed", "Sealer", "Sealing"]
