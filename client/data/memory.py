"""A feed of images that are in memory as a whole: the scenes, and small data sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from client.data.datasets import LabelledImages, UnlabelledImages
from client.data.feed import Batch, dice, places


@dataclass(frozen=True, eq=False)
class MemoryFeed:
    """Draws each step's images at random, as they are.

    Attributes:
        source: Labelled images.
        target: The site's own images, of the same size.
        batch: Source images, and as many target images, for each step; of all processes together.
        seed: Seed of the draws.
        rank: Which of several processes this is for.
        ranks: How many there are.

    Raises:
        ConfigurationError: A batch can't be divided by so many processes.

    """

    source: LabelledImages
    target: UnlabelledImages
    batch: int
    seed: int
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        places(self.batch, self.rank, self.ranks)

    @property
    def fingerprint(self) -> dict[str, str]:
        """What the batches depend on."""
        return {
            "source": _digest(self.source.images, self.source.labels),
            "target": _digest(self.target.images),
            "feed": f"{self.batch} of memory, seed {self.seed}",
        }

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of steps first … last − 1."""
        for step in range(first, last):
            draws = [self._draw(step, place) for place in places(self.batch, self.rank, self.ranks)]
            ours, theirs = torch.tensor(draws).T
            yield Batch(self.source.images[ours], self.source.labels[ours], self.target.images[theirs])

    def share(self, rank: int, ranks: int) -> MemoryFeed:
        """Return what one of several processes is fed."""
        return replace(self, rank=rank, ranks=ranks)

    def _draw(self, step: int, place: int) -> tuple[int, int]:
        """Return the numbers of a source and a target image."""
        drawn = dice(self.seed, step, place).integers((len(self.source), len(self.target)))
        return int(drawn[0]), int(drawn[1])


def _digest(*tensors: Tensor) -> str:
    """Return a fingerprint of tensors' bytes, to notice changed data; short, for it is no signature."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]
