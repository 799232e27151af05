"""Metrics, as both sides show them to Prometheus: what there is to see, and how it is gathered.

Processes here are short-lived: a ClientApp for a message, a ServerApp for a run. What they counted would die with
them, so nothing is counted in memory. At each scrape an exporter reads what is on the disk, and counters are
added up from records that are only ever appended to; hence they go on over any restart.

Which metrics a side has, is in its own room: `coordinator.readings`, `client.readings`.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from protos import validity
from protos.errors import OnebasinError

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

GAUGE, COUNTER, SUMMARY = "gauge", "counter", "summary"
_LONGEST = 200
"""Letters of a label's value: names have 40, and a damaged file must not make a megabyte of one."""


@dataclass(frozen=True)
class Metric:
    """Something that is measured.

    Attributes:
        name: As Prometheus shows it, with its unit; a counter's ends in ``_total``.
        kind: ``gauge``, ``counter``, or ``summary``: how often, and how many seconds or bytes in all.
        help: What it says, in a sentence without its full stop.
        labels: What it is told apart by.

    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    def __call__(self, value: float, *labels: str, times: int = 0) -> Sample:
        """Return a sample of it; `times` is how often, for a summary."""
        assert len(labels) == len(self.labels)
        return Sample(self, tuple(map(_clean, labels)), float(value), times)

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query can use."""
        return (f"{self.name}_count", f"{self.name}_sum") if self.kind == SUMMARY else (self.name,)


@dataclass(frozen=True)
class Sample:
    """What a metric is just now.

    Attributes:
        metric: Which.
        labels: The values of its labels.
        value: Its value; a summary's sum.
        times: A summary's count.

    """

    metric: Metric
    labels: tuple[str, ...]
    value: float
    times: int


Part = Callable[[], Iterable[Sample]]
"""Reads one thing. What it yields before it fails counts."""

UP = Metric("onebasin_up", GAUGE, "Whether all that the exporter reads could be read")
PART_UP = Metric(
    "onebasin_part_up", GAUGE, "Whether a part of it could be read; the exporter's log says why not", ("part",)
)
BUILD = Metric("onebasin_build_info", GAUGE, "Always 1; says which version of onebasin exports", ("version",))
CERTIFICATE = Metric(
    "onebasin_certificate_expiry_timestamp_seconds",
    GAUGE,
    "When a certificate ends; the last one, where one authority takes over from another",
    ("certificate",),
)
DISK_FREE = Metric("onebasin_disk_free_bytes", GAUGE, "Room on the disk that the folder is on")
DISK_SIZE = Metric("onebasin_disk_size_bytes", GAUGE, "Size of the disk that the folder is on")
HEALTHY = Metric("onebasin_healthy", GAUGE, "Whether a check of the health command is well", ("check",))
COMMON = (UP, PART_UP, BUILD, HEALTHY, CERTIFICATE, DISK_FREE, DISK_SIZE)
"""What both sides have."""


class Exporter(Collector):
    """Gathers a side's metrics, at each scrape anew.

    A part that can't be read is named by a metric and said once; the others are there all the same.

    Args:
        parts: What is read, by a name for each.
        say: Called with a sentence when a part can't be read, and when it can again.

    """

    def __init__(self, parts: Mapping[str, Part], say: Callable[[str], None]) -> None:
        self._parts = parts
        self._say = say
        self._problems: dict[str, str] = {}
        self._alone = threading.Lock()

    def collect(self) -> Iterable[Family]:
        """Return the metrics. Never raises."""
        with self._alone:  # parts remember how far they have read
            found = list(self._gathered())
        families: dict[Metric, dict[tuple[str, ...], Sample]] = {}
        for sample in found:  # a series that is there twice would have Prometheus refuse all of them
            families.setdefault(sample.metric, {})[sample.labels] = sample
        return [_family(metric, samples.values()) for metric, samples in families.items()]

    def _gathered(self) -> Iterator[Sample]:
        well = True
        yield BUILD(1, version("onebasin"))
        for part, read in self._parts.items():
            problem = ""
            try:
                yield from read()
            except OnebasinError as error:
                problem = error.what
            except Exception as error:  # whatever it is, it is no reason not to show the rest
                problem = f"{type(error).__name__}: {error}"
            self._tell(part, problem)
            well = well and not problem
            yield PART_UP(not problem, part)
        yield UP(well)

    def _tell(self, part: str, problem: str) -> None:
        if problem != self._problems.get(part, ""):
            self._say(f"can't read {part}: {problem}" if problem else f"{part} can be read again")
        self._problems[part] = problem


def disk(folder: Path) -> Iterator[Sample]:
    """Look at the disk that a folder is on."""
    found = shutil.disk_usage(folder)
    yield DISK_FREE(found.free)
    yield DISK_SIZE(found.total)


def certificate(path: Path, name: str) -> Sample:
    """Look when the certificates in a file end; raises as `validity.certificates`."""
    ends = [one.not_valid_after_utc.timestamp() for one in validity.certificates(path)]
    return CERTIFICATE(max(ends), name)


def one_of(metric: Metric, values: Iterable[str], found: str, *labels: str) -> Iterator[Sample]:
    """Yield a sample for each value of a metric's last label, which is 1 for the one that was found."""
    for value in values:
        yield metric(value == found, *labels, value)


def number(value: object) -> float | None:
    """Return a number that a file holds; None if it holds anything else there."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    help_ = f"{metric.help}."
    if metric.kind == SUMMARY:
        summary = SummaryMetricFamily(metric.name, help_, labels=metric.labels)
        for sample in samples:
            summary.add_metric(sample.labels, sample.times, sample.value)
        return summary
    family = (CounterMetricFamily if metric.kind == COUNTER else GaugeMetricFamily)(
        metric.name, help_, labels=metric.labels
    )
    for sample in samples:
        family.add_metric(sample.labels, sample.value)
    return family


def _clean(label: str) -> str:
    """Return a label's value as UTF-8 can say it; the exposition format escapes what it must itself."""
    return label[:_LONGEST].encode(errors="replace").decode()
