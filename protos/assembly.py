"""A model file that is put together from parts, which arrive in any order and each as often as it likes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from protos.errors import StorageError
from protos.manifest import TensorSpec
from protos.tensorfile import header_bytes

Specs = Mapping[str, TensorSpec]
K = TypeVar("K")


class Assembly:
    """A safetensors file of the given tensors, written part by part.

    Parts may come from different processes: what was written is in the file, and nothing is kept besides. Whoever
    reads the file checks its digests, so a part that is still missing (a hole of zeros) is found.
    """

    def __init__(self, path: Path, specs: Specs) -> None:
        self.path = path
        self._header = header_bytes(specs, {})
        self._offsets = {}
        self._end = len(self._header)
        for name, spec in specs.items():
            self._offsets[name] = self._end
            self._end += spec.nbytes

    def write(self, tensors: Mapping[str, bytes | memoryview]) -> None:
        """Write tensors, each to its place.

        Raises:
            StorageError: The disk is full.

        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            with os.fdopen(descriptor, "r+b") as file:
                file.truncate(self._end)
                file.write(self._header)
                for name, content in tensors.items():
                    file.seek(self._offsets[name])
                    file.write(content)
        except OSError as error:
            raise StorageError(f"can't write {self.path}: {error.strerror}", "free some space") from error

    def sync(self) -> None:
        """Have what was written on the disk.

        Raises:
            StorageError: The disk is full or broken.

        """
        try:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"can't write {self.path}: {error.strerror}", "free some space") from error


def parts(specs: Mapping[K, TensorSpec], size: int) -> Iterator[list[K]]:
    """Cut tensors into parts of at most `size` bytes, in order; a larger tensor is a part of its own.

    Args:
        specs: The tensors, by whatever names them.
        size: Bytes.

    Yields:
        The names of each part's tensors.

    """
    part: list[K] = []
    held = 0
    for name, spec in specs.items():
        if part and held + spec.nbytes > size:
            yield part
            part, held = [], 0
        part.append(name)
        held += spec.nbytes
    if part:
        yield part
