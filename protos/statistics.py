"""BatchNorm statistics as exact sums.

Pooling two Gaussians cancels: σ² = E[x²] − E[x]² loses all digits where the mean is large and the variance is
small. So the sums are integers of any length. A float32 is a multiple of 2⁻¹⁴⁹ and its square one of 2⁻²⁹⁸, so
n, n·μ and n·(σ² + μ²) are kept without any rounding, and the one division at the end rounds once.

Source of the formulas: Li et al., ECCV 2024 (arXiv 2407.13771), section on merging buffers:
n = Σ nᵢ,  μ = Σ nᵢμᵢ / n,  σ² = Σ nᵢ(σᵢ² + (μᵢ − μ)²) / n.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protos.boundary import BatchNorm
from protos.errors import MergeRangeError

_FRACTION = 149
_LARGEST = int(np.finfo(np.float32).max)
_COUNT_BYTES, _MEAN_BYTES, _SQUARE_BYTES = 16, 48, 80
"""Widths on disk: float32's largest values with counts of 2⁶³ fit, two's complement, little-endian."""

Integers = npt.NDArray[np.object_]
"""Python integers of any length."""


@dataclass(frozen=True)
class StatisticSums:
    """One layer's sums: n, and per channel n·μ·2¹⁴⁹ and n·(σ² + μ²)·2²⁹⁸; arrays of shape (channels,)."""

    count: int
    mean: Integers
    square: Integers

    @classmethod
    def zero(cls, channels: int) -> StatisticSums:
        """Return the sum of nothing."""
        nothing = np.zeros(channels, np.int64).astype(object)
        return cls(0, nothing, nothing)

    @classmethod
    def of(cls, found: BatchNorm) -> StatisticSums:
        """Return a single layer's statistics as sums, exactly."""
        mean, var = _integers(found.mean), _integers(found.var)
        return cls(found.count, mean * found.count, ((var << _FRACTION) + mean * mean) * found.count)

    def plus(self, other: StatisticSums, sign: int = 1) -> StatisticSums:
        """Add another layer's sums, or with sign −1 take them away."""
        return StatisticSums(
            self.count + sign * other.count, self.mean + sign * other.mean, self.square + sign * other.square
        )

    def is_sum(self, models: int) -> bool:
        """Tell whether these can be the sums of so many models' statistics.

        Each model counted a batch at least, and no mean or variance is more than float32 holds or negative. Cauchy
        and Schwarz: (Σ nμ)² ≤ Σ n · Σ n(σ² + μ²).
        """
        largest = _LARGEST << _FRACTION
        return (
            models <= self.count < models << 63
            and not (abs(self.mean) > self.count * largest).any()
            and not (self.square > self.count * (largest << _FRACTION) * (_LARGEST + 1)).any()
            and not (self.mean * self.mean > self.count * self.square).any()
        )

    def pooled(self, layer: str) -> BatchNorm:
        """Divide: the Gaussian that has the moments of all that was added.

        Raises:
            MergeRangeError: No batch was counted, the batches add up to more than int64 holds, or the variance to
                more than float32 does.

        """
        if not self.count:
            raise MergeRangeError(
                f"no batches were counted for {layer} (num_batches_tracked is 0), so it has no weight",
                "average the buffers uniformly instead, or adapt with BatchNorm layers in training mode",
                tensor=layer,
            )
        if self.count >= 1 << 63:
            raise MergeRangeError(
                f"the batch counts of {layer} add up to {self.count}, more than int64 holds",
                "reset num_batches_tracked at the sites",
                tensor=layer,
            )
        n = self.count
        mean = self.mean / (n << _FRACTION)
        var = (n * self.square - self.mean * self.mean) / ((n * n) << (2 * _FRACTION))
        with np.errstate(over="ignore"):
            found = BatchNorm(np.asarray(mean, np.float32), np.asarray(var, np.float32), n)
        if not np.isfinite(found.var).all():
            raise MergeRangeError(
                f"the pooled variance of {layer} is more than float32 holds",
                "one of the sites diverged",
                tensor=layer,
            )
        return found

    def to_bytes(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Return fixed-width integers: ``count`` (1, 16), ``mean`` (C, 48) and ``square`` (C, 80) bytes."""
        return {
            "count": _pack([self.count], _COUNT_BYTES),
            "mean": _pack(self.mean.tolist(), _MEAN_BYTES),
            "square": _pack(self.square.tolist(), _SQUARE_BYTES),
        }

    @classmethod
    def from_bytes(cls, parts: dict[str, npt.NDArray[np.uint8]]) -> StatisticSums:
        """Read what `to_bytes` wrote."""
        (count,) = _unpack(parts["count"])
        return cls(count, _objects(_unpack(parts["mean"])), _objects(_unpack(parts["square"])))

    @classmethod
    def from_packed(cls, count: bytes, mean: bytes, square: bytes) -> StatisticSums:
        """Read the bytes of what `to_bytes` wrote; they are as many as `widths` says."""
        widths, found = cls.widths(0), {"count": count, "mean": mean, "square": square}
        return cls.from_bytes(
            {part: np.frombuffer(raw, np.uint8).reshape(-1, widths[part][1]) for part, raw in found.items()}
        )

    @staticmethod
    def widths(channels: int) -> dict[str, tuple[int, int]]:
        """Return the shapes of what `to_bytes` writes."""
        return {
            "count": (1, _COUNT_BYTES),
            "mean": (channels, _MEAN_BYTES),
            "square": (channels, _SQUARE_BYTES),
        }


def uniform(found: Sequence[BatchNorm]) -> BatchNorm:
    """Average means and variances with equal weights and without the between-site term; counts are added up.

    That is what plain averaging does, for comparison. The sums are exact, so the order doesn't matter.
    """
    models = len(found) << _FRACTION
    mean = sum(_integers(one.mean) for one in found) / models
    var = sum(_integers(one.var) for one in found) / models
    return BatchNorm(np.asarray(mean, np.float32), np.asarray(var, np.float32), sum(one.count for one in found))


def _integers(values: npt.NDArray[np.float32]) -> Integers:
    """Return float32 values times 2¹⁴⁹, exactly."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    mantissa: Integers = np.ldexp(fraction, 24).astype(np.int64).astype(object)
    shift = exponent.astype(np.int64) + (_FRACTION - 24)
    if (shift >= 0).all():
        found: Integers = mantissa << shift.astype(object)
        return found
    # A subnormal's mantissa ends in zeros, which make up for a negative shift.
    left, right = np.maximum(shift, 0).astype(object), np.maximum(-shift, 0).astype(object)
    result: Integers = (mantissa << left) >> right
    return result


def _objects(values: Iterable[int]) -> Integers:
    listed: list[Any] = list(values)
    result = np.empty(len(listed), object)
    result[:] = listed
    return result


def _pack(values: Sequence[int], width: int) -> npt.NDArray[np.uint8]:
    try:
        packed = b"".join(value.to_bytes(width, "little", signed=True) for value in values)
    except OverflowError:
        raise MergeRangeError("the sums of BatchNorm statistics overflow", "one of the sites diverged") from None
    return np.frombuffer(packed, np.uint8).reshape(len(values), width)


def _unpack(packed: npt.NDArray[np.uint8]) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little", signed=True) for row in packed]
