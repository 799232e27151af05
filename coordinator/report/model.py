"""What a report holds: plain frozen values, and the two numbers that are derived from them.

Everything a report shows follows from these values, so that a reader can recompute it. All scores (IoU,
mIoU, H) are in per cent, 0 to 100, as papers print them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

from protos.errors import DataError

Kind = Literal[
    "base",
    "single",
    "one-site-buffers",
    "averaged-buffers",
    "pooled-buffers",
    "own-buffers",
    "recalibrated-buffers",
    "pooled-recalibrated-buffers",
    "routed-buffers",
]
"""What a row's model is. Where parameters are merged, they are always the uniform mid-point:

- ``base``: the base, before any adapting
- ``single``: one site's own adapted model
- ``one-site-buffers``: the mid-point with one site's BatchNorm buffers
- ``averaged-buffers``: the mid-point with plainly averaged buffers
- ``pooled-buffers``: the mid-point with Gaussian-pooled buffers, as in the paper
- ``own-buffers``: the mid-point with, at each site, the buffers of its own update
- ``recalibrated-buffers``: the mid-point with, at each site, buffers that it measured on its own unlabelled images
- ``pooled-recalibrated-buffers``: the mid-point with these, pooled
- ``routed-buffers``: the mid-point with all sites' measured buffers, from which it chooses for each image

The merged model is the one that the campaign's rule ``buffers`` names.
"""

KINDS: tuple[Kind, ...] = get_args(Kind)
"""All kinds, in the order in which reports show them."""

_GROUPS: Mapping[Kind, str] = {"base": "base", "single": "single", "one-site-buffers": "one site's buffers"}

_KINDS_OF_ONE_SITE = frozenset({"single", "one-site-buffers"})

Scalar = str | int | float | bool | None
"""What a campaign's rule may be: one JSON value that holds no others."""


def harmonic_mean(values: Iterable[float]) -> float:
    """Return k / Σ (1/vᵢ), the judge of a merged model; 0 if any value is 0.

    Raises:
        ValueError: There are no values.

    """
    listed = list(values)
    if not listed:
        raise ValueError("the harmonic mean of nothing is not defined")
    if min(listed) <= 0.0:
        return 0.0
    return len(listed) / math.fsum(1.0 / value for value in listed)


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Score:
    """How one model did on one site's evaluation images.

    Args:
        confusion: Pixels, [classes][classes]; the row is the ground truth, the column is the prediction.
            Pixels without a label are not counted. Lists are taken, and kept as tuples.
        images: How many images were evaluated.

    Raises:
        DataError: The matrix isn't square, or a number in it isn't a whole number of at least 0.

    """

    confusion: Sequence[Sequence[int]]
    images: int

    def __post_init__(self) -> None:
        try:
            matrix = tuple(tuple(operator.index(pixels) for pixels in row) for row in self.confusion)
            images = operator.index(self.images)
        except TypeError as error:
            raise DataError(f"A score holds something that is not a whole number: {error}.") from error
        if any(len(row) != len(matrix) for row in matrix):
            raise DataError("A confusion matrix is not square.", "Count one row and one column per class.")
        if images < 0 or any(pixels < 0 for row in matrix for pixels in row):
            raise DataError("A score holds a negative number of pixels or images.")
        object.__setattr__(self, "confusion", matrix)
        object.__setattr__(self, "images", images)

    @cached_property
    def iou(self) -> tuple[float | None, ...]:
        """Per class: intersection over union in per cent, or None where no pixel of the ground truth has it.

        IoU = TP / (TP + FN + FP). Where the ground truth lacks a class, a single wrong pixel would turn its
        IoU from undefined into 0. So such a class has no IoU here; the wrong pixels still count against
        the class that they really belong to.
        """
        truth = [sum(row) for row in self.confusion]
        predicted = [sum(column) for column in zip(*self.confusion, strict=True)]
        return tuple(
            100.0 * self.confusion[c][c] / (truth[c] + predicted[c] - self.confusion[c][c])
            if truth[c] > 0
            else None
            for c in range(len(truth))
        )

    @cached_property
    def miou(self) -> float | None:
        """The mean IoU over the classes that the ground truth holds, or None if it holds none."""
        present = [value for value in self.iou if value is not None]
        return math.fsum(present) / len(present) if present else None


@dataclass(frozen=True)
class Row:
    """One model of the comparison and its scores.

    Args:
        key: A short name, unique in the report, for machines.
        title: The same for people.
        kind: What the model is; see ``Kind``.
        site: Whose model or whose buffers, for the kinds that are about one site; else None.
        scores: The model's score at each site that evaluated it.

    Raises:
        DataError: The kind is unknown, or a site is missing or too much.

    """

    key: str
    title: str
    kind: Kind
    site: str | None
    scores: Mapping[str, Score]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise DataError(f"Row {self.key!r} is of the unknown kind {self.kind!r}.")
        if (self.site is not None) != (self.kind in _KINDS_OF_ONE_SITE):
            raise DataError(f"Row {self.key!r} of kind {self.kind!r} can't have the site {self.site!r}.")
        object.__setattr__(self, "scores", dict(self.scores))

    @property
    def group(self) -> str:
        """What it stands together with in tables."""
        return _GROUPS.get(self.kind, "mid-point")

    def miou(self, site: str) -> float | None:
        """Return the mIoU in per cent at ``site``, or None if there is none."""
        score = self.scores.get(site)
        return None if score is None else score.miou

    def harmonic_mean(self, sites: Iterable[str]) -> float | None:
        """Return H over exactly these sites, or None if one of them has no score or there are none."""
        values = [self.miou(site) for site in sites]
        known = [value for value in values if value is not None]
        return harmonic_mean(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, kw_only=True)
class SiteSummary:
    """What one site contributed.

    Args:
        site: Its name.
        state: What became of it: ``merged``, or a word such as ``refused`` or ``silent``.
        update_digest: Hexadecimal digest of its update; None if none arrived.
        bytes: Size of the update as it travelled.
        batches: The largest ``num_batches_tracked`` among its BatchNorm layers, its weight in the pooling.
        distance_from_base: ‖θ − θ_base‖ / ‖θ_base‖ over the parameters.
        seconds: From the request until the update had arrived.
        message: Why it was refused, or another remark.

    """

    site: str
    state: str
    update_digest: str | None = None
    bytes: int | None = None
    batches: int | None = None
    distance_from_base: float | None = None
    seconds: float | None = None
    message: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "distance_from_base", _finite(self.distance_from_base))
        object.__setattr__(self, "seconds", _finite(self.seconds))


@dataclass(frozen=True)
class PairDivergence:
    """How far two sites' BatchNorm statistics lie apart.

    Args:
        a: One site.
        b: The other.
        values: Symmetric Kullback-Leibler divergence per layer; None where it isn't finite.

    """

    a: str
    b: str
    values: Sequence[float | None]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(_finite(value) for value in self.values))


@dataclass(frozen=True)
class Divergence:
    """How far the sites' BatchNorm statistics lie apart, layer by layer, for each pair of sites.

    Args:
        layers: Names of the BatchNorm layers, in the order in which to show them.
        pairs: One entry per pair of sites.

    Raises:
        DataError: A pair has not one value per layer.

    """

    layers: Sequence[str]
    pairs: Sequence[PairDivergence]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "pairs", tuple(self.pairs))
        for pair in self.pairs:
            if len(pair.values) != len(self.layers):
                raise DataError(
                    f"The sites {pair.a!r} and {pair.b!r} have {len(pair.values)} divergences "
                    f"for {len(self.layers)} layers."
                )


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What came out.

    Args:
        digest: Hexadecimal digest of the merged model's canonical form.
        file: Name of the safetensors file, beside the report.
        parameters: Number of learnable values.
        batch_norm_layers: Number of BatchNorm layers whose statistics were pooled.
        bytes: Size of the file.

    """

    digest: str
    file: str
    parameters: int
    batch_norm_layers: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CampaignSummary:
    """Which campaign was run.

    Args:
        name: Its name.
        digest: Hexadecimal digest that both sides display.
        base_digest: Hexadecimal digest of the base.
        rules: Its rules by name. ``buffers`` and ``compare_single_models`` are read, the rest is shown as is.

    """

    name: str
    digest: str
    base_digest: str
    rules: Mapping[str, Scalar]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", dict(self.rules))


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a report shows.

    Args:
        campaign: Which campaign was run.
        created: When, as ISO 8601 with its time zone.
        classes: Names of the classes, in the order of the confusion matrices.
        rows: The compared models.
        sites: All sites of the campaign, also those that sent nothing.
        merged: What came out.
        divergence: How far apart the sites' statistics lie, if that was computed.
        receipt_digest: Hexadecimal digest of the signed receipt, if there is one.
        timings: Seconds by name of the step.
        versions: Version by name of the software.
        verdict: The sentences at the top; ``conclude`` writes them.

    Raises:
        DataError: Two rows or sites share a name, a score is from an unknown site or has another number of
            classes, or a timing isn't finite.

    """

    campaign: CampaignSummary
    created: str
    classes: Sequence[str]
    rows: Sequence[Row]
    sites: Sequence[SiteSummary]
    merged: Merged
    divergence: Divergence | None = None
    receipt_digest: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    verdict: str = ""

    def __post_init__(self) -> None:
        for name in ("classes", "rows", "sites"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "timings", dict(self.timings))
        object.__setattr__(self, "versions", dict(self.versions))
        names = self.site_names
        if len(set(names)) != len(names):
            raise DataError("A report names a site twice.")
        if len({row.key for row in self.rows}) != len(self.rows):
            raise DataError("Two rows of a report have the same key.")
        if not all(math.isfinite(seconds) for seconds in self.timings.values()):
            raise DataError("A timing of a report is not a finite number of seconds.")
        for row in self.rows:
            for site in [*row.scores, *([] if row.site is None else [row.site])]:
                if site not in names:
                    raise DataError(f"Row {row.key!r} is about {site!r}, which is no site of the campaign.")
            for site, score in row.scores.items():
                if len(score.confusion) != len(self.classes):
                    raise DataError(
                        f"Row {row.key!r} has {len(score.confusion)} classes at site {site!r}, "
                        f"but the campaign has {len(self.classes)}."
                    )

    @property
    def site_names(self) -> tuple[str, ...]:
        """All sites of the campaign."""
        return tuple(summary.site for summary in self.sites)

    @property
    def result_kind(self) -> Kind:
        """The merged model's kind: what the campaign's rule names, which is pooled buffers if it says nothing."""
        rule = f"{self.campaign.rules.get('buffers', 'pooled')}-buffers"
        return next((kind for kind in KINDS if kind == rule), "pooled-buffers")

    @property
    def result(self) -> Row | None:
        """The merged model's row."""
        return next((row for row in self.rows if row.kind == self.result_kind), None)

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The sites over which every H of this report is taken: those that scored the merged model.

        All rows are judged on the same sites. One that sent no score (it fell silent, say) can't be judged
        on; the verdict then names it, and every other row must still have a score at all the rest.
        """
        return tuple(s for s in self.site_names if self.result and self.result.miou(s) is not None)

    def h(self, row: Row) -> float | None:
        """Return the row's H over ``domains`` in per cent, or None if it lacks a score there."""
        return row.harmonic_mean(self.domains)

    def of_kind(self, kind: Kind) -> tuple[Row, ...]:
        """Return the rows of one kind."""
        return tuple(row for row in self.rows if row.kind == kind)

    def best(self, kind: Kind) -> Row | None:
        """Return the row of this kind with the highest H (the first of equals), or None if none has an H."""
        judged = [(h, row) for row in self.of_kind(kind) if (h := self.h(row)) is not None]
        return max(judged, key=lambda pair: pair[0])[1] if judged else None
