"""Permutations of a model's channels, and a model that is read through them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from coordinator.merge.basin.table import Axes, Table
from protos import tensorfile
from protos.checkpoints.reader import ModelReader
from protos.closing import Closing
from protos.errors import ModelFileError
from protos.manifest import Manifest

_Scalar = TypeVar("_Scalar", bound=np.generic)

Order = npt.NDArray[np.intp]
"""A permutation: channel i of the result is channel ``order[i]`` of the original."""


class Permutations:
    """An order for each group of a table; groups without one stay in place.

    Attributes:
        table: The groups, and which tensors carry them.
        orders: The orders of the groups in which something moves.

    Args:
        table: The groups.
        orders: Permutations by the group's name.

    Raises:
        ValueError: An order is no permutation of its group, tears a head of attention apart, or is of a fixed
            group.

    """

    def __init__(self, table: Table, orders: Mapping[str, Order] | None = None) -> None:
        self.table = table
        self.orders: dict[str, Order] = {}
        self._take(orders or {})

    def changed(self, orders: Mapping[str, Order]) -> Permutations:
        """Return these with some groups' orders replaced.

        Raises:
            ValueError: See above.

        """
        made = Permutations(self.table)
        made.orders = dict(self.orders)
        made._take(orders)
        return made

    def _take(self, orders: Mapping[str, Order]) -> None:
        for name, order in orders.items():
            group = self.table.groups[name]
            places = np.arange(group.size)
            if not np.array_equal(np.sort(order), places):
                raise ValueError(f"the order of {name} is no permutation of its {group.size} channels")
            self.orders.pop(name, None)
            if not np.array_equal(order, places):
                self.orders[name] = np.asarray(order, np.intp)
        for name in orders:
            group = self.table.groups[name]
            if group.fixed and name in self.orders:
                raise ValueError(f"{name} is fixed: {group.fixed}")
            if group.heads > 1:
                self._check_heads(name)

    def _check_heads(self, name: str) -> None:
        group = self.table.groups[name]
        family = [one for one, other in self.table.groups.items() if one == name or other.tied == group.tied != ""]
        heads = [self.order(one).reshape(group.heads, -1) // (group.size // group.heads) for one in family]
        if any((found != heads[0][:, :1]).any() for found in heads):
            raise ValueError(f"the order of {name} tears heads apart")

    def order(self, group: str) -> Order:
        """Return a group's order."""
        found = self.orders.get(group)
        return np.arange(self.table.groups[group].size) if found is None else found

    def in_place(self, group: str) -> float:
        """Return the share of a group's channels that stay where they are, 0…1."""
        order = self.orders.get(group)
        return 1.0 if order is None else float(np.mean(order == np.arange(len(order))))

    @property
    def share(self) -> float:
        """The share of all channels that may move and stay where they are, 0…1."""
        free = {name: group.size for name, group in self.table.groups.items() if not group.fixed}
        return sum(self.in_place(name) * size for name, size in free.items()) / sum(free.values()) if free else 1.0

    @property
    def is_identity(self) -> bool:
        """Whether everything stays where it is."""
        return not self.orders

    def axes(self, tensor: str) -> list[Order | None]:
        """Return the order along each axis of a tensor; None where it stays as it is."""
        return [
            self._along(channels) if any(group in self.orders for group in channels) else None
            for channels in self.table.axes[tensor]
        ]

    def apply(self, tensor: str, values: npt.NDArray[_Scalar], *, but: int | None = None) -> npt.NDArray[_Scalar]:
        """Put a tensor's channels in order.

        Args:
            tensor: Its name.
            values: Its values, in its shape.
            but: An axis to leave as it is.

        Returns:
            A new array, or `values` if nothing moves.

        """
        for axis, order in enumerate(self.axes(tensor)):
            if order is not None and axis != but:
                values = np.take(values, order, axis)
        return values

    def _along(self, channels: tuple[str, ...]) -> Order:
        parts, start = [], 0
        for group in channels:
            parts.append(self.order(group) + start)
            start += self.table.groups[group].size
        return np.concatenate(parts)


class Permuted(Closing):
    """A model whose channels are in another order: the same function, if the table is right.

    Args:
        reader: The model; closed with this.
        permutations: The orders.

    Raises:
        ModelFileError: The permutations are for another architecture.

    """

    def __init__(self, reader: ModelReader, permutations: Permutations) -> None:
        self._reader = reader
        self._permutations = permutations
        # A tensor is gathered as a whole but read in pieces, several tensors at a time by as many threads: each
        # thread keeps its last one.
        self._last = threading.local()
        _check(reader, permutations.table.axes)

    @property
    def path(self) -> Path:
        """The file that the model is in."""
        return self._reader.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Free strings of a safetensors header."""
        return self._reader.metadata

    @property
    def manifest(self) -> Manifest:
        """Names, dtypes and shapes of all tensors; no permutation changes them."""
        return self._reader.manifest

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop` of a tensor, flat, as NumPy stores its dtype.

        Raises:
            ModelFileError: The file got shorter since it was opened.

        """
        if not self._moved(name):
            return self._reader.read(name, start, stop)
        last = self.manifest.tensors[name].size if stop is None else stop
        return self._gathered(name)[start:last].copy()

    def tensor(self, name: str) -> npt.NDArray[np.generic]:
        """Read a whole tensor in its shape."""
        return self.read(name).reshape(self.manifest.tensors[name].shape)

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yield a tensor's raw little-endian bytes, `protos.tensorfile.CHUNK` at a time."""
        if not self._moved(name):
            yield from self._reader.chunks(name)
            return
        spec = self.manifest.tensors[name]
        step = tensorfile.CHUNK // spec.dtype.storage.itemsize
        for start in range(0, spec.size, step):
            yield self.read(name, start, min(start + step, spec.size)).data.cast("B")

    def close(self) -> None:
        """Close the model."""
        self._reader.close()

    def _moved(self, name: str) -> bool:
        return any(group in self._permutations.orders for group in self._permutations.table.of(name))

    def _gathered(self, name: str) -> npt.NDArray[np.generic]:
        if getattr(self._last, "name", None) != name:
            self._last.name = self._last.values = None  # free the one before first
            values = self._permutations.apply(name, self._reader.tensor(name))
            self._last.name, self._last.values = name, values.reshape(-1)
        found: npt.NDArray[np.generic] = self._last.values
        return found


def permuted(reader: ModelReader, permutations: Permutations) -> ModelReader:
    """Return the model with its channels in another order, to be read like any other; see `Permuted`."""
    return Permuted(reader, permutations)


def _check(reader: ModelReader, axes: Mapping[str, Axes]) -> None:
    found = {name: len(spec.shape) for name, spec in reader.manifest.tensors.items()}
    wanted = {name: len(channels) for name, channels in axes.items()}
    if found != wanted:
        name = min(found.items() ^ wanted.items())[0]
        raise ModelFileError(
            f"{reader.path} is of another architecture than the permutations: {name} differs",
            "align it first, and take the permutations that come of it",
        )
