"""From settings to data: what training is fed, and what models are judged on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from client.data import datasets, listing, statistics
from client.data.cutting import fitted, resized, resized_labels
from client.data.datasets import LabelledImages
from client.data.disk import DiskFeed
from client.data.feed import Feed
from client.data.listing import LabelledFiles
from client.data.memory import MemoryFeed
from client.data.rare import RareClassSampler
from client.data.reading import read_image, read_labels
from client.data.settings import DataSettings, ImageFolder, SceneData
from client.data.statistics import Say, quiet
from protos.errors import DataError

STATISTICS = "statistics"
"""The folder, below the site's, where class statistics are kept."""


def open_feed(settings: DataSettings, home: Path, *, batch: int, seed: int, say: Say = quiet) -> Feed:
    """Open what training is fed.

    For folders with rare-class sampling, the classes of all source images are counted the first time, which takes
    minutes for a large data set; the counts are kept in ``statistics/`` below `home`.

    Args:
        settings: ``[data]`` of ``site.toml``.
        home: The site's folder.
        batch: Source images, and as many target images, for each step; of all processes together.
        seed: Seed of the draws.
        say: Called while classes are counted.

    Raises:
        DataError: Something is missing, can't be read, or isn't what it should be.
        StorageError: The counts can't be kept.
        ConfigurationError: Unknown domain of scenes, or an impossible size or seed.

    """
    if isinstance(settings, SceneData):
        return MemoryFeed(datasets.scene_source(settings), datasets.scene_target(settings), batch, seed)
    source = listing.labelled(settings.source, home)
    target = listing.unlabelled(settings.target, home)
    sampler = None
    if settings.rare_classes.on:
        counts = statistics.class_counts(source, home / STATISTICS, say)
        sampler = RareClassSampler.of(counts, settings.rare_classes)
    return DiskFeed(source, target, settings, sampler, batch, seed)


def unlabelled_batches(settings: DataSettings, home: Path, *, most: int, batch: int) -> Iterator[Tensor]:
    """Yield some of a site's own images as they are judged: whole, and in an order that mixes them.

    Args:
        settings: ``[data]`` of ``site.toml``.
        home: The site's folder.
        most: How many images, at most; of folders, evenly picked.
        batch: How many at a time; folders of large images come one by one.

    Yields:
        uint8 (N, 3, H, W), RGB.

    Raises:
        DataError: There are none, or one can't be read.

    """
    if isinstance(settings, SceneData):
        # Scenes are rendered, which takes longer than to look at them; each is as good as any other.
        images = datasets.scene_target(replace(settings, target_images=min(settings.target_images, most))).images
        for part in torch.split(_picked(len(images), most), batch):
            yield images[part]
        return
    files = listing.unlabelled(settings.target, home)
    box = settings.evaluation.resize if settings.evaluation is not None else ()
    for at in _picked(len(files), most).tolist():
        image = read_image(files.images[at])
        if box:
            image = resized(image, fitted(image.shape[:2], (box[0], box[1])))
        yield torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


def _picked(count: int, most: int) -> Tensor:
    """Return numbers of images, evenly picked, in a mixed order that is always the same."""
    found = torch.linspace(0, count - 1, min(count, most)).round().long()
    return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]


@dataclass(frozen=True, eq=False)
class FileEvaluation:
    """Labelled image files to judge models on, read one at a time, as often as they are iterated over.

    Attributes:
        files: Images with labels.
        part: How they are resized: both images and labels, if at all.

    """

    files: LabelledFiles
    part: ImageFolder

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[LabelledImages]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> LabelledImages:
        """Read one image, as a set of one.

        Raises:
            DataError: It or its labels can't be read, or don't fit.
            IndexError: There are not so many.

        """
        image = read_image(self.files.images[at])
        labels = read_labels(self.files.labels[at], self.files.codings[at], image.shape[:2])
        if self.part.resize:
            size = fitted(labels.shape, (self.part.resize[0], self.part.resize[1]))
            image, labels = resized(image, size), resized_labels(labels, size)
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
        return LabelledImages(pixels, torch.from_numpy(labels)[None].contiguous())


@dataclass(frozen=True, eq=False)
class SceneEvaluation:
    """Labelled scenes to judge models on, all of them in memory.

    Attributes:
        images: They.

    """

    images: LabelledImages

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[LabelledImages]:
        return iter((self.images,))

    def __getitem__(self, at: int) -> LabelledImages:
        """Return one image, as a set of one."""
        return LabelledImages(self.images.images[at : at + 1], self.images.labels[at : at + 1])


Evaluation = FileEvaluation | SceneEvaluation
"""Iterate for sets of one image or more, all of one size in a set; index for one image; ``len`` counts images."""


def open_evaluation(settings: DataSettings, home: Path) -> Evaluation:
    """Open a site's held-out labelled images.

    Args:
        settings: ``[data]`` of ``site.toml``.
        home: The site's folder.

    Raises:
        DataError: There are none, or something is missing.
        ConfigurationError: Unknown domain of scenes, or an impossible size or seed.

    """
    if isinstance(settings, SceneData):
        return SceneEvaluation(datasets.scene_evaluation(settings))
    if settings.evaluation is None:
        raise DataError("there are no held-out labelled images", "name some in site.toml: [data.evaluation]")
    return FileEvaluation(listing.labelled(settings.evaluation, home), settings.evaluation)
