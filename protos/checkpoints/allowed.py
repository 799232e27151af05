"""The allow-list: every class and function that a checkpoint's pickle may name, and what stands for it.

The list mirrors what ``torch.load(weights_only=True)`` allows, and adds the harmless classes that training tools
put into their checkpoints. Each is looked up by its full name; nothing is ever imported.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protos.checkpoints.standins import (
    Global,
    NumpyArray,
    NumpyType,
    Opaque,
    Storage,
    Tensor,
    Unreadable,
    may_be_key,
)

ITEMSIZE = {
    **dict.fromkeys(("complex128",), 16),
    **dict.fromkeys(("float64", "int64", "uint64", "complex64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32", "qint32", "complex32"), 4),
    **dict.fromkeys(("float16", "bfloat16", "int16", "uint16", "bits16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool", "qint8", "quint8", "quint4x2", "quint2x4"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"), 1),
    **dict.fromkeys(("float4_e2m1fn_x2", "bits8", "bits1x8", "bits2x4", "bits4x2"), 1),
}
"""Bytes of one element, by a dtype's torch name."""

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QInt32Storage": "qint32",
    "QUInt8Storage": "quint8",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
}

_LAYOUTS = ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")
_SCHEMES = ("per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric")

_NAMES = (
    *("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "numpy.ndarray"),
    *(f"torch.{name}" for name in (*_LAYOUTS, *_SCHEMES, "per_channel_affine_float_qparams")),
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in ("dict", "list", "int", "float", "str")
    ),
)
"""May be named (as a type, or as a defaultdict's factory), never called."""

_OPAQUE = (
    "argparse.Namespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib.PureWindowsPath",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.config.config.ConfigDict",
    "mmcv.utils.config.ConfigDict",
)
"""Settings and logs beside the weights: allowed so that the file opens, their content is left out."""


def storage(saved: object) -> Storage:
    """Return the storage that a persistent id names: ("storage", type, key, location, size[, None]).

    Raises:
        TypeError: It is anything else.

    """
    if (
        type(saved) is not tuple
        or len(saved) not in (5, 6)
        or saved[0] != "storage"
        or saved[5:] not in ((), (None,))
    ):
        raise TypeError
    _, kind, key, location, size = saved[:5]
    if type(kind) is not Global or type(key) is not str or type(location) is not str:
        raise TypeError
    if type(size) is not int or not 0 <= size < 1 << 60:
        raise TypeError
    dtype = _STORAGE_TYPES.get(kind.name)
    if dtype is None:
        raise TypeError
    return Storage(key, dtype, ITEMSIZE[dtype], size, location)


def _tensor(storage: object, offset: object, shape: object, stride: object, *rest: object) -> Tensor | Unreadable:
    """Stand for ``_rebuild_tensor`` and ``_v2``: …, requires_grad, backward_hooks[, metadata]."""
    if type(storage) is not Storage or len(rest) > 3:
        raise TypeError
    return _view(storage, storage.dtype, (offset, shape, stride), rest[2:])


def _tensor_v3(
    storage: object, offset: object, shape: object, stride: object, *rest: object
) -> Tensor | Unreadable:
    """Stand for ``_rebuild_tensor_v3``: …, requires_grad, backward_hooks, dtype[, metadata]."""
    if type(storage) is not Storage or len(rest) not in (3, 4) or type(rest[2]) is not Global:
        raise TypeError
    dtype = rest[2].name.removeprefix("torch.")
    if dtype not in ITEMSIZE:
        return Unreadable(dtype)
    return _view(storage, dtype, (offset, shape, stride), rest[3:])


def _view(
    storage: Storage, dtype: str, place: tuple[object, object, object], metadata: tuple[object, ...]
) -> Tensor | Unreadable:
    offset, shape, stride = place
    if type(offset) is not int or type(shape) is not tuple or type(stride) is not tuple:
        raise TypeError
    if metadata and metadata[0]:
        return Unreadable("lazily conjugated or negated")
    return Tensor(storage, dtype, offset, shape, stride)


def _parameter(data: object, *_: object) -> object:
    if type(data) not in (Tensor, Unreadable):
        raise TypeError
    return data


def _from_type(function: object, kind: object, args: object, _: object) -> object:
    """Stand for a tensor with Python attributes, which are left out."""
    if type(function) is not Global or function.make not in _REBUILD.values() or type(args) is not tuple:
        raise TypeError
    if type(kind) is not Global or kind.name not in _NAMES:
        return Unreadable("subclassed")
    return function.make(*args)  # type: ignore[misc]


def _mapping(*args: object) -> dict[object, object]:
    """Stand for OrderedDict() and OrderedDict([[key, value], …]), as Python 2 writes it."""
    if not args:
        return {}
    (pairs,) = args
    if type(pairs) is not list or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise TypeError
    if not all(may_be_key(key) for key, _ in pairs):
        raise TypeError
    return dict(pairs)


def _counter(*args: object) -> dict[object, object]:
    counts = args[0] if args else {}
    if type(counts) is not dict:
        raise TypeError
    return dict(counts)


def _default(*_: object) -> dict[object, object]:
    return {}


def _listed(values: object = (), *_: object) -> list[object]:
    """Stand for set([…]) and deque([…], length); a list will do, and needs no hashes of its elements."""
    if type(values) is not list and type(values) is not tuple:
        raise TypeError
    return list(values)


def _size(values: object) -> tuple[object, ...]:
    if type(values) is not tuple:
        raise TypeError
    return values


def _encoded(text: object, encoding: object = "latin1") -> bytes:
    """Stand for ``_codecs.encode``, by which protocol 2 writes bytes."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise TypeError
    return text.encode("latin1")


def _bytes(content: object = b"", encoding: object = "latin1") -> bytes:
    return content if type(content) is bytes else _encoded(content, encoding)


def _numpy_type(code: object, *_: object) -> NumpyType:
    if type(code) is not str:
        raise TypeError
    return NumpyType(code)


def _numpy_scalar(kind: object, raw: object) -> object:
    if type(kind) is not NumpyType:
        raise TypeError
    raw = raw.encode() if type(raw) is str else raw  # Python 2's strings are bytes
    dtype = kind.dtype
    if dtype is None or type(raw) is not bytes:
        return Opaque("numpy scalar")
    if len(raw) != dtype.itemsize:
        raise TypeError
    return np.frombuffer(raw, dtype)[0].item()


def _numpy_array(*_: object) -> NumpyArray:
    return NumpyArray()


def _numpy_buffer(raw: object, kind: object, shape: object, order: object) -> NumpyArray:
    """Stand for the way in which protocol 5 gives an array."""
    found = NumpyArray()
    found.build((1, shape, kind, order != "C", raw))
    return found


def _opaque(name: str) -> Callable[..., Opaque]:
    return lambda *_, **__: Opaque(name)


def _unreadable(kind: str) -> Callable[..., Unreadable]:
    return lambda *_: Unreadable(kind)


_REBUILD: dict[str, Callable[..., object]] = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_v3,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
    "_rebuild_qtensor": _unreadable("quantized"),
    "_rebuild_sparse_tensor": _unreadable("sparse"),
    "_rebuild_meta_tensor_no_storage": _unreadable("meta"),
    "_rebuild_nested_tensor": _unreadable("nested"),
    "_rebuild_wrapper_subclass": _unreadable("subclassed"),
    "_rebuild_device_tensor_from_numpy": _unreadable("device-only"),
    "_rebuild_device_tensor_from_cpu_tensor": _unreadable("device-only"),
}

_STORAGE_TYPES = {
    **{f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in STORAGES.items()},
    "torch.storage.UntypedStorage": "uint8",
}

_FUNCTIONS: dict[str, Callable[..., object]] = {
    **{f"torch._utils.{name}": make for name, make in _REBUILD.items()},
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _size,
    "torch.device": _opaque("torch.device"),
    "torch.serialization._get_layout": _opaque("layout"),
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default,
    "collections.Counter": _counter,
    "collections.deque": _listed,
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_type,
    **{f"{module}.set": _listed for module in ("builtins", "__builtin__")},
    **{f"{module}.frozenset": _listed for module in ("builtins", "__builtin__")},
    **{f"{module}.{name}": _bytes for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")},
    **{f"{module}.complex": _opaque("complex") for module in ("builtins", "__builtin__")},
    **{f"numpy.{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray._reconstruct": _numpy_array for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _numpy_buffer for core in ("core", "_core")},
    **{name: _opaque(name) for name in _OPAQUE},
}

ALLOWED: dict[str, Global] = {
    **{name: Global(name) for name in (*_NAMES, *_STORAGE_TYPES, *(f"torch.{dtype}" for dtype in ITEMSIZE))},
    **{name: Global(name, make) for name, make in _FUNCTIONS.items()},
}
"""Stand-ins by full name."""
