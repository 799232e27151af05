"""The merge state: the additive sums that updates fold into.

Everything that can be merged is a *term*: a site's update, or a state that other updates were folded into
before. A merge is a sum of signed terms, whatever it is called: folding adds an update to a state, withdrawing
takes one away, a region's state is a term of the state above it, resuming is adding to the state on disk. All
of these are `write_sum`.

A state is a safetensors file: ``sum:<parameter>`` int64 fixed-point sums, and per BatchNorm layer the exact
integers of `StatisticSums` as bytes. Its metadata carries the number of models and the digests inside. It is
written chunk by chunk, so memory doesn't grow with the model or with the number of sites.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from coordinator.merge.statistics import StatisticSums
from protos import dtypes, fixedpoint
from protos.boundary import Statistics
from protos.errors import MergeRangeError, ModelFileError, UpdateRefusedError
from protos.fixedpoint import Ints
from protos.manifest import Manifest, TensorSpec
from protos.tensorfile import TensorFile, write_tensors

FORMAT = "onebasin-merge-state/1"
_DAMAGED = "it is damaged or of another base: remove it and collect the updates again"
BLOCK = 1 << 18
"""Elements that are added up at a time: a float32, a float64 and an int64 block fit in a core's cache."""


class Term(Protocol):
    """What can be added to a merge state."""

    @property
    def models(self) -> int:
        """How many sites' models it stands for."""

    @property
    def digests(self) -> frozenset[str]:
        """The updates inside, by digest (hexadecimal)."""

    def parameters(self, name: str, start: int, stop: int) -> Ints:
        """Return elements of a parameter's fixed-point sum; flat."""

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's sums."""


class Update:
    """A single model as a term: an open file that holds its parameters, and its statistics.

    Args:
        file: A file with all of the base's parameters.
        statistics: Each BatchNorm layer's statistics.
        digest: The update's digest.
        site: Whose it is.

    """

    models = 1

    def __init__(self, file: TensorFile, statistics: Statistics, digest: bytes, site: str) -> None:
        self._file = file
        self._statistics = statistics
        self.digests = frozenset([digest.hex()])
        self._site = site

    def parameters(self, name: str, start: int, stop: int) -> Ints:
        """Quantise elements of a parameter.

        Raises:
            UpdateRefusedError: A value is not finite.
            MergeRangeError: A value is out of range.

        """
        dtype = self._file.manifest.tensors[name].dtype
        values = dtype.widen(self._file.read(name, start, stop))
        fixedpoint.check_values(values, self._site, name)
        return fixedpoint.quantise(values)

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's statistics as sums."""
        return StatisticSums.of(self._statistics[layer])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class MergeState:
    """A merge state's file, open for reading. It is a term itself.

    Raises:
        ModelFileError: The file is missing, damaged, or no merge state.

    """

    def __init__(self, path: Path) -> None:
        self._file = TensorFile(path)
        try:
            if self._file.metadata["format"] != FORMAT:
                raise KeyError("format")
            self.models = int(self._file.metadata["models"])
            self.digests = frozenset[str](json.loads(self._file.metadata["digests"]))
        except (KeyError, ValueError, TypeError) as error:
            self._file.close()
            raise ModelFileError(f"{path} is not a merge state of this version") from error

    def parameters(self, name: str, start: int, stop: int) -> Ints:
        """Return elements of a parameter's sum."""
        try:
            return self._file.read(f"sum:{name}", start, stop).view(np.int64)
        except KeyError:
            raise ModelFileError(f"{self._file.path} holds no sum of {name}", _DAMAGED) from None

    def statistics(self, layer: str) -> StatisticSums:
        """Return a layer's sums."""
        try:
            parts = {part: self._file.tensor(f"{part}:{layer}").view(np.uint8) for part in StatisticSums.widths(0)}
        except KeyError:
            raise ModelFileError(f"{self._file.path} holds no sums of {layer}", _DAMAGED) from None
        return StatisticSums.from_bytes(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def write_sum(path: Path, base: Manifest, terms: Sequence[tuple[int, Term]]) -> None:
    """Write the sum of signed terms as a merge state, atomically: all of it or nothing.

    Args:
        path: The state's file; replaced if it is there. A term may be the state that is open on it.
        base: Names, shapes and dtypes of what is merged.
        terms: Pairs of +1 or −1 and a term.

    Raises:
        UpdateRefusedError: An update is added that is inside already, or taken away that is not; or a value is
            not finite.
        MergeRangeError: A value, or the number of models, is out of range.
        StorageError: The disk is full.

    """
    digests = _combined(terms)
    models = sum(sign * term.models for sign, term in terms)
    if models > fixedpoint.MAX_MODELS:
        raise MergeRangeError(
            f"{models} models are more than the {fixedpoint.MAX_MODELS} that one sum has room for"
        )
    specs = {f"sum:{name}": TensorSpec(dtypes.INT64, spec.shape) for name, spec in base.parameters.items()}
    for layer, channels in base.layers.items():
        for part, shape in StatisticSums.widths(channels).items():
            specs[f"{part}:{layer}"] = TensorSpec(dtypes.UINT8, shape)
    metadata = {"format": FORMAT, "models": str(models), "digests": json.dumps(sorted(digests))}
    write_tensors(path, specs, _content(base, terms), metadata)


def parameter_sum(terms: Sequence[tuple[int, Term]], name: str, start: int, stop: int) -> Ints:
    """Add up elements of a parameter over signed terms."""
    total = np.zeros(stop - start, np.int64)
    for sign, term in terms:
        (np.add if sign > 0 else np.subtract)(total, term.parameters(name, start, stop), out=total)
    return total


def statistic_sum(terms: Sequence[tuple[int, Term]], layer: str, channels: int) -> StatisticSums:
    """Add up a layer's sums over signed terms."""
    total = StatisticSums.zero(channels)
    for sign, term in terms:
        total = total.plus(term.statistics(layer), sign)
    return total


def blocks(size: int) -> Iterator[tuple[int, int]]:
    """Cut a tensor of so many elements into ranges of at most `BLOCK`."""
    for start in range(0, size, BLOCK):
        yield start, min(start + BLOCK, size)


def _content(
    base: Manifest, terms: Sequence[tuple[int, Term]]
) -> Iterator[tuple[str, Iterator[bytes | memoryview]]]:
    for name, spec in base.parameters.items():
        yield (
            f"sum:{name}",
            (parameter_sum(terms, name, start, stop).data.cast("B") for start, stop in blocks(spec.size)),
        )
    for layer, channels in base.layers.items():
        for part, packed in statistic_sum(terms, layer, channels).to_bytes().items():
            yield f"{part}:{layer}", iter([packed.tobytes()])


def _combined(terms: Sequence[tuple[int, Term]]) -> frozenset[str]:
    inside: frozenset[str] = frozenset()
    for sign, term in sorted(terms, key=lambda pair: -pair[0]):
        if sign > 0 and (twice := inside & term.digests):
            raise UpdateRefusedError(
                f"update {min(twice)[:12]} is in the merge already", "each update counts once"
            )
        if sign < 0 and (unknown := term.digests - inside):
            raise UpdateRefusedError(f"update {min(unknown)[:12]} is not in the merge, so it can't be taken out")
        inside = inside | term.digests if sign > 0 else inside - term.digests
    return inside
