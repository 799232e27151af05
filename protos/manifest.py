"""What a model consists of: its tensors' names, shapes and dtypes, and the role that each plays.

Roles are found by structure. A BatchNorm layer is a complete triple ``X.running_mean``, ``X.running_var`` and
``X.num_batches_tracked`` of fitting shapes, whatever X is called. Any other floating tensor is a parameter, and
what is left (integers, booleans) is a buffer that nobody merges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType

from protos.dtypes import DType
from protos.errors import ModelFileError

MEAN, VAR, COUNT = "running_mean", "running_var", "num_batches_tracked"
STATISTICS = (MEAN, VAR, COUNT)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor's dtype and shape."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Count its elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Count its bytes."""
        return self.size * self.dtype.storage.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"


@dataclass(frozen=True)
class Manifest:
    """All tensors of a model by name, in ascending order of name.

    Raises:
        ModelFileError: A BatchNorm layer's triple is incomplete or its shapes don't fit each other.

    """

    tensors: Mapping[str, TensorSpec]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(sorted(self.tensors.items()))))
        for name in self.tensors:
            layer, _, last = name.rpartition(".")
            if last in STATISTICS:
                self._check_triple(layer)

    @cached_property
    def layers(self) -> Mapping[str, int]:
        """BatchNorm layers with their channels, in ascending order."""
        found = sorted(name.rpartition(".")[0] for name in self.tensors if name.rpartition(".")[2] == MEAN)
        return {layer: self.tensors[join(layer, MEAN)].shape[0] for layer in found}

    @cached_property
    def parameters(self) -> Mapping[str, TensorSpec]:
        """Floating tensors that are no statistics, in ascending order of name."""
        return {
            name: spec
            for name, spec in self.tensors.items()
            if spec.dtype.floating and name.rpartition(".")[2] not in STATISTICS
        }

    @cached_property
    def buffers(self) -> tuple[str, ...]:
        """Tensors that are neither parameter nor statistic; they stay as the base has them."""
        return tuple(
            name
            for name in self.tensors
            if name not in self.parameters and name.rpartition(".")[2] not in STATISTICS
        )

    def _check_triple(self, layer: str) -> None:
        specs = {part: self.tensors.get(join(layer, part)) for part in STATISTICS}
        missing = [part for part, spec in specs.items() if spec is None]
        if missing:
            raise ModelFileError(
                f"BatchNorm layer {layer or '(top)'} has no {' and no '.join(missing)}",
                "a layer's mean, variance and count only make sense together: save the complete state_dict",
            )
        mean, var, count = specs[MEAN], specs[VAR], specs[COUNT]
        assert mean and var and count
        real = mean.dtype.floating and var.dtype.floating
        fitting = len(mean.shape) == 1 and var.shape == mean.shape and count.shape == ()
        if not (real and fitting and count.dtype.name == "int64"):
            raise ModelFileError(
                f"BatchNorm layer {layer} has mean {mean}, variance {var} and count {count}",
                "mean and variance need one real value (32 bits or fewer) per channel, and the count is one int64",
            )


def join(layer: str, part: str) -> str:
    """Name a layer's tensor, e.g. ``join("bn1", "running_mean")``."""
    return f"{layer}.{part}" if layer else part
