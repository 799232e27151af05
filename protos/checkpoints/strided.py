"""Elements of a view that don't lie one after the other: slices, transposed and channels-last tensors."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from protos.checkpoints.rawfile import RawFile
from protos.checkpoints.standins import Tensor


def gather(
    file: RawFile, place: int, storage: np.dtype[np.generic], tensor: Tensor, start: int, stop: int
) -> npt.NDArray[np.generic]:
    """Read elements `start` to `stop` of a view in its own (row-major) order, flat.

    What is read at once is the run of bytes from the first to the last of the outermost rows that are asked for.
    For channels-last weights that is little more than what is returned; for a transposed matrix it is all of it.

    Args:
        file: Where to read.
        place: Where the tensor's storage starts in it.
        storage: How NumPy stores the dtype.
        tensor: The view, which lies within its storage.
        start: First element.
        stop: The element after the last.

    """
    if start >= stop:
        return np.empty(0, storage)
    offset, shape, stride = tensor.offset, tensor.shape, tensor.stride
    while shape:
        inner = prod(shape[1:])
        first, last = start // inner, (stop - 1) // inner
        offset, start, stop = offset + first * stride[0], start - first * inner, stop - first * inner
        if first != last:  # several rows: no deeper
            shape = (last - first + 1, *shape[1:])
            break
        shape, stride = shape[1:], stride[1:]
    span = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    flat = file.array(place + offset * storage.itemsize, storage, span)
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False).flat[start:stop]
