"""Pictures for the report: example images of a domain, with what the models made of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protos.errors import DataError

from .text import plain

Picture = NDArray[np.uint8]
"""RGB, uint8, [height][width][3]."""

PRIVACY = "Pictures were read from the sites' own folders on this machine; they never travelled."

_SMALLEST = 384
_LARGEST = 768


@dataclass(frozen=True)
class DomainPictures:
    """One row of pictures.

    Args:
        site: Whose domain.
        panels: (title, picture) from left to right: image, ground truth, then what the models predict.

    """

    site: str
    panels: Sequence[tuple[str, Picture]]


def png_data_uri(picture: Picture) -> str:
    """Return the picture as a PNG within a ``data:`` address, 384 to 768 pixels wide.

    Small ones grow by a whole factor and nearest neighbour, so that their pixels stay what they are; large ones
    shrink, because a report is read in a browser.

    Raises:
        DataError: It isn't RGB of uint8, or is empty.

    """
    import cv2

    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        raise DataError(
            f"A picture should be uint8 [height][width][3], not {picture.dtype} {list(picture.shape)}."
        )
    height, width, _ = picture.shape
    if width < _SMALLEST:
        factor = -(-_SMALLEST // width)
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    elif width > _LARGEST:
        size = (_LARGEST, max(1, round(height * _LARGEST / width)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    done, png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6])
    if not done:
        raise DataError("A picture can't be written as PNG.")
    return "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")


def alt_text(site: str, title: str) -> str:
    """Return what a screen reader says for a picture."""
    return f"{plain(title)}, an example of the domain of {plain(site)}"
