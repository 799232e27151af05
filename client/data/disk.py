"""A feed of images that are read from disk by several processes, ahead of the step that needs them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from client.data.cutting import any_window, fitted, mixed_window, resized, resized_labels, window_with
from client.data.feed import Batch, dice, places
from client.data.listing import LabelledFiles, UnlabelledFiles
from client.data.rare import RareClassSampler
from client.data.reading import read_image, read_labels
from client.data.settings import FolderData
from protos.errors import DataError, OnebasinError
from protos.parallel import cores

Bytes = npt.NDArray[np.uint8]
Arrays = tuple[Bytes, Bytes, Bytes]
_AHEAD = 2
"""Batches that each process prepares ahead."""


@dataclass(frozen=True, eq=False)
class DiskFeed:
    """Draws each step's images, cuts them, and reads ahead.

    Each place of a batch has random numbers of its own, a function of (seed, step, place). So neither the number
    of processes, nor where a run began, nor how many GPUs share a batch changes a byte of it.

    Attributes:
        source: Labelled image files.
        target: The site's own image files; none where a base is trained.
        settings: How they are cut, and by how many processes.
        sampler: Draws source images by class; None: each is as likely as any other.
        batch: Source images, and as many target images, for each step; of all processes together.
        seed: Seed of the draws.
        rank: Which of several training processes this is for.
        ranks: How many there are.

    Raises:
        ConfigurationError: A batch can't be divided by so many processes.

    """

    source: LabelledFiles
    target: UnlabelledFiles
    settings: FolderData
    sampler: RareClassSampler | None
    batch: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        places(self.batch, self.rank, self.ranks)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What the batches depend on: names and sizes of the files, not where they are."""
        s = self.settings
        boxes = [s.source.box(s.crop), s.target.box(s.crop)]
        rare = asdict(s.rare_classes) if self.sampler else None
        content = repr((boxes, s.crop, s.flip, rare, self.batch, self.seed))
        return {
            "source": self.source.fingerprint(),
            "target": self.target.fingerprint(),
            "feed": hashlib.sha256(content.encode()).hexdigest()[:16],
        }

    def share(self, rank: int, ranks: int) -> DiskFeed:
        """Return what one of several training processes is fed."""
        return replace(self, rank=rank, ranks=ranks)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of steps first … last − 1.

        Raises:
            DataError: A file can't be read, or isn't what it should be; or a reading process was ended.

        """
        workers = min(self.settings.workers, max(cores() // self.ranks, 1), max(last - first, 0))
        loader: DataLoader[Arrays | OnebasinError] = DataLoader(
            _Steps(self),
            batch_size=None,  # an item is a whole step
            sampler=range(first, last),
            num_workers=workers,
            prefetch_factor=_AHEAD if workers else None,
            collate_fn=_as_it_is,
            worker_init_fn=_begin,
            generator=torch.Generator(),  # else it would draw from, and change, the global random state
        )
        items = iter(loader)
        try:
            for _ in range(first, last):
                yield _received(items)
        finally:
            # At once, not when the garbage is collected: a process that reads ahead holds on to files and memory.
            if end := getattr(items, "_shutdown_workers", None):
                end()

    def arrays(self, step: int) -> Arrays:
        """Read one step's images, labels and target images: (N, H, W, 3), (N, H, W) and (N, H, W, 3)."""
        parts = [self._place(step, place) for place in places(self.batch, self.rank, self.ranks)]
        images, labels, targets = zip(*parts, strict=True)
        return np.stack(images), np.stack(labels), np.concatenate(targets)

    def _place(self, step: int, place: int) -> Arrays:
        drawn = dice(self.seed, step, place)
        image, labels = self._source(drawn)
        return image, labels, self._target(drawn)

    def _source(self, drawn: np.random.Generator) -> tuple[Bytes, Bytes]:
        settings, crop = self.settings, self.settings.crop
        if self.sampler:
            wanted, at = self.sampler.draw(drawn)
        else:
            wanted, at = -1, int(drawn.integers(len(self.source)))
        image = read_image(self.source.images[at])
        labels = read_labels(self.source.labels[at], self.source.codings[at], image.shape[:2])
        size = fitted(labels.shape, settings.source.box(crop), crop)
        labels = resized_labels(labels, size)
        if self.sampler:
            enough = settings.rare_classes.crop_ratio(crop) * settings.rare_classes.min_pixels
            window = window_with(labels, crop, drawn, wanted, enough)
        else:
            window = mixed_window(labels, crop, drawn)
        image, labels = window.of(resized(image, size)), window.of(labels)
        return (image[:, ::-1], labels[:, ::-1]) if self._mirror(drawn) else (image, labels)

    def _target(self, drawn: np.random.Generator) -> Bytes:
        """Return one image, or none if there are none: (1, H, W, 3) or (0, H, W, 3)."""
        crop = self.settings.crop
        if not len(self.target):
            return np.empty((0, crop, crop, 3), np.uint8)
        image = read_image(self.target.images[int(drawn.integers(len(self.target)))])
        size = fitted(image.shape[:2], self.settings.target.box(crop), crop)
        image = any_window(size, crop, drawn).of(resized(image, size))
        return (image[:, ::-1] if self._mirror(drawn) else image)[None]

    def _mirror(self, drawn: np.random.Generator) -> bool:
        return bool(drawn.random() < 0.5) and self.settings.flip


class _Steps(Dataset[Arrays | OnebasinError]):
    """A step's number → its batch. Errors are returned: raised in another process they would lose their text."""

    def __init__(self, feed: DiskFeed) -> None:
        self._feed = feed

    def __getitem__(self, step: int) -> Arrays | OnebasinError:
        try:
            return self._feed.arrays(step)
        except OnebasinError as error:
            return DataError(error.what, error.fix)


def _received(items: Iterator[Arrays | OnebasinError]) -> Batch:
    try:
        item = next(items)
    except RuntimeError as error:  # how the loader says that one of its processes is gone
        raise DataError(
            f"a process that reads images ended: {error}", "lower data.workers, or free some memory"
        ) from error
    if isinstance(item, OnebasinError):
        raise item
    images, labels, targets = (torch.from_numpy(part) for part in item)
    first, second = (part.permute(0, 3, 1, 2).contiguous() for part in (images, targets))
    return Batch(first, labels, second)


def _as_it_is(item: Any) -> Any:
    """Leave a step as arrays: tensors would travel in shared memory, of which a container has 64 MiB."""
    return item


def _begin(_: int) -> None:
    cv2.setNumThreads(0)  # one process per core; PyTorch sees to its own threads
