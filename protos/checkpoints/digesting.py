"""A model that is digested while it is read for something else, so that its bytes are read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protos import parallel, tensorfile
from protos.checkpoints.modelfile import ModelFile
from protos.closing import Closing
from protos.digest import model_digest
from protos.manifest import Manifest

_SAMPLED, _SAMPLE = 32, 1024
"""Tensors that a sample looks into, and elements of each."""


class DigestingReader(Closing):
    """A `ModelReader` that knows its model's digest for little more than what reading costs.

    A tensor that is read from its start to its end, in pieces that follow each other, is digested on the way; what
    was not, or not to the end, is read when the digest is asked for. Several threads may read, each a tensor of
    its own.

    Args:
        file: The open model.
        threads: How many tensors are read at a time when the digest is asked for.

    """

    def __init__(self, file: ModelFile, threads: int = 1) -> None:
        self._file = file
        self._threads = threads
        self._done: dict[str, _Done] = {name: _Done() for name in file.manifest.tensors}
        self._digest: bytes | None = None

    @property
    def path(self) -> Path:
        """The file, or the folder of its files."""
        return self._file.path

    @property
    def metadata(self) -> Mapping[str, str]:
        """Free strings of a safetensors header."""
        return self._file.metadata

    @property
    def manifest(self) -> Manifest:
        """Names, dtypes and shapes of all tensors."""
        return self._file.manifest

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop` of a tensor, flat, as NumPy stores its dtype."""
        values = self._file.read(name, start, stop)
        done = self._done[name]
        if done.size == start and values.size:
            done.sha.update(values.data.cast("B"))
            done.size += values.size
        return values

    def tensor(self, name: str) -> npt.NDArray[np.generic]:
        """Read a whole tensor in its shape."""
        return self.read(name).reshape(self.manifest.tensors[name].shape)

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yield a tensor's raw bytes, `protos.tensorfile.CHUNK` at a time."""
        for values in self._pieces(name, 0):
            yield values.data.cast("B")

    def digest(self) -> bytes:
        """Return the model's canonical digest, once all of it is read; 32 bytes."""
        if self._digest is None:
            tensors = self.manifest.tensors
            found = parallel.each(tensors, self._finished, self._threads)
            self._digest = model_digest(tensors, found)
        return self._digest

    @cached_property
    def sample(self) -> bytes:
        """A digest of a few pieces of the model: two models whose samples differ are different for sure."""
        names = list(self.manifest.tensors)
        state = hashlib.sha256()
        for name in names[:: max(1, len(names) // _SAMPLED)]:
            values = self._file.read(name, 0, min(_SAMPLE, self.manifest.tensors[name].size))
            state.update(values.tobytes())
        return state.digest()

    def close(self) -> None:
        """Close the files."""
        self._file.close()

    def _finished(self, name: str) -> bytes:
        done = self._done[name]
        for _ in self._pieces(name, done.size):
            pass
        return done.sha.digest()

    def _pieces(self, name: str, first: int) -> Iterator[npt.NDArray[np.generic]]:
        spec = self.manifest.tensors[name]
        step = tensorfile.CHUNK // spec.dtype.storage.itemsize
        for start in range(first, spec.size, step):
            yield self.read(name, start, min(start + step, spec.size))


class _Done:
    """How many elements of a tensor were digested, and their digest so far."""

    __slots__ = ("sha", "size")

    def __init__(self) -> None:
        self.sha = hashlib.sha256()
        self.size = 0
