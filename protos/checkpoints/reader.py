"""What the merge asks of an open model, whatever file it lies in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from protos.manifest import Manifest


class ModelReader(Protocol):
    """An open model; `protos.tensorfile.TensorFile` and `protos.checkpoints.ModelFile` are two."""

    @property
    def path(self) -> Path:
        """The file, or the folder of its files."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """Free strings of a safetensors header."""
        ...

    @property
    def manifest(self) -> Manifest:
        """Names, dtypes and shapes of all tensors."""
        ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop` of a tensor, flat, as NumPy stores its dtype."""
        ...

    def tensor(self, name: str) -> npt.NDArray[np.generic]:
        """Read a whole tensor in its shape."""
        ...

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yield a tensor's raw bytes piece by piece."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...
