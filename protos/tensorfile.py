"""Model files (safetensors), read and written tensor by tensor and chunk by chunk, never as a whole.

The format is safetensors' own: eight bytes of header length, a JSON header, the tensors' bytes. The library
checks a file when it is opened; the plain reads that follow keep the resident memory at one chunk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from protos import dtypes, files, parallel
from protos.closing import Closing
from protos.errors import ModelFileError
from protos.manifest import Manifest, TensorSpec

_SEAL = TensorSpec(dtypes.UINT8, (32,))
CHUNK = 4 << 20
"""Bytes that are read at a time: large enough for the disk, small enough for the processor's cache."""


class TensorFile(Closing):
    """An open safetensors file.

    Raises:
        ModelFileError: The file is missing, cut short, or no safetensors file.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # The library's checks: lengths, overlaps, dtypes. It maps the file and reads its header only.
            with safe_open(path, framework="numpy"):
                pass
            self._file = path.open("rb", buffering=0)
        except FileNotFoundError:
            raise ModelFileError(f"there is no file {path}") from None
        except (SafetensorError, OSError) as error:
            raise ModelFileError(
                f"{path} is damaged or no safetensors file ({error})", "copy it again from where it came"
            ) from error
        length = int.from_bytes(self._file.read(8), "little")
        header = json.loads(self._file.read(length))
        self.metadata: dict[str, str] = header.pop("__metadata__", {})
        self._header = header
        self._start = 8 + length

    @cached_property
    def manifest(self) -> Manifest:
        """Names, dtypes and shapes of all tensors.

        Raises:
            ModelFileError: A dtype is not known here, or a BatchNorm triple is incomplete.

        """
        try:
            return Manifest(
                {
                    name: TensorSpec(dtypes.by_code(entry["dtype"]), tuple(entry["shape"]))
                    for name, entry in self._header.items()
                }
            )
        except ModelFileError as error:
            raise ModelFileError(f"{self.path}: {error.what}", error.fix) from error

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop` of a tensor, flat, as NumPy stores its dtype.

        Raises:
            ModelFileError: The file got shorter since it was opened.

        """
        entry = self._header[name]
        storage = dtypes.by_code(entry["dtype"]).storage
        begin, end = entry["data_offsets"]
        last = (end - begin) // storage.itemsize if stop is None else stop
        values = np.empty(last - start, storage)
        view = values.data.cast("B") if values.nbytes else memoryview(b"")
        position = self._start + begin + start * storage.itemsize
        while view:
            count = os.preadv(self._file.fileno(), [view], position)
            if count == 0:
                raise ModelFileError(f"{self.path} ends in the middle of {name}", "copy it again")
            view, position = view[count:], position + count
        return values

    def tensor(self, name: str) -> npt.NDArray[np.generic]:
        """Read a whole tensor in its shape."""
        return self.read(name).reshape(self._header[name]["shape"])

    def chunks(self, name: str) -> Iterator[bytes | memoryview]:
        """Yield a tensor's raw bytes, `CHUNK` at a time."""
        entry = self._header[name]
        storage = dtypes.by_code(entry["dtype"]).storage
        size = (entry["data_offsets"][1] - entry["data_offsets"][0]) // storage.itemsize
        step = CHUNK // storage.itemsize
        for start in range(0, size, step):
            yield self.read(name, start, min(start + step, size)).data.cast("B")

    def check_seal(self, seal: str) -> None:
        """Read the file and compare it with the digest that `write_tensors` put at its end.

        Args:
            seal: The name of the tensor that holds it.

        Raises:
            ModelFileError: There is none, or a bit of the file is not as it was written.

        """
        digests = {}
        for name in self._header:
            if name != seal:
                state = hashlib.sha256()
                for chunk in self.chunks(name):
                    state.update(chunk)
                digests[name] = state.digest()
        header = os.pread(self._file.fileno(), self._start, 0)
        if seal not in self._header or self.read(seal).tobytes() != _sealed(header, digests):
            raise ModelFileError(
                f"{self.path} is not as it was written: its content contradicts its seal",
                "restore it from a copy, or make it again",
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()


Content = Callable[[str], Iterable[bytes | memoryview]]
"""Yields a tensor's raw little-endian bytes by its name."""


def write_tensors(
    path: Path,
    specs: Mapping[str, TensorSpec],
    content: Content,
    metadata: Mapping[str, str] | None = None,
    *,
    threads: int = 1,
    seal: str = "",
    durable: bool = True,
) -> dict[str, bytes]:
    """Write a safetensors file atomically from streams of chunks.

    Args:
        path: Where to.
        specs: All tensors, with dtype and shape.
        content: Yields each tensor's chunks; with several threads it is called for several tensors at a time.
        metadata: Free strings for the header.
        threads: How many tensors are written at a time.
        seal: Name of a last tensor to add, the digest of everything before it.
        durable: See `files.atomic`.

    Returns:
        The SHA-256 of each tensor's bytes.

    Raises:
        StorageError: The disk is full, or the folder can't be written to.

    """
    listed = {**specs, seal: _SEAL} if seal else specs
    header = header_bytes(listed, metadata or {})
    *starts, end = accumulate((spec.nbytes for spec in listed.values()), initial=len(header))
    offsets = dict(zip(listed, starts, strict=True))
    with files.atomic(path, durable=durable) as file:
        files.reserve(file, end)
        files.write_at(file, 0, header)

        def write(name: str) -> bytes:
            state, position = hashlib.sha256(), offsets[name]
            for chunk in content(name):
                files.write_at(file, position, chunk)
                state.update(chunk)
                position += len(chunk)
            if position - offsets[name] != specs[name].nbytes:
                raise AssertionError(f"{position - offsets[name]} bytes of {name} instead of {specs[name].nbytes}")
            return state.digest()

        digests = parallel.each(specs, write, threads)
        if seal:
            files.write_at(file, offsets[seal], _sealed(header, digests))
    return digests


def _sealed(header: bytes, digests: Mapping[str, bytes]) -> bytes:
    return hashlib.sha256(header + b"".join(digests.values())).digest()


def write_arrays(
    path: Path,
    arrays: Mapping[str, npt.NDArray[np.generic]],
    metadata: Mapping[str, str] | None = None,
    *,
    seal: str = "",
    durable: bool = True,
) -> None:
    """Write small arrays (of NumPy's own dtypes) as a safetensors file, atomically; see `write_tensors`."""
    specs = {
        name: TensorSpec(dtypes.by_name(str(array.dtype)), array.shape) for name, array in sorted(arrays.items())
    }
    write_tensors(path, specs, lambda name: [arrays[name].tobytes()], metadata, seal=seal, durable=durable)


def header_bytes(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """Return the beginning of a safetensors file whose tensors follow in the order of `specs`."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, spec in specs.items():
        entries[name] = {
            "dtype": spec.dtype.code,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.nbytes],
        }
        offset += spec.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text
