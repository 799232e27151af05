"""From an image of any size to what a step sees of it: resize, random crop, mirror. uint8 in, uint8 out.

As mmsegmentation's Resize (keeping the shape), RandomCrop and RandomFlip do, which the recipes of DACS, DAFormer,
HRDA and MIC are built on.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from client.data.labels import IGNORE

Bytes = npt.NDArray[np.uint8]

TRIES = 10
"""How often a crop is drawn before it is taken as it is."""
MAX_SHARE = 0.75
"""No class may have more of a source crop's labelled pixels than this (mmsegmentation's cat_max_ratio)."""


@dataclass(frozen=True)
class Window:
    """A part of an image.

    Attributes:
        top: First row.
        left: First column.
        side: Its height and width.

    """

    top: int
    left: int
    side: int

    def of(self, pixels: Bytes) -> Bytes:
        """Return this part of (H, W) or (H, W, 3)."""
        return pixels[self.top : self.top + self.side, self.left : self.left + self.side]


def fitted(size: tuple[int, int], box: tuple[int, int] | None, crop: int = 0) -> tuple[int, int]:
    """Return the size that an image is resized to.

    Args:
        size: (height, width) of the image.
        box: (width, height) that the result fits into, touching one pair of sides; None: the image's own size.
        crop: What comes out is at least this high and wide: an image that would be smaller is enlarged.

    Returns:
        (height, width).

    """
    height, width = size
    scale = 1.0
    if box is not None:
        # A long image fits into a box that stands or lies: as mmcv's imrescale.
        scale = min(max(box) / max(size), min(box) / min(size))
    if round(min(size) * scale) < crop:
        scale = crop / min(size)
    return max(int(height * scale + 0.5), 1, crop), max(int(width * scale + 0.5), 1, crop)


def resized(image: Bytes, size: tuple[int, int]) -> Bytes:
    """Resize an image (H, W, 3) to (height, width), bilinearly."""
    return _resized(image, size, cv2.INTER_LINEAR)


def resized_labels(labels: Bytes, size: tuple[int, int]) -> Bytes:
    """Resize a label map (H, W) to (height, width), each pixel taking its nearest's label."""
    return _resized(labels, size, cv2.INTER_NEAREST)


def any_window(size: tuple[int, int], crop: int, dice: np.random.Generator) -> Window:
    """Draw a window; every one is as likely as any other."""
    return Window(int(dice.integers(size[0] - crop + 1)), int(dice.integers(size[1] - crop + 1)), crop)


def mixed_window(labels: Bytes, crop: int, dice: np.random.Generator) -> Window:
    """Draw a window in which no class has more than its share, or the last of several tries."""
    window = any_window(labels.shape, crop, dice)
    for _ in range(TRIES):
        counts = np.bincount(window.of(labels).reshape(-1), minlength=256)[:IGNORE]
        there = counts[counts > 0]
        if len(there) > 1 and there.max() / there.sum() < MAX_SHARE:
            break
        window = any_window(labels.shape, crop, dice)
    return window


def window_with(labels: Bytes, crop: int, dice: np.random.Generator, wanted: int, pixels: float) -> Window:
    """Draw a mixed window with more than so many pixels of a class, or the last of several tries."""
    window = mixed_window(labels, crop, dice)
    for _ in range(TRIES):
        if np.count_nonzero(window.of(labels) == wanted) > pixels:
            break
        window = mixed_window(labels, crop, dice)
    return window


def _resized(pixels: Bytes, size: tuple[int, int], how: int) -> Bytes:
    if pixels.shape[:2] == size:
        return pixels
    return cv2.resize(pixels, (size[1], size[0]), interpolation=how)  # type: ignore[return-value]
