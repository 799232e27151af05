"""An image with labels laid over it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from client.data.labels import IGNORE, colour

_INK = 0.55
"""How much of a pixel's colour is its label's."""


def overlaid(image: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Tint an image by its labels' colours; borders between labels are dark, and what is ignored stays as it is.

    Args:
        image: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), train ids.

    Returns:
        uint8 (H, W, 3).

    """
    tinted = (1 - _INK) * image + _INK * colour(labels)
    border = np.zeros(labels.shape, bool)
    border[1:] |= labels[1:] != labels[:-1]
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    found = np.where((labels != IGNORE)[..., None], tinted, image)
    found[border] *= 0.6
    return found.astype(np.uint8)
