"""What every kind of model file offers to `ModelFile`: tensors by the keys that the file itself uses."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from protos.manifest import TensorSpec


class Kind(StrEnum):
    """The kinds of model files."""

    SAFETENSORS = "safetensors"
    SHARDED = "sharded safetensors"
    TORCH = "torch checkpoint"


class Source(Protocol):
    """An open file, or several that belong together.

    Attributes:
        path: What was opened.
        kind: Which kind it is.
        files: All files that it consists of.
        metadata: Free strings of a safetensors header.
        skipped: Keys of its state dict that hold no tensor.

    """

    path: Path
    kind: Kind
    files: tuple[Path, ...]
    metadata: Mapping[str, str]
    skipped: tuple[str, ...]

    @property
    def keys(self) -> Sequence[str]:
        """All tensors' keys."""
        ...

    @property
    def meta(self) -> Mapping[str, object]:
        """The notes that training left beside the weights, as plain values."""
        ...

    def spec(self, key: str) -> TensorSpec:
        """Return a tensor's dtype and shape, once everything about it was checked."""
        ...

    def region(self, key: str) -> Hashable:
        """Return what two tensors have in common if they are one in the file; None if that can't be."""
        ...

    def read(self, key: str, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop`, flat, as NumPy stores the dtype."""
        ...

    def verify(self) -> None:
        """Read everything, and compare with the checksums if there are any."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...
