"""Parameters as fixed-point integers: what makes a merge a sum.

A value θ becomes the int64 nearest to θ · 2⁴⁰. Integer addition is commutative, associative and invertible, so
a sum of updates is the same bits in whichever order and grouping they arrive. Resolution and range share the 63
bits: |θ| < 512 leaves room for 16,384 models in one sum. A float32 with |θ| ≥ 2⁻¹⁷ is a multiple of 2⁻⁴⁰, so
it is represented exactly; a smaller one within 2⁻⁴¹.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protos.errors import MergeRangeError, UpdateRefusedError

FRACTION_BITS = 40
LIMIT = 512.0
"""Absolute values must stay below this."""
MAX_MODELS = 1 << 14
"""Models in one sum: LIMIT · 2⁴⁰ · MAX_MODELS = 2⁶³."""

Ints = npt.NDArray[np.int64]


def check_values(values: npt.NDArray[np.floating], site: str, tensor: str) -> float:
    """Check that values are finite and within the range of the sums; return the largest magnitude.

    Args:
        values: Real values of any shape.
        site: Whose they are, for the error's text.
        tensor: Which tensor, for the error's text.

    Raises:
        UpdateRefusedError: A value is NaN or infinite.
        MergeRangeError: A value's magnitude is 512 or more.

    """
    if not values.size:
        return 0.0
    # Two reductions without a temporary; NaN survives both.
    low, high = float(values.min()), float(values.max())
    if low > -LIMIT and high < LIMIT:
        return max(-low, high)
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise UpdateRefusedError(
            f"site {site}: {tensor} has {bad} values that are NaN or infinite",
            "adapt again from an earlier checkpoint or with a smaller learning rate",
            site=site,
            tensor=tensor,
        )
    raise MergeRangeError(
        f"site {site}: {tensor} has a value of magnitude {max(-low, high):g}; the merge takes less than {LIMIT:g}",
        "a parameter this large usually means that training diverged",
        site=site,
        tensor=tensor,
    )


def scale(values: npt.NDArray[np.float32], out: npt.NDArray[np.float64]) -> None:
    """Write the nearest whole multiples of 2⁻⁴⁰, ties to even, into `out`, as float64 of the same shape.

    The product is exact in float64 (24 significant bits and a power of two), so only the rounding rounds.
    """
    np.multiply(values, float(1 << FRACTION_BITS), out=out, dtype=np.float64)
    np.rint(out, out=out)


def quantise(values: npt.NDArray[np.float32]) -> Ints:
    """Return the nearest multiples of 2⁻⁴⁰, ties to even, as int64 of the same shape."""
    scaled = np.empty(np.shape(values))
    scale(values, scaled)
    rounded: Ints = scaled.astype(np.int64)
    return rounded


def mean(total: Ints | npt.NDArray[np.float64], models: int) -> npt.NDArray[np.float64]:
    """Return a sum of `models` fixed-point values as their mean, float64 of the same shape."""
    return np.asarray(total, np.float64) / (float(1 << FRACTION_BITS) * models)
