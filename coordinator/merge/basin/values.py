"""Reading a tensor's values to compute with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from protos.checkpoints.reader import ModelReader
from protos.errors import ModelFileError


def finite(reader: ModelReader, name: str) -> npt.NDArray[np.float32]:
    """Read a floating tensor in its shape.

    Raises:
        ModelFileError: A value is NaN or infinite, which would make everything that is computed from it so.

    """
    values = reader.manifest.tensors[name].dtype.widen(reader.tensor(name))
    if not np.isfinite(values).all():
        raise ModelFileError(
            f"{reader.path}: {name} has values that are NaN or infinite",
            "its training diverged, or the file is damaged: take an earlier checkpoint",
        )
    return values
