"""What a model file holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from coordinator.merge.distance import relative_distance
from coordinator.merge.state import blocks
from coordinator.offline.inputs import Input, check_alike
from coordinator.report.text import count, plain, size
from protos import parallel
from protos.checkpoints import DigestingReader, ModelFile, ModelReader, open_model
from protos.errors import ModelFileError
from protos.manifest import COUNT, join


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        file: Its path.
        kind: Which kind of file it is.
        bytes: Its size, with all of its shards.
        copies: The copies of the model in it.
        copy: The one that the rest is about; None if there is just one model.
        digest: That model's canonical digest (hexadecimal).
        parameters: Its parameters, as numbers.
        parameter_tensors: The same as tensors.
        dtypes: Bytes of its tensors by dtype.
        layers: Each BatchNorm layer's channels.
        batches: Each BatchNorm layer's count.
        buffers: Its other buffers.
        aliases: Tensors that are the same bytes as another.
        not_finite: How many values are NaN or infinite, by tensor.
        skipped: Entries of the file that are no tensors of it.
        meta: What the checkpoint says of itself, as far as it is plain.
        distance: ‖θ − θ₀‖ / ‖θ₀‖ from a base, if one was given.

    """

    file: str
    kind: str
    bytes: int
    copies: tuple[str, ...]
    copy: str | None
    digest: str
    parameters: int
    parameter_tensors: int
    dtypes: dict[str, int]
    layers: dict[str, int]
    batches: dict[str, int]
    buffers: tuple[str, ...]
    aliases: dict[str, str]
    not_finite: dict[str, int]
    skipped: tuple[str, ...]
    meta: dict[str, Any]
    distance: float | None

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types."""
        return asdict(self)


def inspect(path: Path, copy: str | None, base: Path | None, threads: int) -> Inspection:
    """Read a model file and say what it holds.

    Args:
        path: The file.
        copy: Which copy to look at; by default the student where there are several.
        base: A model to measure the distance from.
        threads: How many tensors are read at a time.

    Raises:
        ModelFileError: It can't be read, or is of another architecture than the base.

    """
    with _open(path, copy) as file:
        manifest = file.manifest
        reader = DigestingReader(file, threads)
        bad = parallel.each(manifest.tensors, lambda name: _not_finite(reader, name), threads)
        dtypes: dict[str, int] = {}
        for spec in manifest.tensors.values():
            dtypes[spec.dtype.name] = dtypes.get(spec.dtype.name, 0) + spec.nbytes
        return Inspection(
            file=str(path),
            kind=file.kind.value,
            bytes=sum(one.stat().st_size for one in file.files),
            copies=file.copies,
            copy=file.copy,
            digest=reader.digest().hex(),
            parameters=sum(spec.size for spec in manifest.parameters.values()),
            parameter_tensors=len(manifest.parameters),
            dtypes=dtypes,
            layers=dict(manifest.layers),
            batches={layer: int(file.read(join(layer, COUNT))[0]) for layer in manifest.layers},
            buffers=tuple(manifest.buffers),
            aliases=dict(file.aliases),
            not_finite={name: number for name, number in bad.items() if number},
            skipped=tuple(file.skipped),
            meta={key: value for key, value in file.meta.items() if _is_plain(value)},
            distance=None if base is None else _distance(path, file, base, copy),
        )


def as_text(found: Inspection) -> Iterator[Text]:
    """Yield lines for a person."""
    yield Text(f"{found.file}: {found.kind}, {size(found.bytes)}")
    if found.copies:
        yield Text(f"copies: {', '.join(found.copies)}; what follows is about {found.copy}")
    yield Text(f"digest {found.digest}")
    kinds = ", ".join(f"{size(number)} of {dtype}" for dtype, number in sorted(found.dtypes.items()))
    yield Text(f"{count(found.parameters)} parameters in {count(found.parameter_tensors)} tensors; {kinds}")
    if found.layers:
        low, high = min(found.batches.values()), max(found.batches.values())
        said = count(low) if low == high else f"{count(low)} to {count(high)}"
        yield Text(f"{count(len(found.layers))} BatchNorm layers, each with {said} batches counted")
        if not low:
            empty = [layer for layer, batches in found.batches.items() if not batches]
            yield Text(f"no batches were counted in {_some(empty)}")
    else:
        yield Text("no BatchNorm layers")
    if found.buffers:
        yield Text(f"other buffers: {_some(found.buffers)}")
    for name, first in found.aliases.items():
        yield Text(f"{name} is the same tensor as {first}")
    if classes := found.meta.get("CLASSES"):
        yield Text(f"classes: {', '.join(map(plain, map(str, classes)))}")
    if found.skipped:
        yield Text(f"left aside: {_some(found.skipped)}")
    for name, number in found.not_finite.items():
        yield Text(f"{name} has {count(number)} values that are NaN or infinite: it can't be merged")
    if not found.not_finite:
        yield Text("all values are finite")
    if found.distance is not None:
        yield Text(f"distance from the base: {found.distance:.4f} (‖θ − θ₀‖ / ‖θ₀‖)")


def _open(path: Path, copy: str | None) -> ModelFile:
    """Open a file; of a student and its teacher take the student, unless told otherwise."""
    try:
        return open_model(path, copy)
    except ModelFileError:
        if copy is not None:
            raise
        try:
            return open_model(path, "student")
        except ModelFileError:
            pass
        raise


def _distance(path: Path, file: ModelFile, base: Path, copy: str | None) -> float:
    with _open(base, copy) as origin:
        check_alike([Input(base.name, origin), Input(path.name, file)], lambda _: False)
        return relative_distance(file, origin)


def _not_finite(file: ModelReader, name: str) -> int:
    spec = file.manifest.tensors[name]
    if spec.dtype.storage.kind in "iub" and not spec.dtype.floating:
        return 0
    bad = 0
    for start, stop in blocks(spec.size):
        values = file.read(name, start, stop)
        wide = spec.dtype.widen(values) if spec.dtype.floating else values
        bad += int(len(wide) - np.count_nonzero(np.isfinite(wide)))
    return bad


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(plain, names[:3])) + more
