"""A fake upstream in a thread of its own, for tests that block, and for servers in threads and processes."""

from collections.abc import Iterator
from contextlib import contextmanager

from anyio.from_thread import BlockingPortal, start_blocking_portal

from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.upstream import Exchange, TokenCount

__all__ = ["BackgroundUpstream", "running_upstream"]


class BackgroundUpstream:
    """
    A running :class:`~hpp_middleware.testing.FakeUpstream`, from outside its event loop.

    Attributes:
        fake: The upstream itself.
    """

    def __init__(self, fake: FakeUpstream, portal: BlockingPortal) -> None:
        self.fake = fake
        self._portal = portal

    @property
    def url(self) -> str:
        """Its base URL."""
        return self.fake.url

    @property
    def log(self) -> list[Exchange]:
        """Its exchanges so far."""
        return self.fake.log

    @property
    def last(self) -> Exchange:
        """Its last exchange."""
        return self.fake.log[-1]

    def next(self, *scripts: Script) -> None:
        """Script the coming requests."""
        self.fake.next(*scripts)

    def wait_until_idle(self) -> None:
        """Wait until no exchange is running."""
        self._portal.call(self.fake.idle)

    def usage_total(self) -> TokenCount:
        """The tokens it has reported."""
        return self.fake.usage_total()


@contextmanager
def running_upstream() -> Iterator[BackgroundUpstream]:
    """A fake upstream, until the block ends."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(FakeUpstream()) as fake:
        yield BackgroundUpstream(fake, portal)
