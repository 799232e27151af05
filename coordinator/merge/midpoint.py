"""From the merge state to the merged model: the mid-point of the parameters, and pooled buffers.

Source: Li et al., ECCV 2024 (arXiv 2407.13771): θ = (1/k) Σ θᵢ, and the Gaussian pooling of `statistics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coordinator.merge.state import Terms, block_sums, statistic_sum, total_models
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError
from protos.manifest import COUNT, MEAN, STATISTICS, VAR, Manifest
from protos.tensorfile import TensorFile, write_tensors


def pooled_statistics(terms: Terms, base: Manifest) -> dict[str, BatchNorm]:
    """Return each layer's Gaussian-pooled statistics.

    Raises:
        MergeRangeError: There is nothing to merge, a layer saw no batches, or its statistics are out of range.

    """
    _some(terms)
    return {layer: statistic_sum(terms, layer, channels).pooled(layer) for layer, channels in base.layers.items()}


def write_midpoint(
    path: Path,
    base: TensorFile,
    terms: Terms,
    buffers: Mapping[str, BatchNorm],
    metadata: Mapping[str, str],
    *,
    threads: int = 1,
    durable: bool = True,
) -> dict[str, bytes]:
    """Write the merged model as safetensors in the base's dtypes and order, chunk by chunk.

    Args:
        path: Where to.
        base: The base; its buffers that are no statistics are copied.
        terms: What to merge.
        buffers: Each BatchNorm layer's statistics, e.g. `pooled_statistics`.
        metadata: Strings for the file's header.
        threads: How many tensors are worked on at a time.
        durable: Whether to return only when it is on the disk, not in the system's cache.

    Returns:
        The SHA-256 of each tensor's bytes.

    Raises:
        MergeRangeError: There is nothing to merge, or a pooled statistic is more than the base's dtype holds.
        StorageError: The disk is full.

    """
    manifest = base.manifest
    models = _some(terms)

    def content(name: str) -> Iterator[bytes | memoryview]:
        layer, _, last = name.rpartition(".")
        if name in manifest.parameters:
            spec = manifest.parameters[name]
            for total in block_sums(terms, name, spec.size):
                yield spec.dtype.narrow(total.mean(models)).data.cast("B")
        elif last in STATISTICS:
            yield _statistic(manifest, name, buffers[layer]).tobytes()
        else:
            yield from base.chunks(name)

    return write_tensors(path, manifest.tensors, content, metadata, threads=threads, durable=durable)


def _some(terms: Terms) -> int:
    models = total_models(terms)
    if models < 1:
        raise MergeRangeError("there is nothing to merge: no model is in the sum", "add one first")
    return models


def _statistic(manifest: Manifest, name: str, found: BatchNorm) -> npt.NDArray[np.generic]:
    part = name.rpartition(".")[2]
    if part == COUNT:
        return np.asarray(found.count, "<i8")
    dtype = manifest.tensors[name].dtype
    with np.errstate(over="ignore"):
        values = dtype.narrow({MEAN: found.mean, VAR: found.var}[part])
    if not np.isfinite(dtype.widen(values)).all():
        raise MergeRangeError(
            f"the pooled {name} is more than {dtype.name} holds", "make a base in float32", tensor=name
        )
    return values
