"""The merge state: the additive sums that updates fold into.

Everything that can be merged is a *term*: a site's update, or a state that other updates were folded into
before. A merge is a sum of weighted terms, whatever it is called: folding adds an update to a state, withdrawing
takes one away (weight −1), a region's state is a term of the state above it, resuming is adding to the state on
disk. All of these are `write_sum`.

A state is a safetensors file: ``sum:<parameter>`` int64 fixed-point sums, per BatchNorm layer the exact integers
of `StatisticSums` as bytes, and a seal over all of it. Its metadata carries the base's digest, the number of
models, the digests of the updates and the tokens of the sites inside. It is written chunk by chunk, so memory
doesn't grow with the model or with the number of sites.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from coordinator.merge.sums import BlockSum, ParameterSum
from protos import dtypes, fixedpoint
from protos.boundary import Statistics
from protos.checkpoints.reader import ModelReader
from protos.closing import Closing
from protos.digest import short
from protos.errors import MergeRangeError, ModelFileError, UpdateRefusedError
from protos.manifest import Manifest, TensorSpec
from protos.statistics import StatisticSums
from protos.tensorfile import TensorFile, write_tensors

FORMAT = "onebasin-merge-state/3"
_DAMAGED = "it is damaged or of another base: remove it and collect the updates again"
SEAL = "seal"
BLOCK = 1 << 16
"""Elements that are added up at a time: a float32 block and two of 64 bits fit in a core's cache."""


class Term(Protocol):
    """What can be added to a merge state."""

    @property
    def models(self) -> int:
        """How many sites' models it stands for."""

    @property
    def digests(self) -> frozenset[str]:
        """The updates inside, by digest (hexadecimal)."""

    @property
    def sites(self) -> frozenset[str]:
        """The sites inside, by token (`protos.regions.token`), as far as they are known; several of a region."""

    def add(self, name: str, start: int, stop: int, to: BlockSum, weight: int) -> None:
        """Add elements of a parameter to a sum of them."""

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's sums."""


Terms = Sequence[tuple[int, Term]]
"""Weights and terms. Weights are whole, negative to take a term away, and weight parameters: statistics have their
batches."""
Adder = Callable[[int], BlockSum]
"""Makes the sum of a block from its size."""


class Update(Closing):
    """A single model as a term: an open file that holds its parameters, and its statistics.

    Args:
        file: A file with all of the base's parameters.
        statistics: Each BatchNorm layer's statistics.
        digest: The update's digest.
        site: Whose it is.
        sites: The site's token, if it is known.

    """

    models = 1

    def __init__(
        self,
        file: ModelReader,
        statistics: Statistics,
        digest: bytes,
        site: str,
        sites: frozenset[str] = frozenset(),
    ) -> None:
        self._file = file
        self._statistics = statistics
        self.digests = frozenset([digest.hex()])
        self.sites = sites
        self._site = site

    def add(self, name: str, start: int, stop: int, to: BlockSum, weight: int) -> None:
        """Add elements of a parameter to a sum of them.

        Raises:
            UpdateRefusedError: A value is not finite.
            MergeRangeError: A value is out of range.

        """
        dtype = self._file.manifest.tensors[name].dtype
        values = dtype.widen(self._file.read(name, start, stop))
        fixedpoint.check_values(values, self._site, name)
        to.add_values(values, weight)

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's statistics as sums."""
        return StatisticSums.of(self._statistics[layer])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class MergeState(Closing):
    """A merge state's file, open for reading. It is a term itself.

    Attributes:
        base: The base's digest.

    Raises:
        ModelFileError: The file is missing, damaged, or no merge state.

    """

    def __init__(self, path: Path) -> None:
        self._file = TensorFile(path)
        try:
            if self._file.metadata["format"] != FORMAT:
                raise KeyError("format")
            self.base = bytes.fromhex(self._file.metadata["base"])
            self.models = int(self._file.metadata["models"])
            self.digests = frozenset[str](json.loads(self._file.metadata["digests"]))
            self.sites = frozenset[str](json.loads(self._file.metadata["sites"]))
        except (KeyError, ValueError, TypeError) as error:
            self._file.close()
            raise ModelFileError(f"{path} is not a merge state of this version") from error

    def add(self, name: str, start: int, stop: int, to: BlockSum, weight: int) -> None:
        """Add elements of a parameter to a sum of them."""
        try:
            to.add_ints(self._file.read(f"sum:{name}", start, stop).view(np.int64), weight)
        except KeyError:
            raise ModelFileError(f"{self._file.path} holds no sum of {name}", _DAMAGED) from None

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's sums."""
        try:
            parts = {part: self._file.tensor(f"{part}:{layer}").view(np.uint8) for part in StatisticSums.widths(0)}
        except KeyError:
            raise ModelFileError(f"{self._file.path} holds no sums of {layer}", _DAMAGED) from None
        return StatisticSums.from_bytes(parts)

    def check(self) -> None:
        """Read all of it and compare it with its seal.

        Raises:
            ModelFileError: A bit of it is not as it was written.

        """
        self._file.check_seal(SEAL)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_sum(path: Path, base: Manifest, base_digest: bytes, terms: Terms) -> None:
    """Write the sum of weighted terms as a merge state, atomically: all of it or nothing.

    Args:
        path: The state's file; replaced if it is there. A term may be the state that is open on it.
        base: Names, shapes and dtypes of what is merged.
        base_digest: The base's digest.
        terms: Pairs of a weight and a term.

    Raises:
        UpdateRefusedError: An update or a site is added that is inside already, or taken away that is not; or a
            value is not finite.
        ModelFileError: A state among the terms is damaged, or of another base.
        MergeRangeError: A value, or the number of models, is out of range.
        StorageError: The disk is full.

    """
    for _, term in terms:
        if isinstance(term, MergeState) and term.base != base_digest:
            raise ModelFileError(
                f"a merge state is of base {short(term.base)}, not of {short(base_digest)}",
                "models can be merged only with others of the same base",
            )
    digests = _combined(terms, lambda term: term.digests, "update")
    sites = _combined(terms, lambda term: term.sites, "site")
    models = total_models(terms)
    sums = {f"sum:{name}": name for name in base.parameters}
    specs = {key: TensorSpec(dtypes.INT64, base.parameters[name].shape) for key, name in sums.items()}
    statistics: dict[str, bytes] = {}
    for layer, channels in base.layers.items():
        for part, packed in statistic_sum(terms, layer, channels).to_bytes().items():
            specs[f"{part}:{layer}"] = TensorSpec(dtypes.UINT8, packed.shape)
            statistics[f"{part}:{layer}"] = packed.tobytes()

    def content(key: str) -> Iterator[bytes | memoryview]:
        if key in statistics:
            yield statistics[key]
        else:
            for total in block_sums(terms, sums[key], specs[key].size):
                yield total.ints().data.cast("B")

    metadata = {
        "format": FORMAT,
        "base": base_digest.hex(),
        "models": str(models),
        "digests": json.dumps(sorted(digests)),
        "sites": json.dumps(sorted(sites)),
    }
    write_tensors(path, specs, content, metadata, seal=SEAL)


def total_models(terms: Terms) -> int:
    """Return how many models a sum of terms stands for.

    Raises:
        MergeRangeError: They are more than a sum has room for.

    """
    if sum(abs(weight) * term.models for weight, term in terms) > fixedpoint.MAX_MODELS:
        raise MergeRangeError(
            f"{sum(abs(weight) * term.models for weight, term in terms)} models are more than the "
            f"{fixedpoint.MAX_MODELS} that one sum has room for"
        )
    return sum(weight * term.models for weight, term in terms)


def block_sums(
    terms: Terms, name: str, size: int, adder: Adder = ParameterSum, block: int = 0
) -> Iterator[BlockSum]:
    """Add a parameter up over weighted terms, block by block; each sum is to be used before the next is taken.

    Args:
        terms: What to add.
        name: The parameter.
        size: How many elements it has.
        adder: Makes the sum of a block from its size.
        block: Elements in a block; by default `BLOCK`.

    """
    step = block or BLOCK
    total = adder(min(size, step))
    for start, stop in blocks(size, step):
        total.start(stop - start)
        for weight, term in terms:
            term.add(name, start, stop, total, weight)
        yield total


def statistic_sum(terms: Terms, layer: str, channels: int) -> StatisticSums:
    """Add up a layer's sums over terms. They have weights of their own, so only the sign of a term's counts."""
    total = StatisticSums.zero(channels)
    for weight, term in terms:
        total = total.plus(term.statistics(layer), 1 if weight > 0 else -1)
    return total


def blocks(size: int, block: int = 0) -> Iterator[tuple[int, int]]:
    """Cut a tensor of so many elements into ranges of at most `block` (by default `BLOCK`)."""
    step = block or BLOCK
    for start in range(0, size, step):
        yield start, min(start + step, size)


def _combined(terms: Terms, named: Callable[[Term], frozenset[str]], what: str) -> frozenset[str]:
    inside: frozenset[str] = frozenset()
    for sign, term in sorted(terms, key=lambda pair: -pair[0]):
        names = named(term)
        if sign > 0 and (twice := inside & names):
            raise UpdateRefusedError(
                f"{what} {min(twice)[:12]} is in the merge already", f"each {what} counts once"
            )
        if sign < 0 and (unknown := names - inside):
            raise UpdateRefusedError(f"{what} {min(unknown)[:12]} is not in the merge, so it can't be taken out")
        inside = inside | names if sign > 0 else inside - names
    return inside
