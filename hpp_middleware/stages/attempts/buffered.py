"""A client that keeps an answer back, in memory, until somebody has judged it."""

from collections.abc import Callable

import anyio

from hpp_middleware.types.http import Headers

__all__ = ["Buffered"]


class Buffered:
    """
    See :class:`hpp_middleware.ports.Client`; its departure is told to who has several exchanges.

    Args:
        patient: Whether an answer is awaited although the client has left.
    """

    started = False
    status = 0

    def __init__(self, *, patient: bool) -> None:
        self.patient = patient
        self.headers: Headers = []
        self._pieces: list[bytes] = []

    @property
    def body(self) -> bytes:
        """What was kept back."""
        return b"".join(self._pieces)

    async def start(self, status: int, headers: Headers) -> None:
        """The head."""
        self.started, self.status, self.headers = True, status, headers

    async def send(self, data: bytes, *, more: bool) -> None:  # noqa: ARG002  # the port's signature
        """A piece."""
        self._pieces.append(data)

    def hear(self, left: Callable[[], None]) -> None:  # as above
        """Nothing is heard of it here."""

    async def gone(self) -> None:
        """Nor here."""
        await anyio.sleep_forever()
