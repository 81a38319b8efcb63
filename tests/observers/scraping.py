"""A scrape, read as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Scrape"]


class Scrape:
    """
    What was scraped.

    Args:
        text: In Prometheus' text format.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [each for family in text_string_to_metric_families(text) for each in family.samples]

    def sum(self, metric: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        same = [each for each in self.samples if each.name == f"hpp_{metric}"]
        return float(sum(each.value for each in same if labels.items() <= each.labels.items()))

    def values(self, label: str) -> set[str]:
        """All values of a label."""
        return {each.labels[label] for each in self.samples if label in each.labels}
