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
from protos.errors import ModelFileError
from protos.parallel import cores, each
from protos.tensorfile import TensorFile, write_arrays

Counts = npt.NDArray[np.int32]
_COUNTS, _SEAL = "counts", "seal"
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
    if kept is not None and (known := _load(_file(kept, found), len(found))) is not None:
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
    if kept is not None:
        store(kept, found, counts)
    return counts


def store(kept: Path, found: LabelledFiles, counts: Counts) -> None:
    """Keep counts in a folder.

    Args:
        kept: The folder.
        found: The files that were counted.
        counts: As `class_counts` returns them.

    Raises:
        StorageError: They can't be written.

    """
    write_arrays(_file(files.make_folder(kept), found), {_COUNTS: counts}, seal=_SEAL, durable=False)


def _file(kept: Path, found: LabelledFiles) -> Path:
    return kept / f"{found.labels_fingerprint()}.safetensors"


def _load(path: Path, images: int) -> Counts | None:
    try:
        with TensorFile(path) as file:
            file.check_seal(_SEAL)
            counts = file.tensor(_COUNTS)
    except (ModelFileError, KeyError):  # it isn't there, or is damaged: count again
        return None
    fits = counts.shape == (images, len(CLASSES)) and counts.dtype == np.int32
    return counts.view(np.int32) if fits else None
