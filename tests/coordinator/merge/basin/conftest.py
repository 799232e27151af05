"""Networks as arrays, files of them, and random orders of their channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import nn

from client.models import build
from coordinator.merge.basin.architectures import table_of
from coordinator.merge.basin.permutations import Permutations
from coordinator.merge.basin.table import Table
from protos import dtypes
from protos.manifest import TensorSpec
from protos.tensorfile import TensorFile

Arrays = dict[str, np.ndarray]


def lively(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm, statistic and bias values of its own: zeros and ones would hide a misplaced channel."""
    dice = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 1:
            noise = torch.rand(tensor.shape, generator=dice)
            centred = name.endswith(("bias", "running_mean"))
            tensor.copy_((noise - 0.5) / 5 if centred else noise + 0.5)
    return network.eval()


def arrays_of(network: nn.Module) -> Arrays:
    return {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()}


def specs_of(arrays: Mapping[str, np.ndarray]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(dtypes.by_name(str(array.dtype)), array.shape) for name, array in arrays.items()}


def shuffle(table: Table, seed: int) -> Permutations:
    """Draw an order for every group that may change."""
    dice = np.random.default_rng(seed)
    orders = {}
    for family in table.families:
        heads = table.groups[family[0]].heads
        outer = dice.permutation(heads)
        for name in family:
            width = table.groups[name].size // heads
            orders[name] = np.concatenate([dice.permutation(width) + head * width for head in outer])
    return Permutations(table, orders)


def reorder(arrays: Mapping[str, np.ndarray], orders: Permutations) -> Arrays:
    return {name: orders.apply(name, array) for name, array in arrays.items()}


def noisy(arrays: Mapping[str, np.ndarray], seed: int, share: float = 0.2) -> Arrays:
    """Add noise to all weights, as adaptation does: so much of each tensor's own norm."""
    dice = np.random.default_rng(seed)
    found = {}
    for name, array in arrays.items():
        size = share * float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) if array.ndim > 1 else 0.0
        found[name] = (array + size * dice.normal(size=array.shape)).astype(array.dtype)
    return found


@pytest.fixture(scope="session")
def make_lively() -> Callable[..., nn.Module]:
    """Return `lively`."""
    return lively


@pytest.fixture(scope="session")
def in_arrays() -> Callable[[nn.Module], Arrays]:
    """Return `arrays_of`."""
    return arrays_of


@pytest.fixture(scope="session")
def specs_in() -> Callable[[Mapping[str, np.ndarray]], dict[str, TensorSpec]]:
    """Return `specs_of`."""
    return specs_of


@pytest.fixture(scope="session")
def shuffled() -> Callable[[Table, int], Permutations]:
    """Return `shuffle`."""
    return shuffle


@pytest.fixture(scope="session")
def reordered() -> Callable[[Mapping[str, np.ndarray], Permutations], Arrays]:
    """Return `reorder`."""
    return reorder


@pytest.fixture(scope="session")
def with_noise() -> Callable[..., Arrays]:
    """Return `noisy`."""
    return noisy


@pytest.fixture(scope="session")
def tiny() -> Arrays:
    return arrays_of(lively(build("tiny-resnet", 19, seed=1)))


@pytest.fixture(scope="session")
def stranger() -> Arrays:
    """The same architecture, from another initialisation."""
    return arrays_of(lively(build("tiny-resnet", 19, seed=2), seed=2))


@pytest.fixture(scope="session")
def tiny_table(tiny: Arrays) -> Table:
    return table_of(specs_of(tiny))


@pytest.fixture
def opened(tmp_path, saved) -> Iterator[Callable[[Mapping[str, np.ndarray]], TensorFile]]:
    """Return a function that writes arrays as a file and opens it."""
    with ExitStack() as stack:

        def make(arrays: Mapping[str, np.ndarray]) -> TensorFile:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.safetensors"
            return stack.enter_context(TensorFile(saved(path, arrays)))

        yield make
