"""Pooled statistics without integers of any length, for channels where float64 is enough to know the float32.

`StatisticSums` is exact, but its integers are Python's, a microsecond for each channel and model. Here the same
numbers are computed in float64 together with a bound of the error. Where the whole interval rounds to one float32,
that is what the exact sums give, too; the few channels where it doesn't are computed exactly. So the result is the
same bits, which a test compares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protos.boundary import BatchNorm
from protos.statistics import StatisticSums, uniform

_UNIT = 2.0**-53
"""Unit roundoff of float64."""
_EXACT_PRODUCT = 1 << 29
"""A count below this times a float32 (24 significant bits) is exact in float64 (53)."""

Wide = npt.NDArray[np.float64]
Narrow = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def pool(found: Sequence[BatchNorm], layer: str) -> BatchNorm:
    """Pool a layer's statistics; bit for bit ``StatisticSums.pooled`` of their sum.

    Args:
        found: The layer's statistics in each model: finite, variances and counts ≥ 0.
        layer: Its name, for errors.

    Raises:
        MergeRangeError: No batch was counted, or the result is more than its dtype holds.

    """
    counts = [one.count for one in found]
    if not sum(counts) or max(counts) >= _EXACT_PRODUCT:
        return _exact(found, layer)
    weights = np.asarray(counts, np.float64)[:, None]
    means, variances = _stacked(found)
    with np.errstate(over="ignore"):
        mean, sure = _mean(means, weights)
        var, sure_too = _variance(means, variances, weights)
    if not np.isfinite(var).all():
        return _exact(found, layer)  # knows what to say
    unsure = np.flatnonzero(~(sure & sure_too))
    if unsure.size:
        again = _exact([BatchNorm(one.mean[unsure], one.var[unsure], one.count) for one in found], layer)
        mean[unsure], var[unsure] = again.mean, again.var
    return BatchNorm(mean, var, sum(counts))


def average(found: Sequence[BatchNorm]) -> BatchNorm:
    """Average means and variances with equal weights; bit for bit `protos.statistics.uniform`."""
    equal = np.ones((len(found), 1))
    (mean, sure), (var, sure_too) = (_mean(values, equal) for values in _stacked(found))
    unsure = np.flatnonzero(~(sure & sure_too))
    if unsure.size:
        again = uniform([BatchNorm(one.mean[unsure], one.var[unsure], one.count) for one in found])
        mean[unsure], var[unsure] = again.mean, again.var
    return BatchNorm(mean, var, sum(one.count for one in found))


def _exact(found: Sequence[BatchNorm], layer: str) -> BatchNorm:
    total = StatisticSums.zero(len(found[0].mean))
    for one in found:
        total = total.plus(StatisticSums.of(one))
    return total.pooled(layer)


def _stacked(found: Sequence[BatchNorm]) -> tuple[Wide, Wide]:
    return (
        np.stack([one.mean for one in found], dtype=np.float64),
        np.stack([one.var for one in found], dtype=np.float64),
    )


def _mean(values: Wide, weights: Wide) -> tuple[Narrow, Mask]:
    """Return Σ wᵢxᵢ / Σ wᵢ as float32, and where that is certain.

    With two models and equal counts, half of all means lie right between two float32, so the sum is kept exactly,
    in two float64 (Knuth's two-sum), and so is the remainder of the division (Dekker's product): where nothing
    remains, the quotient is no approximation.
    """
    high = np.zeros(values.shape[1])
    low, lost = np.zeros_like(high), np.zeros(high.shape, bool)
    for product in values * weights:
        high, error = _two_sum(high, product)
        low, error = _two_sum(low, error)
        lost |= error != 0
    high, low = _two_sum(high, low)
    total = float(weights.sum())
    quotient = high / total
    product, error = _two_product(quotient, total)
    exact = ((high - product) - error + low == 0) & ~lost
    found, sure = _rounded(quotient, 8 * _UNIT * np.abs(quotient))
    return found, exact | sure


def _variance(means: Wide, variances: Wide, weights: Wide) -> tuple[Narrow, Mask]:
    """Return Σ wᵢ(σᵢ² + (μᵢ − μ)²) / Σ wᵢ as float32, and where that is certain.

    Distances are taken from the first model's mean, so nothing cancels but what differs between the models. With
    dᵢ = μᵢ − μ₁ the sum is Σ wᵢσᵢ² + Σ wᵢdᵢ² − (Σ wᵢdᵢ)² / Σ wᵢ. Each of its terms has a relative error of at most
    2N + 10 roundings, and the last one is no larger than the one before (Cauchy and Schwarz), nor is the square of
    Σ wᵢ|dᵢ|, by which its error is measured.
    """
    total = float(weights.sum())
    distances = means - means[0]
    within = (weights * variances).sum(0)
    between = (weights * distances * distances).sum(0)
    shift = (weights * distances).sum(0)
    found = (within + (between - shift * shift / total)) / total
    bound = (4 * len(means) + 40) * _UNIT * (within + between) / total
    return _rounded(found, bound)


def _rounded(values: Wide, bound: Wide) -> tuple[Narrow, Mask]:
    """Return values as float32, and where nothing within the bound would round to another one."""
    found = values.astype(np.float32)
    low, high = (values - bound).astype(np.float32), (values + bound).astype(np.float32)
    return found, (low == found) & (high == found)


def _two_sum(a: Wide, b: Wide) -> tuple[Wide, Wide]:
    """Return a + b, rounded, and its rounding error, exactly."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _two_product(a: Wide, b: float) -> tuple[Wide, Wide]:
    """Return a · b, rounded, and its rounding error, exactly."""
    product = a * b
    a_high, b_high = _upper_half(a), float(_upper_half(np.asarray(b)))
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _upper_half(a: Wide) -> Wide:
    """Return the upper 26 bits of a mantissa (Veltkamp's split)."""
    scaled = a * ((1 << 27) + 1.0)
    return scaled - (scaled - a)
