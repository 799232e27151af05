"""Adding parameters up, block by block, without losing a bit.

A parameter's sum is one of integers (see `protos.fixedpoint`). Integers below 2⁵³ are exact in float64, where
adding them is quicker than in int64, since rounding gives a float64 already. So a sum stays in float64 as long as
the magnitudes that went into it leave room, and moves on into int64 when they don't. The result is the same bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protos import fixedpoint
from protos.fixedpoint import Ints

_ROOM = float(1 << (53 - fixedpoint.FRACTION_BITS))
"""Sum of magnitudes that float64 has room for, in the parameters' own units."""
_HALF_STEP = 2.0 ** -(fixedpoint.FRACTION_BITS + 1)


class ParameterSum:
    """The sum of one block of a parameter over terms.

    Args:
        size: Elements in the block.
        work: Whether to make room for adding up here; a subclass may do so elsewhere.

    """

    def __init__(self, size: int, *, work: bool = True) -> None:
        self._scratch = np.empty(size if work else 0)
        self._exact = np.zeros(size if work else 0)
        self._room = _ROOM
        self._whole: Ints | None = None

    def add_values(self, values: npt.NDArray[np.float32], weight: int, largest: float) -> None:
        """Quantise values and add them.

        Args:
            values: Finite, flat.
            weight: What each counts; −1 takes them away.
            largest: A bound of their magnitudes, below `fixedpoint.LIMIT`.

        """
        fixedpoint.scale(values, out=self._scratch)
        needed = abs(weight) * (largest + _HALF_STEP)
        if needed > _ROOM:
            self._add(weight * self._scratch.astype(np.int64))
            return
        if needed > self._room:
            self._spill()
        self._room -= needed
        if weight == -1:
            self._exact -= self._scratch
            return
        if weight != 1:
            self._scratch *= weight
        self._exact += self._scratch

    def add_ints(self, sums: Ints, weight: int) -> None:
        """Add fixed-point sums."""
        self._add(sums if weight == 1 else weight * sums)

    def ints(self) -> Ints:
        """Return the sum in fixed point."""
        found: Ints = self._exact.astype(np.int64)
        return found if self._whole is None else found + self._whole

    def mean(self, models: int) -> npt.NDArray[np.float64]:
        """Return the sum as the mean of so many models, float64."""
        if self._whole is None:
            return fixedpoint.mean(self._exact, models)
        return fixedpoint.mean(self.ints(), models)

    def _add(self, sums: Ints) -> None:
        self._whole = sums.copy() if self._whole is None else np.add(self._whole, sums, out=self._whole)

    def _spill(self) -> None:
        self._add(self._exact.astype(np.int64))
        self._exact[:] = 0
        self._room = _ROOM
