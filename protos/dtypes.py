"""The dtypes that are known here, each under the names that its users give it.

NumPy has no bfloat16, so its values are stored as the upper halves of float32 (``uint16``) and widened where
numbers are needed. Every floating dtype widens to float32 without loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from protos import update_pb2 as pb
from protos.errors import ModelFileError


@dataclass(frozen=True)
class DType:
    """A tensor's element type: its torch name, its safetensors name, and how NumPy stores it."""

    name: str
    code: str
    storage: np.dtype[np.generic]
    wire: pb.DType = pb.DTYPE_UNSPECIFIED

    @property
    def floating(self) -> bool:
        """Whether values are real numbers; only those may be parameters on the wire."""
        return self.wire != pb.DTYPE_UNSPECIFIED

    def widen(self, raw: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """Return stored values of a floating dtype as float32, exactly."""
        if self.name == "bfloat16":
            return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return raw.astype(np.float32, copy=False)

    def narrow(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.generic]:
        """Round real values to this dtype's storage, to nearest with ties to even.

        bfloat16 is rounded from float32, so a float64 input is rounded twice.
        """
        if self.name != "bfloat16":
            return values.astype(self.storage)
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        # Adding half of the dropped range, and one more where the kept part is odd, rounds ties to even.
        rounded: npt.NDArray[np.uint32] = (
            bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        ) >> np.uint32(16)
        return rounded.astype(np.uint16)


_ALL = (
    DType("float32", "F32", np.dtype("<f4"), pb.DTYPE_FLOAT32),
    DType("float16", "F16", np.dtype("<f2"), pb.DTYPE_FLOAT16),
    DType("bfloat16", "BF16", np.dtype("<u2"), pb.DTYPE_BFLOAT16),
    DType("float64", "F64", np.dtype("<f8")),
    DType("int64", "I64", np.dtype("<i8")),
    DType("int32", "I32", np.dtype("<i4")),
    DType("int16", "I16", np.dtype("<i2")),
    DType("int8", "I8", np.dtype("i1")),
    DType("uint8", "U8", np.dtype("u1")),
    DType("bool", "BOOL", np.dtype("?")),
)
_BY_NAME = {dtype.name: dtype for dtype in _ALL}
_BY_CODE = {dtype.code: dtype for dtype in _ALL}
_BY_WIRE = {dtype.wire: dtype for dtype in _ALL if dtype.floating} | {pb.DTYPE_SUM: _BY_NAME["int64"]}
"""A region's sums are parameters that are no real numbers."""

FLOAT32 = _BY_NAME["float32"]
INT64 = _BY_NAME["int64"]
UINT8 = _BY_NAME["uint8"]


def by_name(name: str) -> DType:
    """Look a dtype up by its torch name, e.g. ``"float32"`` (``str(dtype)`` without ``torch.``)."""
    return _lookup(_BY_NAME, name)


def by_code(code: str) -> DType:
    """Look a dtype up by its safetensors name, e.g. ``"F32"``."""
    return _lookup(_BY_CODE, code)


def by_wire(value: int) -> DType | None:
    """Look a parameter's dtype up by its number on the wire; None if there is no such number."""
    return _BY_WIRE.get(value)  # type: ignore[call-overload,no-any-return]


def _lookup(table: dict[str, DType], key: str) -> DType:
    try:
        return table[key]
    except KeyError:
        raise ModelFileError(
            f"dtype {key} is not known here", f"convert the tensor to one of: {', '.join(table)}"
        ) from None
