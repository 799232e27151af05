"""Rare-class sampling: source images are drawn by the classes in them, rare ones most often.

L. Hoyer, D. Dai, L. Van Gool, DAFormer, CVPR 2022 (arXiv 2111.14887), section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.data.settings import RareClasses
from protos.errors import DataError


def probabilities(pixels: npt.ArrayLike, temperature: float) -> npt.NDArray[np.float64]:
    """Return P(c) = exp((1 − f_c) / T) / Σ exp((1 − f_k) / T) over the classes that occur.

    Args:
        pixels: (classes,) how many pixels of the whole data set each class has.
        temperature: T > 0.

    Returns:
        (classes,), which add to 1; 0 for a class that doesn't occur.

    """
    counts = np.asarray(pixels, np.float64)
    there = counts > 0
    score = np.where(there, (1 - counts / max(counts.sum(), 1)) / temperature, -np.inf)
    weight: npt.NDArray[np.float64] = np.exp(score - score.max(initial=-1e300))
    return weight / max(float(weight.sum()), 1e-300)


@dataclass(frozen=True, eq=False)
class RareClassSampler:
    """Draws a class, then one of the images that have enough of it.

    Attributes:
        classes: Train ids of the classes that can be drawn.
        chances: Their probabilities, which add to 1.
        images: For each of them the numbers of the images to draw from.

    """

    classes: npt.NDArray[np.int64]
    chances: npt.NDArray[np.float64]
    images: tuple[npt.NDArray[np.int64], ...]

    @classmethod
    def of(cls, counts: npt.NDArray[np.integer], settings: RareClasses) -> RareClassSampler:
        """Prepare for a data set.

        Args:
            counts: (images, classes), how many pixels of each image have each class.
            settings: Temperature, and from how many pixels on an image counts.

        Raises:
            DataError: No image has enough pixels of any class.

        """
        chances = probabilities(counts.sum(0, dtype=np.int64), settings.temperature)
        images = [np.flatnonzero(counts[:, c] > settings.min_pixels) for c in range(counts.shape[1])]
        # A class that no image has enough of can't be drawn; its share goes to the others.
        classes = np.array([c for c, found in enumerate(images) if len(found) and chances[c] > 0], np.int64)
        if not len(classes):
            raise DataError(
                f"no source image has more than {settings.min_pixels} pixels of any class",
                "lower data.rare_classes.min_pixels, or set data.rare_classes.on = false",
            )
        kept = chances[classes]
        return cls(classes, kept / kept.sum(), tuple(images[c] for c in classes))

    def draw(self, dice: np.random.Generator) -> tuple[int, int]:
        """Return a class's train id and an image's number."""
        which = int(dice.choice(len(self.classes), p=self.chances))
        found = self.images[which]
        return int(self.classes[which]), int(found[dice.integers(len(found))])
