"""The 19 classes, their colours, and how to look at a label map.

The order is Cityscapes' train ids, so models and tools that speak Cityscapes fit without a table between.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

CLASSES: Final[tuple[str, ...]] = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
"""Class names; the index is the train id."""

IGNORE: Final = 255
"""Label of pixels that count neither in training nor in evaluation."""

PALETTE: Final[tuple[tuple[int, int, int], ...]] = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (102, 102, 156),
    (190, 153, 153),
    (153, 153, 153),
    (250, 170, 30),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
)
"""Cityscapes' RGB colour of each class, 0…255."""


def colour(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Paint a label map in Cityscapes' colours.

    Args:
        labels: uint8 of any shape (…); train ids. Every other value, ``IGNORE`` too, becomes black.

    Returns:
        uint8 of shape (…, 3), RGB.

    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(PALETTE)] = PALETTE
    return table[labels]
