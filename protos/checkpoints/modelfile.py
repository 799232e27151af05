"""An open model file: one model's tensors by name, whatever kind of file they are in."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from protos import tensorfile
from protos.checkpoints.copies import Layout
from protos.checkpoints.source import Kind, Source
from protos.closing import Closing
from protos.errors import ModelFileError
from protos.manifest import Manifest


class ModelFile(Closing):
    """One model in an open file; a `protos.checkpoints.ModelReader`.

    Attributes:
        path: What was opened.
        kind: Which kind of file it is.
        files: All files that it consists of.
        metadata: Free strings of a safetensors header; empty for torch checkpoints.
        manifest: Names (without prefix), dtypes and shapes of the chosen copy's tensors.
        copies: The copies that the file holds, e.g. student and ema; empty if it holds one model without prefix.
        copy: The one that this is; None likewise.
        prefix: What stands before this copy's names in the file, e.g. ``model.``.
        keys: The key in the file by name.
        aliases: Names whose tensor is the very same bytes as that of another name, which comes first in order of
            name: name → first name.
        skipped: Keys in the file's state dict that hold no tensor, or belong to no copy.

    Raises:
        ModelFileError: A tensor of the copy can't be read, or a BatchNorm layer's statistics are incomplete.

    """

    def __init__(self, source: Source, layout: Layout) -> None:
        self._source = source
        self.path: Path = source.path
        self.kind: Kind = source.kind
        self.files = source.files
        self.metadata = source.metadata
        self.copies, self.copy, self.prefix = layout.copies, layout.copy, layout.prefix
        self.keys: Mapping[str, str] = MappingProxyType(dict(sorted(layout.keys.items())))
        self.skipped = (*source.skipped, *layout.others)
        specs = {name: source.spec(key) for name, key in self.keys.items()}
        try:
            self.manifest = Manifest(specs)
        except ModelFileError as error:
            raise ModelFileError(f"{self.path}: {error.what}", error.fix) from error
        self.aliases: Mapping[str, str] = MappingProxyType(_aliases(source, self.keys))

    @property
    def meta(self) -> Mapping[str, object]:
        """What training noted beside the weights (`CLASSES`, `PALETTE`, …), as far as it is plain values."""
        return self._source.meta

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop` of a tensor, flat, as NumPy stores its dtype.

        Raises:
            ModelFileError: The file got shorter since it was opened.

        """
        return self._source.read(
            self.keys[name], start, self.manifest.tensors[name].size if stop is None else stop
        )

    def tensor(self, name: str) -> npt.NDArray[np.generic]:
        """Read a whole tensor in its shape."""
        return self.read(name).reshape(self.manifest.tensors[name].shape)

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yield a tensor's raw little-endian bytes, `protos.tensorfile.CHUNK` at a time."""
        spec = self.manifest.tensors[name]
        step = tensorfile.CHUNK // spec.dtype.storage.itemsize
        for start in range(0, spec.size, step):
            yield self.read(name, start, min(start + step, spec.size)).data.cast("B")

    def verify(self) -> None:
        """Read all of the file; a torch checkpoint's zip archive has checksums (CRC-32), which have to be right.

        Opening a file checks its structure, not its values: a bit that flipped in a weight shows only here.

        Raises:
            ModelFileError: The file is cut short, or a checksum is wrong.

        """
        self._source.verify()

    def close(self) -> None:
        """Close the files."""
        self._source.close()


def _aliases(source: Source, keys: Mapping[str, str]) -> dict[str, str]:
    firsts: dict[Hashable, str] = {}
    aliases: dict[str, str] = {}
    for name, key in keys.items():
        region = source.region(key)
        if region is not None and (first := firsts.setdefault(region, name)) != name:
            aliases[name] = first
    return aliases
