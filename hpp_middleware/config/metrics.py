"""``[metrics]``: what Prometheus may read of a router."""

from typing import TYPE_CHECKING

from pydantic import Field

from hpp_middleware.config.section import Section
from hpp_middleware.config.values import Key
from hpp_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from hpp_middleware.asgi.metrics import Metrics

__all__ = ["MetricsSection", "metrics", "metrics_problems"]


class MetricsSection(Section):
    """``[metrics]``: whether there is ``GET /metrics``, and what who reads it has to show."""

    prometheus: bool = False
    token: Key | None = Field(default=None, repr=False)


def metrics_problems(section: MetricsSection, *, secrets: bool) -> list[str]:
    """What is wrong with it, a line each: a token that is empty, or that nothing is read with, was meant to be one."""
    problems = []
    if section.token is not None and not section.prometheus:
        problems.append("metrics.token: is of no use without prometheus = true")
    if secrets and section.token == "":
        problems.append("metrics.token: must not be empty")
    return problems


def metrics(section: MetricsSection) -> "Metrics | None":
    """
    What is served at ``/metrics``; None where nothing is.

    Raises:
        ConfigurationError: prometheus-client is not installed.
    """
    if not section.prometheus:
        return None
    from hpp_middleware.asgi.metrics import Metrics
    from hpp_middleware.observers.prometheus import PrometheusObserver

    try:
        observer = PrometheusObserver()
    except ConfigurationError as error:
        raise ConfigurationError(f"metrics.prometheus: {error}", param="metrics.prometheus") from error
    return Metrics(observer, token=section.token or None)
