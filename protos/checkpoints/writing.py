"""Writing a checkpoint that mmsegmentation's tools open: ``{"meta": {…}, "state_dict": OrderedDict(…)}``.

Or a plain state dict, ``OrderedDict(…)``, as ``load_state_dict`` takes it.

The pickle is put together here, operation by operation, so torch is not needed and nothing but the few names that
``torch.load(weights_only=True)`` allows can get into it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path

from protos import files, parallel
from protos.checkpoints.allowed import STORAGES
from protos.checkpoints.zipwriter import ZipWriter
from protos.manifest import TensorSpec
from protos.tensorfile import Content

_ROOT = "archive"
_STORAGE_OF = {dtype: name for name, dtype in STORAGES.items()}
_DEPTH = 50


def write_torch(
    path: Path,
    specs: Mapping[str, TensorSpec],
    content: Content,
    meta: Mapping[str, object] | None = None,
    *,
    wrapped: bool = True,
    threads: int = 1,
    durable: bool = True,
) -> dict[str, bytes]:
    """Write a torch checkpoint atomically from streams of chunks.

    The same tensors and notes give the same bytes. ``torch.load`` opens it with ``weights_only``, ``mmap``, both
    or neither.

    Args:
        path: Where to.
        specs: All tensors, with dtype and shape; their order is the state dict's.
        content: Yields each tensor's chunks; with several threads it is called for several tensors at a time.
        meta: What goes beside the weights, e.g. `CLASSES` and `PALETTE`: None, booleans, numbers, text, bytes, and
            lists, tuples and dictionaries of such.
        wrapped: Whether the state dict stands beside `meta`, under ``state_dict``; else it is all that there is.
        threads: How many tensors are written at a time.
        durable: See `files.atomic`.

    Returns:
        The SHA-256 of each tensor's bytes.

    Raises:
        StorageError: The disk is full, or the folder can't be written to.
        TypeError: `meta` holds something else.

    """
    small = {
        "data.pkl": _pickle(specs, (meta or {}) if wrapped else None),
        "byteorder": b"little",
        "version": b"3\n",
    }
    members = {name: f"{_ROOT}/data/{number}" for number, name in enumerate(specs)}
    sizes = {f"{_ROOT}/{name}": len(raw) for name, raw in small.items()}
    sizes |= {member: specs[name].nbytes for name, member in members.items()}
    with files.atomic(path, durable=durable) as file:
        archive = ZipWriter(file, sizes)
        for name, raw in small.items():
            archive.write(f"{_ROOT}/{name}", [raw])

        def write(name: str) -> bytes:
            state = hashlib.sha256()
            archive.write(members[name], _digested(content(name), state))
            return state.digest()

        digests = parallel.each(specs, write, threads)
        archive.finish()
    return digests


def _digested(chunks: Iterable[bytes | memoryview], state: hashlib._Hash) -> Iterator[bytes | memoryview]:
    for chunk in chunks:
        state.update(chunk)
        yield chunk


def _pickle(specs: Mapping[str, TensorSpec], meta: Mapping[str, object] | None) -> bytes:
    """Return the pickle (protocol 2) of the checkpoint; without notes, of the state dict alone."""
    out = _Pickle()
    out.raw(b"\x80\x02")
    if meta is not None:
        out.raw(b"}(")
        out.value("meta")
        out.value(dict(meta))
        out.value("state_dict")
    out.name("collections", "OrderedDict")
    out.raw(b")R(")
    for number, (name, spec) in enumerate(specs.items()):
        out.value(name)
        out.tensor(str(number), spec)
    out.raw(b"u." if meta is None else b"uu.")
    return bytes(out.content)


class _Pickle:
    """A pickle in the making; names are written once and remembered."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._names: dict[tuple[str, str], int] = {}

    def raw(self, operations: bytes) -> None:
        self.content += operations

    def name(self, module: str, name: str) -> None:
        number = self._names.get((module, name))
        if number is not None:
            self.content += b"h%c" % number
            return
        self._names[module, name] = number = len(self._names)
        self.content += b"c%b\n%b\nq%c" % (module.encode(), name.encode(), number)

    def tensor(self, key: str, spec: TensorSpec) -> None:
        """Write ``_rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())``."""
        steps = list(accumulate((max(length, 1) for length in spec.shape[:0:-1]), int.__mul__, initial=1))
        self.name("torch._utils", "_rebuild_tensor_v2")
        self.raw(b"((")
        self.value("storage")
        self.name("torch", _STORAGE_OF[spec.dtype.name])
        for part in (key, "cpu", spec.size):
            self.value(part)
        self.raw(b"tQK\x00")
        self.value(spec.shape)
        self.value(tuple(reversed(steps)) if spec.shape else ())
        self.raw(b"\x89")
        self.name("collections", "OrderedDict")
        self.raw(b")RtR")

    def value(self, value: object, depth: int = _DEPTH) -> None:
        """Write a plain value.

        Raises:
            TypeError: It isn't one, or is nested too deeply (or holds itself).

        """
        if depth == 0:
            raise TypeError("a checkpoint's notes are nested too deeply")
        if type(value) is tuple or type(value) is list:
            self.raw(b"(" if type(value) is tuple else b"](")
            for item in value:
                self.value(item, depth - 1)
            self.raw(b"t" if type(value) is tuple else b"e")
        elif type(value) is dict:
            self.raw(b"}(")
            for pair in value.items():
                for item in pair:
                    self.value(item, depth - 1)
            self.raw(b"u")
        elif type(value) is bytes:  # protocol 2 has no operation for bytes
            self.name("_codecs", "encode")
            self.value((value.decode("latin1"), "latin1"))
            self.raw(b"R")
        elif (encode := _SCALARS.get(type(value))) is not None:
            self.content += encode(value)
        else:
            raise TypeError(f"a checkpoint's notes can't hold a value of type {type(value).__name__}")


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K%c" % value
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    if len(raw) > 255:
        raise TypeError("a checkpoint's notes can't hold an integer of more than 255 bytes")
    return b"\x8a%c" % len(raw) + raw


_SCALARS: dict[type, Callable[..., bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"\x88" if value else b"\x89",
    int: _integer,
    float: lambda value: b"G" + struct.pack(">d", value),
    str: _text,
}
