"""The running sum of masked values, and its unmasking.

There is one sum whatever the number of sites: masked values are added to it chunk by chunk, and at the end the
masks that are left are taken away chunk by chunk. What remains is the merge state's integers. One core does it at
several gigabytes a second; threads would gain nothing, since the cipher's library keeps Python's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from protos import fixedpoint
from protos.errors import SecureSumError
from protos.fixedpoint import Ints
from protos.securesum import keystream, wide
from protos.securesum.keystream import Mask
from protos.securesum.layout import SUM, Layout, Vector
from protos.securesum.wide import WORD, Words
from protos.statistics import StatisticSums

BLOCK = 1 << 18
"""Words that are read and unmasked at a time, about."""

Read = Callable[[Vector, int, int], Words]
"""Returns a site's masked words of a vector from one number to another; flat."""


def blocks(vector: Vector) -> Iterator[tuple[int, int]]:
    """Cut a vector's numbers into ranges of at most `BLOCK` words."""
    step = BLOCK // vector.width
    for start in range(0, vector.size, step):
        yield start, min(start + step, vector.size)


class MaskedTotal:
    """The sum of masked updates.

    Args:
        layout: The base's vectors.
        allocate: Makes an array of zeros from a number of words; one on disk (`numpy.memmap`) will do.

    """

    def __init__(self, layout: Layout, allocate: Callable[[int], Words] | None = None) -> None:
        make = allocate or (lambda words: np.zeros(words, WORD))
        self._layout = layout
        self._sums = {key: make(vector.words) for key, vector in layout.items()}
        self._sites: set[str] = set()
        self._whole, self._unmasked = True, False

    @property
    def sites(self) -> frozenset[str]:
        """Whose values are inside."""
        return frozenset(self._sites)

    def fold(self, site: str, read: Read) -> None:
        """Add a site's masked values. They must all be there, with digests checked: a sum can't be mended.

        Raises:
            SecureSumError: The site is inside already, or an earlier one was added in part only.

        """
        self._check(folding=True)
        if site in self._sites:
            raise SecureSumError(f"site {site} is in the sum already", "each update counts once", site=site)
        self._whole = False
        for key, vector in self._layout.items():
            for start, stop in blocks(vector):
                part = self._sums[key][start * vector.width : stop * vector.width]
                wide.add(part, read(vector, start, stop), vector.width)
        self._whole = True
        self._sites.add(site)

    def unmask(self, masks: Sequence[Mask], survivors: Iterable[str]) -> None:
        """Take away the masks that are left in the sum, and check that it then is one.

        Args:
            masks: From `coordinator.Revealing.close`.
            survivors: Whom they are for.

        Raises:
            SecureSumError: The sum is not that of the survivors, or what is left is no sum of updates, as when a
                site masked its values in another way than the protocol says.

        """
        self._check(folding=True)
        if self._sites != set(survivors):
            raise SecureSumError("the sum is not that of the survivors", "start another secure sum")
        self._unmasked, away = True, [-mask for mask in masks]

        for key, vector in self._layout.items():
            for start, stop in blocks(vector):
                part = self._sums[key][start * vector.width : stop * vector.width]
                keystream.apply(away, vector, start, part)
                if vector.part == SUM:
                    self._check_range(part.view(np.int64), vector.name)
        for vector in self._layout.values():
            if vector.part == "count":
                self._check_statistics(vector.name)

    def parameter(self, name: str, start: int = 0, stop: int | None = None) -> Ints:
        """Return the unmasked sum of a parameter in fixed point, flat, or a part of it; not to be written to."""
        self._check(folding=False)
        return self._sums[f"{SUM}:{name}"][start:stop].view(np.int64)

    def statistics(self, layer: str) -> StatisticSums:
        """Return the unmasked sums of a layer's statistics."""
        self._check(folding=False)
        return self._read(layer)

    def _read(self, layer: str) -> StatisticSums:
        parts = {}
        for part in StatisticSums.widths(0):
            vector = self._layout[f"{part}:{layer}"]
            packed = np.ascontiguousarray(self._sums[vector.key])
            parts[part] = packed.view(np.uint8).reshape(vector.size, vector.width * WORD.itemsize)
        return StatisticSums.from_bytes(parts)

    def _check(self, *, folding: bool) -> None:
        if not self._whole:
            raise SecureSumError("a site's values were added in part only", "start another secure sum")
        if folding and self._unmasked:
            raise SecureSumError("the sum was unmasked already", "nothing can be added to it any more")
        if not folding and not self._unmasked:
            raise SecureSumError("the sum is masked still", "unmask it first")

    def _check_range(self, sums: Ints, name: str) -> None:
        limit = len(self._sites) * int(fixedpoint.LIMIT) << fixedpoint.FRACTION_BITS
        if sums.size and not (-limit < int(sums.min()) and int(sums.max()) < limit):
            raise _no_sum(name)

    def _check_statistics(self, layer: str) -> None:
        found = self._read(layer)
        models = len(self._sites)
        # Cauchy and Schwarz: (Σ nμ)² ≤ Σ n · Σ n(σ² + μ²). What masks leave behind breaks it sooner or later.
        if (
            not models <= found.count < models << 63
            or (found.mean * found.mean > found.count * found.square).any()
        ):
            raise _no_sum(layer)


def _no_sum(name: str) -> SecureSumError:
    return SecureSumError(
        f"what is left of {name} without its masks is no sum of updates",
        "a site didn't mask its values as agreed, or they changed: run the same version of onebasin everywhere",
    )
