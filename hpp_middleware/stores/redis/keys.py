"""
The keys of a shard, and which shard an account is in.

All keys of a shard share one hash tag, so that they lie on one node of a cluster, and there is a fixed number of them:
every script is given them all, and touches no other.
"""

from enum import IntEnum
from zlib import crc32

__all__ = ["Key", "keys", "shard_of"]


class Key(IntEnum):
    """The place of each key among a script's ``KEYS``; the scripts count the same way."""

    META = 1  # hash: epoch, shards, version
    ACCOUNTS = 2  # hash: <column>:<account>
    NAMES = 3  # sorted by bytes: accounts
    HOLDS = 4  # hash: id to the packed hold
    LIVE = 5  # by deadline: live holds
    OWNED = 6  # sorted by bytes: owner and live hold
    RESOLVED = 7  # by time: holds that are over
    LEASES = 8  # by end: owners
    LINES = 9  # hash: <seq>:<account> to the line's JSON
    INDEX = 10  # hash: <class>:<hold> to <seq>:<account>
    STREAM = 11  # what the mover has not moved yet
    GRANTS = 12  # hash: id to amount
    GRANTED = 13  # sorted by bytes: account and grant
    CLAIMS = 14  # hash: key to the packed claim
    CLAIMED = 15  # by end: claims
    KEPT = 16  # hash: key to the answer
    KEEPING = 17  # hash: account to how many bytes of answers it has kept
    SEALS = 18  # hash: <seq>:<account> to the seal's JSON
    SEALED = 19  # sorted by bytes: account and seq
    CREDENTIALS = 20  # hash: digest to the credential's JSON; shard 0 only
    DIGESTS = 21  # hash: a credential's id to its digest
    RESTS = 22  # hash: an upstream and a model, as JSON, to until when it is left alone; shard 0 only


def keys(prefix: str, shard: int) -> tuple[str, ...]:
    """All keys of a shard, in the order of the places."""
    return tuple(f"{prefix}{{{prefix}:{shard}}}:{key.name.lower()}" for key in Key)


def shard_of(account: str, shards: int) -> int:
    """Where an account is: with its root, the part before the first ``/``, so that a hold may name its parents."""
    return crc32(account.partition("/")[0].encode("utf-8", "surrogatepass")) % shards
