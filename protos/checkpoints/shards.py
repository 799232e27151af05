"""Safetensors files: one, or several that an index (``model.safetensors.index.json``) puts together."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open

from protos import dtypes
from protos.checkpoints.rawfile import AGAIN, RawFile, shown
from protos.checkpoints.source import Kind
from protos.errors import ModelFileError
from protos.manifest import TensorSpec
from protos.tensorfile import TensorFile

INDEX = ".safetensors.index.json"
_INDEX_BYTES = 64 << 20
_META: Mapping[str, object] = {}


class Safetensors:
    """One safetensors file, or several; their tensors' keys differ.

    Args:
        path: What was opened: the file, or the index.
        kind: Which of the two.
        files: The files.

    Raises:
        ModelFileError: A file is missing or damaged.

    """

    def __init__(self, path: Path, kind: Kind, files: Sequence[Path]) -> None:
        self.path = path
        self.kind = kind
        self.files = (path, *files) if kind is Kind.SHARDED else tuple(files)
        self.skipped: tuple[str, ...] = ()
        self.metadata: Mapping[str, str] = {}
        self.home: dict[str, Path] = {}
        self._specs: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._open: dict[Path, TensorFile] = {}
        with ExitStack() as opened:
            for file in files:
                self._open[file] = shard = opened.enter_context(TensorFile(file))
                self.metadata = {**shard.metadata, **self.metadata}
                self._list(file)
            self._opened = opened.pop_all()

    @property
    def keys(self) -> Sequence[str]:
        """All tensors' keys."""
        return list(self._specs)

    @property
    def meta(self) -> Mapping[str, object]:
        """Return nothing: safetensors files have no notes but `metadata`."""
        return _META

    def spec(self, key: str) -> TensorSpec:
        """Return a tensor's dtype and shape.

        Raises:
            ModelFileError: Its dtype is not known here.

        """
        code, shape = self._specs[key]
        try:
            return TensorSpec(dtypes.by_code(code), shape)
        except ModelFileError as error:
            raise ModelFileError(f"{self.home[key]}: tensor {shown(key)}: {error.what}", error.fix) from None

    def region(self, key: str) -> Hashable:
        """Return None: no two tensors share bytes in a safetensors file."""
        return None

    def read(self, key: str, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop`, flat, as NumPy stores the dtype."""
        return self._open[self.home[key]].read(key, start, stop)

    def verify(self) -> None:
        """Read everything; there are no checksums to compare with."""
        for path in self._open:
            file = RawFile(path)
            try:
                file.crc(0, file.size)
            finally:
                file.close()

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def _list(self, file: Path) -> None:
        """Take a file's tensors in. Their triples may be complete only together with another file's."""
        with safe_open(file, framework="numpy") as content:
            for key in content.keys():  # noqa: SIM118 - it is no dictionary
                if key in self.home:
                    raise ModelFileError(f"both {self.home[key]} and {file} hold {shown(key)}", AGAIN)
                self.home[key] = file
                part = content.get_slice(key)
                self._specs[key] = part.get_dtype(), tuple(part.get_shape())


def open_index(path: Path) -> Safetensors:
    """Open the files that an index names, which lie beside it.

    Raises:
        ModelFileError: The index is damaged or names a file elsewhere, a file is missing, or a tensor is not in
            the file that the index says.

    """
    places = _places(path)
    found = Safetensors(path, Kind.SHARDED, [path.parent / name for name in sorted(set(places.values()))])
    try:
        for key, name in places.items():
            home = found.home.get(key)
            if home is None or home.name != name:
                where = f"in {home.name}" if home else "in none of its files"
                raise ModelFileError(
                    f"{path} says that {shown(key)} is in {shown(name)}, but it is {where}",
                    f"all of them: {AGAIN}",
                )
        if extra := found.home.keys() - places.keys():
            key = min(extra)
            raise ModelFileError(
                f"{found.home[key]} holds {shown(key)}, which {path.name} doesn't name", f"all of them: {AGAIN}"
            )
    except ModelFileError:
        found.close()
        raise
    return found


def _places(path: Path) -> dict[str, str]:
    """Read an index: each tensor's file."""
    file = RawFile(path)
    try:
        if file.size > _INDEX_BYTES:
            raise ModelFileError(f"{path} is too large for an index", "name the model's file")
        content = json.loads(file.bytes(0, file.size))
        places = content["weight_map"]
        if not places or not all(type(name) is str for name in places.values()):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged, or no index of a model in several files", AGAIN) from error
    finally:
        file.close()
    for name in places.values():
        if name in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
            raise ModelFileError(
                f"{path} names a file elsewhere: {shown(name)}; refused",
                "the files of a model lie beside its index: correct the index, or ask where it came from",
            )
        if not name.endswith(".safetensors"):
            raise ModelFileError(
                f"{path} names {shown(name)}, which is no safetensors file", "convert the model to safetensors"
            )
        if not (path.parent / name).is_file():
            raise ModelFileError(f"{path} names {name}, which is not beside it", "copy that file there too")
    return dict(places)
