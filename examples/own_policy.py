"""
A routing policy of one's own: ``hpprouter/auto`` by the clock, in 20 lines.

    uvicorn own_policy:app

By day the quick model answers, by night the cheap one, whose provider then has room; a conversation that has begun
keeps its model. Filters come first: a model that cannot answer (too small a context, a key that may not use it) is not
eligible, and must not be chosen. Stickiness, prices and the headers are the router's.
"""

import os
import time
from collections.abc import Callable, Sequence

from hpp_middleware import Gateway, Provider
from hpp_middleware.types.auto import Asked, Candidate, Decision
from hpp_middleware.types.provider import Declared

URL = os.environ.get("UPSTREAM_URL", "http://127.0.0.1:9/v1")


class DayAndNight:
    """The first eligible model of the hour's list."""

    models = ("upstream/quick", "upstream/cheap")

    def __init__(self, hour: Callable[[], int] = lambda: time.localtime().tm_hour) -> None:
        self._hour = hour

    def decide(self, asked: Asked, candidates: Sequence[Candidate]) -> Decision | None:
        """By the hour, but for a conversation that goes on."""
        able = [each.model for each in candidates if each.eligible]
        if asked.before is not None and asked.before.model in able:
            return asked.before
        rule = "day" if 8 <= self._hour() < 20 else "night"
        order = self.models if rule == "day" else self.models[::-1]
        chosen = next((model for model in order if model in able), None)
        return Decision(model=chosen, basket="hours", rule=rule, version="1") if chosen else None


def make(policy: DayAndNight, url: str = URL) -> Gateway:
    """A gateway with this policy."""
    return Gateway(
        providers={"upstream": Provider(base_url=url)},
        models={
            "upstream/quick": {"input": "2", "output": "8"},
            "upstream/cheap": {"input": "0.10", "output": "0.40"},
        },
        consumers={"alice": Declared(quota=10**9, keys=("made-up-key-of-alice",))},
        prices=None,
        auto=policy,
    )


app = make(DayAndNight()).app
