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

_MIDDLE = 1.5 * 2.0 ** (52 - FRACTION_BITS)
BIAS = int(np.asarray(_MIDDLE).view(np.int64))
"""The bits of 6144.0, read as an integer; see `biased`."""

Ints = npt.NDArray[np.int64]


def check_values(values: npt.NDArray[np.floating], site: str, tensor: str) -> None:
    """Check that values are finite and within the range of the sums.

    Args:
        values: Real values of any shape.
        site: Whose they are, for the error's text.
        tensor: Which tensor, for the error's text.

    Raises:
        UpdateRefusedError: A value is NaN or infinite.
        MergeRangeError: A value's magnitude is 512 or more.

    """
    if not values.size:
        return
    # Two reductions without a temporary; NaN survives both.
    low, high = float(values.min()), float(values.max())
    if low > -LIMIT and high < LIMIT:
        return
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


def is_sum(sums: Ints, models: int) -> bool:
    """Tell whether integers can be sums of so many models' values."""
    limit = models * int(LIMIT) << FRACTION_BITS
    return not sums.size or (-limit < int(sums.min()) and int(sums.max()) < limit)


def biased(values: npt.NDArray[np.float32], scratch: npt.NDArray[np.float64]) -> Ints:
    """Return the nearest multiples of 2⁻⁴⁰, ties to even, each plus `BIAS`; they lie in `scratch`.

    Float64 does it by itself: between 4096 and 8192 its numbers are the multiples of 2⁻⁴⁰, and their bits count
    up by one from each to the next. So 6144 + θ is rounded as wanted, and its bits are those of 6144 plus the
    integer wanted.

    Args:
        values: Of magnitudes below `LIMIT`; any shape.
        scratch: Memory of the same shape, written over.

    """
    np.add(values, _MIDDLE, out=scratch, dtype=np.float64)
    return scratch.view(np.int64)


def quantise(values: npt.NDArray[np.float32]) -> Ints:
    """Return the nearest multiples of 2⁻⁴⁰, ties to even, as int64 of the same shape."""
    return biased(values, np.empty(np.shape(values))) - BIAS


def mean(total: Ints, models: int, out: npt.NDArray[np.float64] | None = None) -> npt.NDArray[np.float64]:
    """Return a sum of `models` fixed-point values as their mean, float64 of the same shape; in `out` if given."""
    found: npt.NDArray[np.float64] = np.divide(total, float(1 << FRACTION_BITS) * models, out=out)
    return found
