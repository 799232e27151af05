"""The models that are to be merged: opened, named, told apart, and compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from coordinator.offline.guess import guess
from protos.boundary import BatchNorm
from protos.checkpoints import DigestingReader, ModelFile, ModelReader, open_model
from protos.digest import short
from protos.errors import ConfigurationError, ModelFileError
from protos.manifest import COUNT, MEAN, VAR, TensorSpec, join

if TYPE_CHECKING:
    from coordinator.merge.basin.permutations import Permutations


@dataclass(frozen=True)
class Input:
    """A model to be merged.

    Attributes:
        name: What it is called in messages: its file's name, with as many folders as tell it from the others.
        file: The open file.
        threads: How many tensors are read at a time for its digest.
        named_by_digest: Whether the receipt is to name it by its digest; without it, it is read only to be merged.
        order: The order into which its channels are brought to fit the first model's; None for its own.

    """

    name: str
    file: ModelFile
    threads: int = 1
    named_by_digest: bool = True
    order: Permutations | None = None

    @cached_property
    def reader(self) -> ModelReader:
        """Its tensors, in the order that they are merged in."""
        if self.order is None:
            return self._digesting if self.named_by_digest else self.file
        from coordinator.merge.basin.permutations import permuted

        return permuted(self.file, self.order)

    @property
    def digest(self) -> bytes:
        """Its canonical digest; what `reader` read before from start to end isn't read again."""
        return self._digesting.digest()

    @property
    def digest_text(self) -> str | None:
        """Its digest in hexadecimal; None if it isn't to be named by it."""
        return self.digest.hex() if self.named_by_digest else None

    def differs(self, other: Input) -> bool:
        """Tell whether it is another model, without reading all of them if they differ as models do."""
        return self._digesting.sample != other._digesting.sample or self.digest != other.digest

    @cached_property
    def _digesting(self) -> DigestingReader:
        return DigestingReader(self.file, self.threads)

    def statistics(self, layer: str) -> BatchNorm:
        """Read a BatchNorm layer's statistics.

        Raises:
            ModelFileError: They make no sense.

        """
        mean, var = (self._wide(join(layer, part)) for part in (MEAN, VAR))
        count = int(self.reader.read(join(layer, COUNT))[0])
        for part, values in ((MEAN, mean), (VAR, var)):
            if not np.isfinite(values).all():
                raise ModelFileError(
                    f"{self.name}: {join(layer, part)} has values that are NaN or infinite",
                    "its training diverged, or the file is damaged: take an earlier checkpoint",
                )
        if (var < 0).any() or count < 0:
            part = VAR if count >= 0 else COUNT
            raise ModelFileError(
                f"{self.name}: {join(layer, part)} has a negative value",
                "no training produces one: the file is damaged or was edited",
            )
        return BatchNorm(mean, var, count)

    def _wide(self, name: str) -> npt.NDArray[np.float32]:
        return self.file.manifest.tensors[name].dtype.widen(self.reader.read(name))


def open_inputs(
    paths: Sequence[Path], copy: str | None, opened: ExitStack, threads: int, *, named_by_digest: bool = True
) -> list[Input]:
    """Open models and name them.

    Args:
        paths: Their files.
        copy: Which copy to take where a file holds several.
        opened: Closes them.
        threads: How many tensors are read at a time for a digest.
        named_by_digest: Whether the receipt is to name them by their digests.

    Raises:
        ModelFileError: One can't be read.
        ConfigurationError: Fewer than two.

    """
    if len(paths) < 2:
        raise ConfigurationError(f"{len(paths)} models are nothing to merge", "give two models or more")
    files = [opened.enter_context(open_model(path, copy)) for path in paths]
    return [Input(name, file, threads, named_by_digest) for name, file in zip(names(paths), files, strict=True)]


def names(paths: Sequence[Path]) -> list[str]:
    """Name files by their last parts, as many as tell them apart; what is in between is left out."""
    absolute = [path.absolute() for path in paths]
    longest = max(len(path.parts) for path in absolute)
    for count in range(1, longest + 1):
        found = ["/".join(path.parts[-count:]) for path in absolute]
        if len(set(found)) == len(set(absolute)):
            short = [f"{path.parts[-count]}/…/{path.name}" for path in absolute]
            return short if count > 2 and len(set(short)) == len(set(absolute)) else found
    return [str(path) for path in absolute]


def find(inputs: Sequence[Input], wanted: str, option: str) -> Input:
    """Find an input by its place (1, 2, …), its name, or its path as typed.

    Raises:
        ConfigurationError: There is none.

    """
    if wanted.isdecimal() and 1 <= int(wanted) <= len(inputs):
        return inputs[int(wanted) - 1]
    found = [i for i in inputs if wanted in (i.name, str(i.file.path), Path(i.name).stem)]
    if len(found) != 1:
        known = ", ".join(f"{place} ({i.name})" for place, i in enumerate(inputs, 1))
        raise ConfigurationError(f"{option} names no input: {wanted!r}", f"name one of: {known}")
    return found[0]


def check_distinct(inputs: Sequence[Input]) -> None:
    """Refuse a model that is given twice.

    Raises:
        ConfigurationError: Two inputs hold the same model.

    """
    for one, other in combinations(inputs, 2):
        if not one.differs(other):
            raise ConfigurationError(
                f"{one.name} and {other.name} hold the same model, {short(one.digest)}",
                "leave one out, or say that it is meant: --allow-duplicates",
            )


def check_alike(inputs: Sequence[Input], own: Callable[[str], bool]) -> None:
    """Check that all inputs have the same tensors.

    Args:
        inputs: The models.
        own: Tells which tensors each model keeps for itself; these may differ.

    Raises:
        ModelFileError: They have not; says what differs, and what may be behind it.

    """
    first = inputs[0]
    for other in inputs[1:]:
        a, b = _shared(first, own), _shared(other, own)
        if a == b:
            continue
        lacks, extra = sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())
        differ = sorted(name for name in a.keys() & b.keys() if a[name] != b[name])
        said = []
        if lacks:
            said.append(f"{_listed(lacks)} only in {first.name}")
        if extra:
            said.append(f"{_listed(extra)} only in {other.name}")
        if differ:
            said.append(f"{_listed([f'{name} ({a[name]} and {b[name]})' for name in differ])} of another kind")
        raise ModelFileError(
            f"{first.name} and {other.name} are not of one architecture: {'; '.join(said)}", guess(a, b)
        )


def align(inputs: Sequence[Input]) -> list[Input]:
    """Bring the channels of all models into the order of the first one's; see `coordinator.merge.basin`.

    Raises:
        ModelFileError: The models' architecture is not known here.

    """
    from coordinator.merge.basin import matching  # SciPy takes a while to import

    first, *others = inputs
    return [first, *(replace(other, order=matching.align(first.file, other.file)) for other in others)]


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a test whether a tensor's name matches one of the patterns (``*`` and ``?``)."""
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)


def _shared(found: Input, own: Callable[[str], bool]) -> dict[str, TensorSpec]:
    return {name: spec for name, spec in found.file.manifest.tensors.items() if not own(name)}


def _listed(found: Sequence[str]) -> str:
    if len(found) == 1:
        return f"tensor {found[0]}"
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return f"{len(found)} tensors ({', '.join(found[:2])}{more})"
