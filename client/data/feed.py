"""What training is fed: for each step one batch, which is a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from torch import Tensor

from protos.errors import ConfigurationError

_FEED: Final = 0xFEED
"""Sets these random numbers apart from others that are drawn from a seed and a step."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from. On the CPU; all images of a batch have one size.

    Attributes:
        source: uint8 (N, 3, H, W), RGB.
        labels: uint8 (N, H, W), train ids of ``source``; 255 = ignore.
        target: uint8 (N, 3, H, W), the site's own images; they have no labels. (0, 3, H, W) where a base is
            trained, from labelled images alone.

    """

    source: Tensor
    labels: Tensor
    target: Tensor


class Feed(Protocol):
    """Where batches come from."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """What the batches depend on, short: kept in checkpoints, so that no run continues on other data."""

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the batches of steps first … last − 1, the same ones wherever the run began.

        Close the iterator (or use it up) when no more are wanted, so that whatever reads ahead ends.
        """

    def share(self, rank: int, ranks: int) -> Feed:
        """Return what one of several processes is fed: its part of each of the very same batches.

        Args:
            rank: Which process, from 0.
            ranks: How many there are; their parts together are what one process alone would get.

        Raises:
            ConfigurationError: A batch can't be divided by so many.

        """


def dice(seed: int, step: int, place: int) -> np.random.Generator:
    """Return the random numbers for one place of one step's batch, which depend on nothing else.

    They are not those that training draws from the same seed and step.
    """
    return np.random.default_rng(np.random.SeedSequence((_FEED, seed, step, place)))


def places(batch: int, rank: int, ranks: int) -> range:
    """Return which places of a batch are one process's.

    Raises:
        ConfigurationError: A batch can't be divided by so many.

    """
    if batch % ranks or not 0 <= rank < ranks:
        raise ConfigurationError(
            f"a batch of {batch} images can't be divided among {ranks} processes",
            f"set adapt.batch to a multiple of {ranks}, or use another number of GPUs",
        )
    each = batch // ranks
    return range(rank * each, (rank + 1) * each)
