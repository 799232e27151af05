"""One's own labelled images: a folder with ``images/`` and ``labels/``, paired by the files' names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from client.data.datasets import LabelledImages
from protos.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")


def labelled_folder(folder: Path) -> Iterator[LabelledImages]:
    """Yield a folder's images, one at a time, since they may be of several sizes.

    Args:
        folder: Holds ``images/`` (PNG or JPEG, RGB) and ``labels/`` (PNG of one channel, with train ids; 255 is
            ignored). An image and its labels have the same name up to the suffix.

    Raises:
        DataError: Something is missing, can't be read, or doesn't fit.

    """
    images, labels = folder / "images", folder / "labels"
    for part in (images, labels):
        if not part.is_dir():
            raise DataError(f"{folder} has no {part.name}/", "put images into images/ and label maps into labels/")
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"there are no images in {images}", f"their names end in {', '.join(SUFFIXES)}")
    for path in found:
        image = _read(path, cv2.IMREAD_COLOR)[..., ::-1]
        truth = labels / f"{path.stem}.png"
        if not truth.exists():
            raise DataError(
                f"{path.name} has no labels: there is no {truth}", "remove the image, or add its labels"
            )
        label = _read(truth, cv2.IMREAD_UNCHANGED)
        if label.ndim != 2 or label.dtype != np.uint8:
            raise DataError(
                f"{truth} is {label.dtype} with {label.shape[2] if label.ndim > 2 else 1} channels",
                "label maps have one channel of 8 bits, with train ids and 255 for what is ignored",
            )
        if label.shape != image.shape[:2]:
            raise DataError(
                f"{truth} is {label.shape[1]} × {label.shape[0]}, its image {image.shape[1]} × {image.shape[0]}",
                "labels must be of their image's size",
            )
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].contiguous()
        yield LabelledImages(pixels, torch.from_numpy(np.ascontiguousarray(label))[None])


def _read(path: Path, how: int) -> npt.NDArray[np.uint8]:
    found = cv2.imread(str(path), how)
    if found is None:
        raise DataError(f"{path} is no image that can be read", "it may be cut short: copy it again")
    return found  # type: ignore[return-value]
