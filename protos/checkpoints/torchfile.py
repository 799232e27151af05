"""Tensors of a torch checkpoint: which of its dictionaries is the model, and where each tensor's elements lie."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from operator import mul
from pathlib import Path

import numpy as np
import numpy.typing as npt

from protos import dtypes
from protos.checkpoints.allowed import ITEMSIZE
from protos.checkpoints.plain import plain_entries
from protos.checkpoints.rawfile import RawFile, damaged, shown
from protos.checkpoints.saved import LEGACY, LegacySaved, Saved, ZipSaved
from protos.checkpoints.source import Kind
from protos.checkpoints.standins import Tensor, Unreadable
from protos.checkpoints.strided import gather
from protos.errors import ModelFileError
from protos.manifest import TensorSpec

HOLDERS = ("state_dict", "model_state_dict", "model")
"""Under which key training tools put the model into a checkpoint."""

_DIMENSIONS = 64
_SLACK = 1 << 20
_ALONE = "save the weights alone: torch.save(model.state_dict(), …)"


class TorchFile:
    """A torch checkpoint. It takes over the open file, and closes it if this raises.

    In a state dict, what is no tensor (a version's number, a module's extra state, None) is skipped.

    Raises:
        ModelFileError: The file is damaged, holds code, or no state dict.

    """

    kind = Kind.TORCH

    def __init__(self, file: RawFile) -> None:
        self.path = file.path
        self.files: tuple[Path, ...] = (file.path,)
        self.metadata: Mapping[str, str] = {}
        self._file = file
        try:
            legacy = file.bytes(0, len(LEGACY)) == LEGACY
            self._saved: Saved = LegacySaved(file) if legacy else ZipSaved(file)
            state = _state(self._saved.root, file.path)
        except BaseException:
            file.close()
            raise
        self._state = {key: value for key, value in state.items() if type(value) in (Tensor, Unreadable)}
        self.skipped = tuple(key for key in state if key not in self._state)
        self._known: dict[str, tuple[Tensor, TensorSpec, int, bool]] = {}

    @property
    def keys(self) -> Sequence[str]:
        """All tensors' keys, in the file's order."""
        return list(self._state)

    @cached_property
    def meta(self) -> Mapping[str, object]:
        """Return the notes beside the weights; `CLASSES` and `PALETTE` among them."""
        return plain_entries(self._saved.root.get("meta") if type(self._saved.root) is dict else None)

    def spec(self, key: str) -> TensorSpec:
        """Return a tensor's dtype and shape.

        Raises:
            ModelFileError: It is quantized, sparse or the like, has a dtype that isn't known here, or does not lie
                within its storage or the storage not within the file.

        """
        found = self._state[key]
        if type(found) is not Tensor:
            assert type(found) is Unreadable
            raise self._unreadable(key, found.kind)
        if found.storage.location == "meta":
            raise self._unreadable(key, "meta (saved without its values)")
        place = self._saved.place(found.storage)
        self._check(key, found)
        try:
            spec = TensorSpec(dtypes.by_name(found.dtype), found.shape)
        except ModelFileError as error:
            raise ModelFileError(f"{self.path}: tensor {shown(key)}: {error.what}", error.fix) from None
        self._known[key] = found, spec, place, found.contiguous
        return spec

    def region(self, key: str) -> Hashable:
        """Return storage, offset, dtype, shape and strides; None for a tensor without elements."""
        tensor = self._known[key][0]
        return (tensor.storage.key, *tensor[1:]) if tensor.size else None

    def read(self, key: str, start: int, stop: int) -> npt.NDArray[np.generic]:
        """Read elements `start` to `stop`, flat, as NumPy stores the dtype."""
        tensor, spec, place, contiguous = self._known[key]
        storage = spec.dtype.storage
        if contiguous:
            return self._file.array(place + (tensor.offset + start) * storage.itemsize, storage, stop - start)
        return gather(self._file, place, storage, tensor, start, stop)

    def verify(self) -> None:
        """Read everything, and compare with the zip archive's checksums."""
        self._saved.verify()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unreadable(self, key: str, kind: str) -> ModelFileError:
        return ModelFileError(
            f"{self.path}: tensor {shown(key)} is {kind}, and no plain array",
            "save plain tensors: .dequantize(), .to_dense(), .resolve_conj(), and load the model on the CPU",
        )

    def _check(self, key: str, tensor: Tensor) -> None:
        """Refuse a view that reaches outside of its storage, or that is more than the file could mean."""
        storage, _, offset, shape, stride = tensor
        numbers = (offset, *shape, *stride)
        whole = {*map(type, numbers)} == {int} and min(numbers) >= 0 and max(numbers) < 1 << 63
        if not whole or len(shape) != len(stride) or len(shape) > _DIMENSIONS:
            raise damaged(self.path, f"tensor {shown(key)} has a shape, strides or an offset that can't be")
        size, itemsize = tensor.size, ITEMSIZE[tensor.dtype]
        last = offset + sum(map(mul, shape, stride)) - sum(stride)
        if size and (last + 1) * itemsize > storage.nbytes:
            raise damaged(self.path, f"tensor {shown(key)} reaches outside of its storage")
        if size * itemsize > self._file.size + _SLACK:
            raise damaged(self.path, f"tensor {shown(key)} is {size * itemsize} bytes, spread out of a small file")


def _state(root: object, path: Path) -> dict[str, object]:
    """Find the state dict in what was saved."""
    if type(root) is not dict:
        raise ModelFileError(f"{path} holds no state dict, but {_described(root)}", _ALONE)
    holders = [name for name in HOLDERS if type(root.get(name)) is dict and _has_tensors(root[name])]
    if len(holders) > 1:
        raise ModelFileError(f"{path} holds several models: {' and '.join(holders)}", _ALONE)
    state = root[holders[0]] if holders else root
    if not _has_tensors(state):
        inside = ", ".join(shown(key) for key in list(state)[:8]) or "nothing"
        raise ModelFileError(f"{path} holds no state dict; at its top there is: {inside}", _ALONE)
    for key, value in state.items():
        if type(key) is not str and type(value) in (Tensor, Unreadable):
            raise ModelFileError(f"{path} holds a tensor whose key is no text", _ALONE)
    return {key: value for key, value in state.items() if type(key) is str}


def _has_tensors(found: dict[object, object]) -> bool:
    return any(type(value) in (Tensor, Unreadable) for value in found.values())


def _described(root: object) -> str:
    return "one tensor" if type(root) in (Tensor, Unreadable) else f"something of type {type(root).__name__}"
