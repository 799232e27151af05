"""From the merge state to the merged model: the mid-point of the parameters, and pooled buffers.

Source: Li et al., ECCV 2024 (arXiv 2407.13771): θ = (1/k) Σ θᵢ, and the Gaussian pooling of `statistics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from coordinator.merge.state import Term, blocks, parameter_sum, statistic_sum
from protos import fixedpoint
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError
from protos.manifest import COUNT, MEAN, STATISTICS, VAR, Manifest
from protos.tensorfile import TensorFile, write_tensors

Terms = Sequence[tuple[int, Term]]


def pooled_statistics(terms: Terms, base: Manifest) -> dict[str, BatchNorm]:
    """Return each layer's Gaussian-pooled statistics."""
    return {layer: statistic_sum(terms, layer, channels).pooled(layer) for layer, channels in base.layers.items()}


def write_midpoint(
    path: Path,
    base: TensorFile,
    terms: Terms,
    buffers: Mapping[str, BatchNorm],
    metadata: Mapping[str, str],
) -> None:
    """Write the merged model as safetensors in the base's dtypes and order, chunk by chunk.

    Args:
        path: Where to.
        base: The base; its buffers that are no statistics are copied.
        terms: What to merge.
        buffers: Each BatchNorm layer's statistics, e.g. `pooled_statistics`.
        metadata: Strings for the file's header.

    Raises:
        MergeRangeError: A pooled statistic is more than the base's dtype holds.
        StorageError: The disk is full.

    """
    manifest = base.manifest
    models = sum(sign * term.models for sign, term in terms)

    def content() -> Iterator[tuple[str, Iterator[bytes | memoryview]]]:
        for name in manifest.tensors:
            layer, _, last = name.rpartition(".")
            if name in manifest.parameters:
                yield name, _midpoint(manifest, terms, models, name)
            elif last in STATISTICS:
                yield name, iter([_statistic(manifest, name, buffers[layer]).tobytes()])
            else:
                yield name, base.chunks(name)

    write_tensors(path, manifest.tensors, content(), metadata)


def _midpoint(manifest: Manifest, terms: Terms, models: int, name: str) -> Iterator[bytes]:
    spec = manifest.parameters[name]
    for start, stop in blocks(spec.size):
        mean = fixedpoint.mean(parameter_sum(terms, name, start, stop), models)
        yield spec.dtype.narrow(mean).tobytes()


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
