"""How many pixels of each class each label map has: counted once, and kept beside the site's files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from client.data.labels import CLASSES
from client.data.listing import LabelledFiles
from client.data.reading import read_labels
from protos import files
from protos.parallel import cores, each

Counts = npt.NDArray[np.int32]
Say = Callable[[int, int], None]
"""Called with how many files are done and how many there are, from several threads but one at a time."""


def quiet(done: int, of: int) -> None:
    """Say nothing."""


def count(labels: npt.NDArray[np.uint8]) -> Counts:
    """Return how many pixels each class has, (classes,); other train ids are left out."""
    return np.bincount(labels.reshape(-1), minlength=256)[: len(CLASSES)].astype(np.int32)


def class_counts(found: LabelledFiles, kept: Path | None, say: Say = quiet) -> Counts:
    """Count the classes of each image, or take the counts from where they were kept.

    They are kept under a fingerprint of the label maps' names, sizes and times of change, so that changed files
    are counted again. Nothing is written to the data set's folder, which may be read-only.

    Args:
        found: The files.
        kept: The folder to keep counts in; None: they are not kept.
        say: Called as it goes on.

    Returns:
        (images, classes), in the images' order.

    Raises:
        DataError: A label map can't be read, or has a number that its coding doesn't know.
        StorageError: The counts can't be kept.

    """
    path = kept / f"{found.labels_fingerprint()}.npz" if kept else None
    if path is not None and (known := _load(path, len(found))) is not None:
        return known
    lock, done = threading.Lock(), 0

    def job(at: int) -> Counts:
        nonlocal done
        counts = count(read_labels(found.labels[at], found.codings[at]))
        with lock:
            done += 1
            say(done, len(found))
        return counts

    before = cv2.getNumThreads()
    cv2.setNumThreads(0)  # the threads are ours
    try:
        counts = np.stack(list(each(range(len(found)), job, cores()).values()))
    finally:
        cv2.setNumThreads(before)
    if path is not None:
        store(path, counts)
    return counts


def store(path: Path, counts: Counts) -> None:
    """Keep counts in a file.

    Raises:
        StorageError: It can't be written.

    """
    files.make_folder(path.parent)
    with files.atomic(path, durable=False) as file:
        np.savez_compressed(file, counts=counts)


def _load(path: Path, images: int) -> Counts | None:
    try:
        with np.load(path, allow_pickle=False) as content:
            counts = content["counts"]
    except Exception:  # it isn't there, or is damaged in any of a dozen ways: count again
        return None
    fits = counts.shape == (images, len(CLASSES)) and counts.dtype == np.int32
    return counts if fits else None
