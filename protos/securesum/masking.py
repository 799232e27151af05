"""A site's update, turned into integers, checked for range, and masked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protos import boundary, fixedpoint
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError
from protos.securesum import keystream
from protos.securesum.keystream import Mask
from protos.securesum.layout import SUM, Layout
from protos.securesum.wide import WORD, Words
from protos.statistics import StatisticSums

_BIAS = np.uint64(fixedpoint.BIAS)


class Masker:
    """What masks one site's update: a pure function of its values, so a part can be masked again if it is lost.

    Args:
        masks: The site's own and those that it shares with each other site.
        layout: The base's vectors.
        site: Whose update, for errors.

    """

    def __init__(self, masks: Sequence[Mask], layout: Layout, site: str) -> None:
        self._masks, self._layout, self._site = tuple(masks), layout, site

    def parameter(self, name: str, start: int, values: npt.NDArray[np.float32]) -> Words:
        """Mask some of a parameter's values.

        Args:
            name: The parameter.
            start: Where in it the values begin, in elements.
            values: Flat.

        Returns:
            A word for each.

        Raises:
            UpdateRefusedError: A value is not finite.
            MergeRangeError: A value is out of range, so the sum might wrap around.

        """
        fixedpoint.check_values(values, self._site, name)
        words = fixedpoint.biased(values, np.empty(values.shape)).view(WORD)
        words -= _BIAS
        keystream.apply(self._masks, self._layout[f"{SUM}:{name}"], start, words)
        return words

    def statistics(self, layer: str, found: BatchNorm) -> dict[str, Words]:
        """Mask a layer's statistics: n, n·μ and n·(σ² + μ²), by their vectors' keys.

        Raises:
            UpdateRefusedError: A value is not finite, a variance is negative, or nothing was counted.
            MergeRangeError: The count is more than int64 holds.

        """
        boundary.check_batch_norm(found, layer, self._site)
        if found.count >= 1 << 63:
            raise MergeRangeError(
                f"site {self._site}: the batch count of {layer} is {found.count}, more than int64 holds",
                "reset num_batches_tracked",
                site=self._site,
                tensor=layer,
            )
        masked = {}
        for part, packed in StatisticSums.of(found).to_bytes().items():
            vector = self._layout[f"{part}:{layer}"]
            words = packed.reshape(-1).view(WORD).copy()
            keystream.apply(self._masks, vector, 0, words)
            masked[vector.key] = words
        return masked
