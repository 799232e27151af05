"""Tiny data sets in each layout, as real files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from client.data.labels import IGNORE
from client.data.layouts import CITYSCAPES, IDD, SYNTHIA, TRAIN_IDS, Coding
from client.data.scenes import render

SIZE = (32, 64)
DIGITS = 3


def raw(labels: np.ndarray, coding: Coding) -> np.ndarray:
    """Write train ids as a coding's numbers; classes that it lacks become one that it ignores."""
    ignored = min(coding.ignored)
    table = np.full(256, ignored, np.uint8)
    for number, train in coding.train_ids.items():
        table[train] = number
    return table[labels]


def known(labels: np.ndarray, coding: Coding) -> np.ndarray:
    """Return train ids as they come back from a coding: what it lacks is 255."""
    return np.where(np.isin(labels, list(coding.train_ids.values())), labels, IGNORE).astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def palette_png(numbers: np.ndarray, bits: int = 8) -> bytes:
    """Encode numbers as a PNG with a palette, in which all colours are one."""
    height, width = numbers.shape
    per = 8 // bits
    packed = numbers.reshape(height, width // per, per).astype(int)
    rows = sum(packed[..., i] << (8 - bits * (i + 1)) for i in range(per)).astype(np.uint8)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0))
    colours = chunk(b"PLTE", b"\x80\x40\x80" * 2**bits)
    return b"\x89PNG\r\n\x1a\n" + header + colours + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def synthia(labels: np.ndarray) -> np.ndarray:
    """Three channels of 16 bits: class, instance, nothing."""
    numbers = raw(labels, SYNTHIA).astype(np.uint16)
    return np.stack([numbers, np.full_like(numbers, 4000), np.zeros_like(numbers)], -1)


# layout → split → (image's path, labels' path, how labels are written)
Place = tuple[str, str, Callable[[np.ndarray], np.ndarray], Coding]


def _cityscapes(labels: np.ndarray) -> np.ndarray:
    return raw(labels, CITYSCAPES)


def _idd(labels: np.ndarray) -> np.ndarray:
    return raw(labels, IDD)


def _train_ids(labels: np.ndarray) -> np.ndarray:
    return labels


PLACES: dict[str, dict[str, Place]] = {
    "gta": {"": ("images/{}.png", "labels/{}.png", _cityscapes, CITYSCAPES)},
    "synthia": {"": ("RGB/{}.png", "GT/LABELS/{}.png", synthia, SYNTHIA)},
    "cityscapes": {
        split: (
            f"leftImg8bit/{split}/ulm/ulm_{{}}_leftImg8bit.png",
            f"gtFine/{split}/ulm/ulm_{{}}_gtFine_labelIds.png",
            _cityscapes,
            CITYSCAPES,
        )
        for split in ("train", "val")
    },
    "idd": {
        split: (
            f"leftImg8bit/{split}/7/{{}}_leftImg8bit.jpg",
            f"gtFine/{split}/7/{{}}_gtFine_labellevel3Ids.png",
            _idd,
            IDD,
        )
        for split in ("train", "val")
    },
    "acdc": {
        split: (
            f"rgb_anon/fog/{split}/GOPR1/{{}}_rgb_anon.png",
            f"gt/fog/{split}/GOPR1/{{}}_gt_labelTrainIds.png",
            _train_ids,
            TRAIN_IDS,
        )
        for split in ("train", "val")
    },
    "dark_zurich": {
        "train": (
            "rgb_anon/train/night/GOPR1/{}_rgb_anon.png",
            "gt/train/night/GOPR1/{}_gt_labelTrainIds.png",
            _train_ids,
            TRAIN_IDS,
        ),
        "val": (
            "rgb_anon/val/night/GOPR2/{}_rgb_anon.png",
            "gt/val/night/GOPR2/{}_gt_labelTrainIds.png",
            _train_ids,
            TRAIN_IDS,
        ),
    },
    "folder": {"": ("images/{}.png", "labels/{}.png", _train_ids, TRAIN_IDS)},
}


def make(root: Path, layout: str, split: str = "", number: int = 3, size: tuple[int, int] = SIZE) -> Path:
    """Write a data set of scenes: `number` images with labels, named 000, 001 …"""
    image, label, write_as, _ = PLACES[layout][split]
    for at in range(number):
        scene = render("source", 0, at, size)
        write(root / image.format(f"{at:0{DIGITS}}"), scene.image)
        write(root / label.format(f"{at:0{DIGITS}}"), write_as(scene.labels))
    return root
