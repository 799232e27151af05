"""From the merge state to the merged model: the mid-point of the parameters, and pooled buffers.

Source: Li et al., ECCV 2024 (arXiv 2407.13771): θ = (1/k) Σ θᵢ, and the Gaussian pooling of `protos.statistics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from coordinator.merge.state import Adder, Terms, block_sums, statistic_sum, total_models
from coordinator.merge.sums import ParameterSum
from protos import merged
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError
from protos.manifest import STATISTICS, Manifest
from protos.tensorfile import write_tensors


class Source(Protocol):
    """A model to take what is not merged from."""

    @property
    def manifest(self) -> Manifest:
        """Its tensors."""

    def chunks(self, name: str) -> Iterable[bytes | memoryview]:
        """Yield a tensor's raw bytes."""


def pooled_statistics(terms: Terms, base: Manifest) -> dict[str, BatchNorm]:
    """Return each layer's Gaussian-pooled statistics.

    Raises:
        MergeRangeError: There is nothing to merge, a layer saw no batches, or its statistics are out of range.

    """
    _some(terms)
    return {layer: statistic_sum(terms, layer, channels).pooled(layer) for layer, channels in base.layers.items()}


def merged_content(
    base: Source,
    terms: Terms,
    buffers: Mapping[str, BatchNorm],
    adder: Adder = ParameterSum,
    block: int = 0,
) -> Callable[[str], Iterator[bytes | memoryview]]:
    """Return what yields the merged model's tensors, in the base's dtypes, chunk by chunk.

    Args:
        base: The base; its buffers that are no statistics are copied.
        terms: What to merge.
        buffers: Each BatchNorm layer's statistics, e.g. `pooled_statistics`.
        adder: Makes the sum of a block; see `block_sums`.
        block: Elements in a block.

    Raises:
        MergeRangeError: There is nothing to merge. While it is read: a value is out of range, or a pooled
            statistic is more than the base's dtype holds.

    """
    manifest, models = base.manifest, _some(terms)

    def content(name: str) -> Iterator[bytes | memoryview]:
        layer, _, last = name.rpartition(".")
        if name in manifest.parameters:
            spec = manifest.parameters[name]
            for total in block_sums(terms, name, spec.size, adder, block):
                yield spec.dtype.narrow(total.mean(models)).data.cast("B")
        elif last in STATISTICS:
            yield merged.statistic(manifest, name, buffers[layer]).tobytes()
        else:
            yield from base.chunks(name)

    return content


def write_midpoint(
    path: Path, base: Source, terms: Terms, buffers: Mapping[str, BatchNorm], metadata: Mapping[str, str]
) -> dict[str, bytes]:
    """Write the merged model as safetensors; see `merged_content`.

    Returns:
        The SHA-256 of each tensor's bytes.

    Raises:
        StorageError: The disk is full.

    """
    content = merged_content(base, terms, buffers)
    return write_tensors(path, base.manifest.tensors, content, metadata)


def _some(terms: Terms) -> int:
    models = total_models(terms)
    if models < 1:
        raise MergeRangeError("there is nothing to merge: no model is in the sum", "add one first")
    return models
