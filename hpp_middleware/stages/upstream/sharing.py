"""Workers tell each other whom they leave alone, by a store of theirs, where a lifespan has opened the gateway."""

import logging
import random

import anyio

from hpp_middleware.ports import HealthStore
from hpp_middleware.stages.upstream.health import Health

__all__ = ["share"]

SHARE_S = 1.0
"""How often, give or take a quarter."""

WAIT_S = 5.0

_logger = logging.getLogger("hpp_middleware")


async def share(health: Health, store: HealthStore) -> None:
    """
    Tell other workers, and hear from them, until cancelled. A store that does not answer changes nothing.

    Args:
        health: This worker's.
        store: Where they meet.
    """
    chance = random.Random()  # no secret; our own, since the host may have seeded the one of the process
    while True:
        await anyio.sleep(SHARE_S * chance.uniform(0.75, 1.25))
        untold = health.untold()
        try:
            with anyio.fail_after(WAIT_S):
                health.hear(await store.share(untold))
        except Exception as error:  # noqa: BLE001  # whatever a store raises, it costs no request anything
            health.tell_again(untold)
            _logger.debug("upstreams' health is not shared: %s", type(error).__name__)
