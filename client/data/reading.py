"""Reading one image or one label map, by OpenCV. Labels come out as train ids, whatever a data set writes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from client.data.encoded import flaw, without_palette
from client.data.labels import IGNORE
from client.data.layouts import Coding
from protos.errors import DataError

Bytes = npt.NDArray[np.uint8]

_UNKNOWN = 254
"""In a table: a number that the coding doesn't know."""
_AGAIN = "copy it again, or leave the image out"


class FileError(DataError):
    """Something is wrong with one file.

    Args:
        path: The file; `what` begins with it.
        wrong: What is wrong with it.
        fix: What to do.

    """

    def __init__(self, path: Path, wrong: str, fix: str) -> None:
        super().__init__(f"{path} {wrong}", fix)
        self.path = path


class UnreadableError(FileError):
    """A file is missing, cut short, damaged, or no image."""


class LabelError(FileError):
    """A label map is not what its image or its coding asks for."""


class UnknownIdsError(LabelError):
    """A label map has numbers that its coding doesn't know.

    Args:
        path: The file.
        coding: What its numbers should mean.
        pixels: How many pixels have each unknown number.

    """

    def __init__(self, path: Path, coding: Coding, pixels: Mapping[int, int]) -> None:
        ids = ", ".join(f"{value} ({count:,} pixels)" for value, count in list(pixels.items())[:5])
        more = f" and {len(pixels) - 5} more" if len(pixels) > 5 else ""
        super().__init__(path, f"has labels that are no {coding.name}: {ids}{more}", _remedy(coding))
        self.pixels = dict(pixels)


def read_image(path: Path) -> Bytes:
    """Read an image.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        UnreadableError: It can't be read.

    """
    return np.ascontiguousarray(_decoded(path, _content(path), cv2.IMREAD_COLOR)[..., ::-1])


def read_labels(path: Path, coding: Coding, size: tuple[int, int] | None = None) -> Bytes:
    """Read a label map.

    Args:
        path: A PNG: of one channel, with a palette or without, or of the channels that `coding` knows.
        coding: What its numbers mean.
        size: (H, W) that it must have: its image's.

    Returns:
        uint8 (H, W), train ids; 255 = ignore.

    Raises:
        UnreadableError: It can't be read.
        LabelError: It has other channels, or another size.
        UnknownIdsError: It has numbers that the coding doesn't know.

    """
    raw = _raw(path, coding)
    if size is not None and raw.shape != size:
        raise LabelError(
            path,
            f"is {raw.shape[1]} × {raw.shape[0]}, its image {size[1]} × {size[0]}",
            "labels must be of their image's size: make them again, or remove the pair",
        )
    table = _table(coding)
    labels = table[raw if raw.dtype == np.uint8 else np.minimum(raw, len(table) - 1)]
    unknown = labels == _UNKNOWN
    if unknown.any():
        values, counts = np.unique(raw[unknown], return_counts=True)
        raise UnknownIdsError(path, coding, dict(zip(values.tolist(), counts.tolist(), strict=True)))
    return labels


def _raw(path: Path, coding: Coding) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Return the numbers as they stand in the file, (H, W)."""
    content, stretched = without_palette(_content(path))
    raw = _decoded(path, content, cv2.IMREAD_UNCHANGED)
    if raw.dtype not in (np.uint8, np.uint16):
        raise LabelError(path, f"holds {raw.dtype}", "label maps hold whole numbers of 8 or 16 bits")
    if raw.ndim == 3:
        if coding.channel is None or raw.shape[2] <= coding.channel:
            raise LabelError(
                path,
                f"is {raw.dtype} with {raw.shape[2]} channels, so it is no map of {coding.name}",
                "label maps have one channel; this may be the coloured picture of one",
            )
        raw = raw[..., coding.channel]
    elif coding.channel is None and raw.dtype != np.uint8:
        raise LabelError(
            path,
            f"is {raw.dtype} with 1 channel, so it is no map of {coding.name}",
            "label maps have one channel of 8 bits; this may be a map of instances",
        )
    return raw // stretched if stretched > 1 else raw


@lru_cache
def _tables(name: str, train_ids: tuple[tuple[int, int], ...], ignored: frozenset[int]) -> Bytes:
    table = np.full(257, _UNKNOWN, np.uint8)  # the last entry stands for all numbers above 255
    table[list(ignored)] = IGNORE
    for raw, train in train_ids:
        table[raw] = train
    table.setflags(write=False)
    return table


def _table(coding: Coding) -> Bytes:
    """Return the train id of each number 0…255; numbers above are unknown."""
    return _tables(coding.name, tuple(coding.train_ids.items()), coding.ignored)


def _remedy(coding: Coding) -> str:
    known = sorted({*coding.train_ids, *coding.ignored} - {IGNORE})
    return (
        f"map the labels to {coding.name} ({known[0]}…{known[-1]}, or 255 for what is ignored), or name the layout"
    )


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(path, f"can't be read: {error.strerror}", _AGAIN) from error
    if wrong := flaw(content):
        raise UnreadableError(path, wrong, _AGAIN)
    return content


def _decoded(path: Path, content: bytes, how: int) -> Bytes:
    try:
        found = cv2.imdecode(np.frombuffer(content, np.uint8), how)
    except cv2.error as error:
        raise UnreadableError(path, f"is no image that can be read: {error.err}", _AGAIN) from error
    if found is None:
        raise UnreadableError(path, "is no image that can be read", _AGAIN)
    return found  # type: ignore[return-value]
