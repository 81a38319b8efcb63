"""
Answers that are given again: recorded while they are relayed, encrypted, and kept by the store with the settlement.

Encryption is ``cryptography``'s AES-GCM (the ``replay`` extra), under a key made from the pepper and the client's own
Idempotency-Key: whoever has the database alone can read no answer. Where it is not installed, none is kept.
"""

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

import anyio
import msgspec

from hpp_middleware.core import replay
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import Client
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.http import Headers
from hpp_middleware.types.operations import Claim, Kept, Result
from hpp_middleware.types.price import Usage
from hpp_middleware.types.replay import Answer, Idempotency

if TYPE_CHECKING:
    from hpp_middleware.stages.setup.setup import Setup
    from hpp_middleware.stages.worker.worker import Worker

__all__ = ["KEYLESS", "Keeper", "Keyed", "Record", "check_keeping", "keyed"]

_logger = logging.getLogger("hpp_middleware")

REPLAYED = ("Idempotency-Replayed", "true")

GIVE_S = 60.0

_NONCE = bytes(12)
"""Every answer has a key of its own, which is never used twice: so it needs no nonce of its own."""

_answer = msgspec.msgpack.Decoder(Answer)


class Record:
    """
    What a client is sent, as long as that is not too much.

    Args:
        most: Bytes of body.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._pieces: list[bytes] = []
        self._status = 0
        self._headers: Headers = []

    def start(self, status: int, headers: Headers) -> None:
        """The head of the answer; of an attempt that came before, nothing is left."""
        self._status, self._headers = status, headers
        self._pieces.clear()
        self._size = 0

    def add(self, data: bytes) -> None:
        """A piece of its body."""
        self._size += len(data)
        if self._size <= self._most:
            self._pieces.append(data)
        else:
            self._pieces.clear()

    @property
    def answer(self) -> Answer | None:
        """The whole answer; None where it has not begun, or is too long."""
        if not self._status or self._size > self._most:
            return None
        return Answer(status=self._status, headers=self._headers, body=b"".join(self._pieces))


class Keeper:
    """
    One gateway's kept answers.

    Args:
        settings: See :class:`hpp_middleware.types.replay.Idempotency`.
        peppers: What the keys of the encryption are made with; the first one encrypts.
    """

    def __init__(self, settings: Idempotency, *peppers: bytes) -> None:
        self.keeps = check_keeping(settings)
        self._settings = settings
        self._peppers = peppers

    def claim(self, consumer: str, key: str, body: bytes, api: str) -> Claim:
        """What a request claims with its key."""
        return replay.claim(consumer, key, body, ttl_s=self._settings.ttl_s, api=api)

    def record(self) -> Record | None:
        """A record of an answer to be; None where none is kept."""
        return Record(self._settings.body_bytes) if self.keeps else None

    def kept(self, answer: Answer, *, consumer: str, key: str, hold: str) -> Kept:
        """A whole answer, encrypted."""
        secret = replay.secret(self._peppers[0], consumer, key, hold)
        return Kept(body=_encrypted(secret, msgspec.msgpack.encode(answer)), most=self._settings.account_bytes)

    def answer(self, kept: bytes | None, *, consumer: str, key: str, hold: str) -> Answer:
        """
        An answer that was kept.

        Raises:
            RequestError: 409: there is none, or none that can be read.
        """
        if kept is not None and self.keeps:
            for pepper in self._peppers:
                plain = _decrypted(replay.secret(pepper, consumer, key, hold), kept)
                if plain is not None:
                    return _answer.decode(plain)
        raise replay.conflict("finished")

    async def give(self, answer: Answer, client: Client, *, request_id: str) -> None:
        """Give an answer again, under the id of the request that it was made for; this time it costs nothing."""
        headers = [(name, "0" if name == "X-HPP-Router-Cost" else value) for name, value in answer.headers]
        with anyio.move_on_after(GIVE_S):  # whoever takes nothing for so long has left
            await client.start(answer.status, [*headers, REPLAYED, ("X-Request-Id", request_id)])
            await client.send(answer.body, more=False)


def check_keeping(settings: Idempotency) -> bool:
    """
    Whether answers are kept.

    Raises:
        ConfigurationError: They are to be, and ``cryptography`` is not installed.
    """
    installed = find_spec("cryptography") is not None
    if settings.keep and not installed:
        raise ConfigurationError(
            "idempotency.keep needs `pip install hpp_middleware[replay]`", param="idempotency.keep"
        )
    return installed if settings.keep is None else settings.keep


class Keyed:
    """
    One request and its key.

    Args:
        keeper: The gateway's kept answers; None for a request without a key.
        consumer: Whose key it is.
        key: The client's ``Idempotency-Key``.
        body: The JSON request, parsed before.
        api: What the client speaks.

    Attributes:
        claim: What it claims with its hold; None without a key.
        record: Where its answer is recorded; None where none is kept.

    Raises:
        RequestError: 400: it cannot be a key.
    """

    def __init__(self, keeper: Keeper | None, consumer: str, key: str, body: bytes, api: str = "chat") -> None:
        self._keeper = keeper
        self._consumer = consumer
        self._key = key
        self.claim: Claim | None = None
        self.record: Record | None = None
        if keeper is not None:
            self.claim = keeper.claim(consumer, replay.check_key(key), body, api)
            self.record = keeper.record()

    def another(self) -> Record | None:
        """A record of an answer that may not be the one which is given; None where none is kept."""
        return self._keeper.record() if self._keeper is not None else None

    def kept(self, answer: Answer | None, hold: str) -> Kept | None:
        """The whole answer, as the store is to keep it; None where there is none, or it cannot be encrypted."""
        if self._keeper is None or answer is None:
            return None
        try:
            return self._keeper.kept(answer, consumer=self._consumer, key=self._key, hold=hold)
        except Exception as error:  # noqa: BLE001  # whatever it is, the settlement must go on
            _logger.error("an answer could not be kept: %s", type(error).__name__)  # noqa: TRY400  # its text may hold it
            return None

    async def give_again(self, placed: Result, client: Client) -> Settlement:
        """
        Give the answer of the first request again; nothing is charged.

        Raises:
            RequestError: 409: it was not kept.
        """
        if self._keeper is None:
            raise replay.conflict("finished")  # a store that answers what nobody has asked
        answer = self._keeper.answer(placed.kept, consumer=self._consumer, key=self._key, hold=placed.hold)
        await self._keeper.give(answer, client, request_id=placed.hold)
        return Settlement(0, None, estimated=False, usage=Usage())


async def keyed(setup: "Setup", worker: "Worker", consumer: Consumer, key: str, body: bytes, *, api: str) -> Keyed:
    """
    One request under a key, once what was answered under it before is settled: who repeats a request as soon as it has
    its answer is given that one, and is not told that it runs still. Nobody waits for what runs under another key.

    Raises:
        RequestError: 400: it cannot be a key.
    """
    found = Keyed(setup.keeper, consumer.id, key, body, api)
    if found.claim is not None:
        await worker.pending.wait(found.claim.key, setup.limits.read_wait_s)
    return found


KEYLESS = Keyed(None, "", "", b"")
"""Any request without a key."""


def _encrypted(secret: bytes, plain: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(secret).encrypt(_NONCE, plain, None)


def _decrypted(secret: bytes, kept: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(secret).decrypt(_NONCE, kept, None)
    except InvalidTag:
        return None
