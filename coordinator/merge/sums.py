"""Adding parameters up, block by block, without losing a bit: a parameter's sum is one of integers.

See `protos.fixedpoint` for the integers and for how values become them in two passes over memory.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from protos import fixedpoint
from protos.fixedpoint import Ints


class BlockSum(Protocol):
    """The sum of one block of a parameter over terms. It keeps its memory from one block to the next."""

    def start(self, size: int) -> None:
        """Begin at zero with a block of so many elements, no more than it was made for."""

    def add_values(self, values: npt.NDArray[np.float32], weight: int) -> None:
        """Quantise finite flat values, of magnitudes below `fixedpoint.LIMIT`, and add them `weight` times."""

    def add_ints(self, sums: Ints, weight: int) -> None:
        """Add fixed-point sums."""

    def ints(self) -> Ints:
        """Return the sum in fixed point; it is good until anything else is done."""

    def mean(self, models: int) -> npt.NDArray[np.float64]:
        """Return the sum as the mean of so many models, float64; it is good until anything else is done."""


class ParameterSum:
    """A `BlockSum` of at most so many elements, added up by NumPy."""

    def __init__(self, size: int) -> None:
        self._floats, self._ints = np.empty(size), np.empty(size, np.int64)
        self.start(size)

    def start(self, size: int) -> None:
        """Begin at zero with a block of so many elements."""
        self._scratch, self._total = self._floats[:size], self._ints[:size]
        self._total[:] = 0
        self._bias = 0

    def add_values(self, values: npt.NDArray[np.float32], weight: int) -> None:
        """Quantise values and add them."""
        biased = fixedpoint.biased(values, self._scratch)
        if weight == -1:
            self._total -= biased
        else:
            if weight != 1:
                biased *= weight
            self._total += biased
        self._bias += weight * fixedpoint.BIAS

    def add_ints(self, sums: Ints, weight: int) -> None:
        """Add fixed-point sums."""
        self._total += sums if weight == 1 else weight * sums

    def ints(self) -> Ints:
        """Return the sum in fixed point."""
        if self._bias:
            # Modulo 2⁶⁴ on the way, as biases are; the difference is a sum that fits.
            self._total -= np.asarray(self._bias % (1 << 64), np.uint64).astype(np.int64)
            self._bias = 0
        return self._total

    def mean(self, models: int) -> npt.NDArray[np.float64]:
        """Return the sum as the mean of so many models, float64."""
        return fixedpoint.mean(self.ints(), models, self._scratch)
