"""What training is fed: for each step one batch, which is a function of (seed, step) alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from. On the CPU; all images of a batch have one size.

    Attributes:
        source: uint8 (N, 3, H, W), RGB.
        labels: uint8 (N, H, W), train ids of ``source``; 255 = ignore.
        target: uint8 (N, 3, H, W), the site's own images; they have no labels.

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
        """Yield the batches of steps first … last − 1, the same ones wherever the run began."""
