"""The sum of masked updates, without the masks: computed where it is read, block by block.

Nothing is kept. A block of the sum is added up from the sites' masked words, the masks that are left in it are
taken away, and what remains is checked to be a sum of updates. So it takes no memory and no disk, and the merge
state is written from it as from any other term. One core does it at several gigabytes a second; threads would gain
nothing, since the cipher's library keeps Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from protos import fixedpoint
from protos.errors import SecureSumError
from protos.fixedpoint import Ints
from protos.securesum import keystream, wide
from protos.securesum.keystream import Mask
from protos.securesum.layout import SUM, Layout, Vector
from protos.securesum.wide import WORD, Words
from protos.statistics import StatisticSums

Read = Callable[[Vector, int, int], Words]
"""Returns a site's masked words of a vector from one number to another; flat."""


class MaskedSum:
    """The sum of masked updates.

    Args:
        layout: The base's vectors.
        updates: Each survivor's masked words. Their digests must have been checked.
        masks: What is left in the sum of the survivors' words: from `coordinator.Revealing.close`.

    """

    def __init__(self, layout: Layout, updates: Sequence[Read], masks: Sequence[Mask]) -> None:
        self._layout = layout
        self._updates = tuple(updates)
        self._away = tuple(-mask for mask in masks)

    @property
    def models(self) -> int:
        """How many updates it is the sum of."""
        return len(self._updates)

    def parameter(self, name: str, start: int = 0, stop: int | None = None) -> Ints:
        """Return the sum of a parameter in fixed point, flat, or a part of it.

        Raises:
            SecureSumError: It is no sum of updates, as when a site masked its values in another way than the
                protocol says.

        """
        vector = self._layout[f"{SUM}:{name}"]
        sums = self._words(vector, start, vector.size if stop is None else stop).view(np.int64)
        if not fixedpoint.is_sum(sums, self.models):
            raise _no_sum(name)
        return sums

    def statistics(self, layer: str) -> StatisticSums:
        """Return the sums of a layer's statistics.

        Raises:
            SecureSumError: They are no sums of updates' statistics.

        """
        parts = {}
        for part in StatisticSums.widths(0):
            vector = self._layout[f"{part}:{layer}"]
            words = self._words(vector, 0, vector.size)
            parts[part] = words.view(np.uint8).reshape(vector.size, vector.width * WORD.itemsize)
        found = StatisticSums.from_bytes(parts)
        if not found.is_sum(self.models):  # what masks leave behind breaks it sooner or later
            raise _no_sum(layer)
        return found

    def _words(self, vector: Vector, start: int, stop: int) -> Words:
        words = np.zeros((stop - start) * vector.width, WORD)
        for read in self._updates:
            wide.add(words, read(vector, start, stop), vector.width)
        keystream.apply(self._away, vector, start, words)
        return words


def _no_sum(name: str) -> SecureSumError:
    return SecureSumError(
        f"what is left of {name} without its masks is no sum of updates",
        "a site didn't mask its values as agreed, or they changed: run the same version of onebasin everywhere",
    )
