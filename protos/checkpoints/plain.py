"""A checkpoint's notes (`meta`) as plain Python values, within bounds."""

from __future__ import annotations

from math import prod

import numpy as np

from protos.checkpoints.pickles import LIMIT
from protos.checkpoints.standins import NumpyArray, NumpyType

_DEPTH = 40
_NODE = 64


class _NotPlainError(Exception):
    """A value can't be given as plain Python, or not within bounds."""


def plain_entries(found: object) -> dict[str, object]:
    """Return those entries of a pickled dictionary that are plain values all through.

    Plain are None, booleans, numbers, text, bytes, lists, tuples and dictionaries. Sets and NumPy arrays become
    lists. An entry with anything else inside (a tensor, a log's object) is left out, as is one that is nested
    deeply or would be huge if it were written out: in a pickle, a small thing may hold another one many times.
    """
    if type(found) is not dict:
        return {}
    room = [LIMIT]
    entries: dict[str, object] = {}
    for name, value in found.items():
        if type(name) is str:
            try:
                entries[name] = _plain(value, room, _DEPTH)
            except _NotPlainError:
                continue
    return entries


def _plain(value: object, room: list[int], depth: int) -> object:
    room[0] -= _NODE + (len(value) if isinstance(value, str | bytes) else 0)
    if room[0] < 0 or depth == 0:
        raise _NotPlainError
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if type(value) is list:
        return [_plain(item, room, depth - 1) for item in value]
    if type(value) is tuple:
        return tuple(_plain(item, room, depth - 1) for item in value)
    if type(value) is dict:
        return {_plain(key, room, depth - 1): _plain(item, room, depth - 1) for key, item in value.items()}
    if type(value) is NumpyArray:
        return _listed(value, room)
    raise _NotPlainError


def _listed(array: NumpyArray, room: list[int]) -> object:
    dtype = array.type.dtype if type(array.type) is NumpyType else None
    raw = array.raw.encode() if type(array.raw) is str else array.raw
    shape = array.shape
    if dtype is None or type(raw) is not bytes or type(shape) is not tuple or len(shape) > _DEPTH:
        raise _NotPlainError
    if any(type(length) is not int or length < 0 for length in shape):
        raise _NotPlainError
    room[0] -= _NODE * (len(raw) + sum(shape))
    if room[0] < 0 or prod(shape) * dtype.itemsize != len(raw):
        raise _NotPlainError
    return np.frombuffer(raw, dtype).reshape(shape).tolist()
