"""Reading a tensor's values to compute with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protos.checkpoints.reader import ModelReader
from protos.errors import ModelFileError

_LARGEST = 1e15
"""Inner products of smaller values stay below float32's largest number."""


def finite(reader: ModelReader, name: str) -> npt.NDArray[np.float32]:
    """Read a floating tensor in its shape.

    Raises:
        ModelFileError: A value is NaN, infinite or so large that everything computed from it would be.

    """
    values = reader.manifest.tensors[name].dtype.widen(reader.tensor(name))
    # Two reductions without a temporary; NaN survives both.
    low, high = values.min(initial=0.0), values.max(initial=0.0)
    if not (low > -_LARGEST and high < _LARGEST):
        kind = "too large to compare" if np.isfinite(values).all() else "NaN or infinite"
        raise ModelFileError(
            f"{reader.path}: {name} has values that are {kind}",
            "its training diverged, or the file is damaged: take an earlier checkpoint",
        )
    return values
