"""What a checkpoint's pickle turns into: plain containers and numbers, and these inert stand-ins.

None of them does anything. A class or function that the pickle names becomes a `Global`, a tensor becomes the
description of where its elements lie.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np


class Global:
    """A class or function that a pickle may name.

    Attributes:
        name: Its full name, e.g. ``torch.Size``.
        make: A function of ours that stands for calling it; None if it is only a name.

    """

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[..., object] | None = None) -> None:
        self.name = name
        self.make = make


class Opaque:
    """An object whose content is left out, such as a training log's."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Unreadable:
    """A tensor that isn't a plain array, e.g. ``quantized``; an error only where its values are needed."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind


_KEYS = (str, bytes, bool, float, type(None), Global, Opaque)


def may_be_key(key: object, *, flat: bool = False) -> bool:
    """Say whether something may be a dictionary's key: what hashes fast, and unlike the others.

    Nested tuples may take for ever to hash, or more stack than there is; integers of many digits may be chosen to
    collide. Neither is needed.
    """
    if type(key) is int:
        return -(1 << 63) <= key < 1 << 63
    if type(key) is tuple and not flat:
        return len(key) <= 8 and all(may_be_key(part, flat=True) for part in key)
    return type(key) in _KEYS


class Storage(NamedTuple):
    """A run of elements in the file, which tensors are views of.

    Attributes:
        key: Its name in the file.
        dtype: Its elements' torch name.
        itemsize: Bytes of one element.
        size: How many elements.
        location: The device that it was saved from.

    """

    key: str
    dtype: str
    itemsize: int
    size: int
    location: str

    @property
    def nbytes(self) -> int:
        """Count its bytes."""
        return self.size * self.itemsize


class Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements of `dtype`, a torch name."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """Count its elements."""
        return prod(self.shape)

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie one after the other, in order."""
        step = 1
        for length, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if length != 1 and stride != step:
                return self.size == 0
            step *= length
        return True


class NumpyType:
    """A NumPy dtype: its code (``f8``) and byte order, which a pickle gives in two steps."""

    __slots__ = ("code", "order")
    CODES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})

    def __init__(self, code: str) -> None:
        self.code = code
        self.order = "|"

    def build(self, state: object) -> None:
        """Take the byte order; a structured type stays without, and so unknown."""
        if type(state) is tuple and len(state) >= 2 and state[1] in ("<", ">", "|", "="):
            self.order = state[1]

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """Return the type if it is one of numbers, else None."""
        return np.dtype(self.order + self.code) if self.code in self.CODES else None


class NumpyArray:
    """A NumPy array: dtype, shape and bytes as the pickle gives them, not yet believed."""

    __slots__ = ("raw", "shape", "type")

    def __init__(self) -> None:
        self.type: object = None
        self.shape: object = None
        self.raw: object = None

    def build(self, state: object) -> None:
        """Take the content: version, shape, dtype, whether in Fortran's order, bytes."""
        if type(state) is tuple and len(state) == 5 and not state[3]:
            _, self.shape, self.type, _, self.raw = state
