"""Metrics as tests look at them: scraped through the real exposition format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from protos.metrics import Exporter


class Scraper:
    """Scrapes one exporter again and again; `said` has what it said meanwhile."""

    def __init__(self, readings) -> None:
        self.said: list[str] = []
        self.registry = CollectorRegistry()
        self.registry.register(Exporter(readings.parts(), self.said.append))

    def __call__(self) -> dict[tuple[str, ...], float]:
        """Return what there is: name and the labels' values in order of their names, and the value."""
        return {
            (
                sample.name.removeprefix("onebasin_"),
                *(value for _, value in sorted(sample.labels.items())),
            ): sample.value
            for family in text_string_to_metric_families(generate_latest(self.registry).decode())
            for sample in family.samples
        }
