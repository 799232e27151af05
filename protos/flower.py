"""A campaign's messages inside Flower's: one protobuf message, and sets of parameters as flat arrays of bytes.

Flower moves every array, and every chunk of one, by a call of its own, so a model of hundreds of small tensors
is slow to move. A set of parameters therefore travels as one array: the raw little-endian bytes of its tensors,
one after the other in an order that both sides know. Names, shapes and dtypes are the base's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TypeVar

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from google.protobuf.message import Message

from protos import signing
from protos.errors import UpdateRefusedError
from protos.manifest import TensorSpec
from protos.tensorfile import TensorFile

MESSAGE, BYTES, STYPE, VALUES = "message", "bytes", "onebasin.raw", "values"
PARAMETERS = "parameters"
"""The set in which a part of an update travels."""

M = TypeVar("M", bound=Message)


def packed(message: Message, sets: Mapping[str, bytes] | None = None) -> RecordDict:
    """Put a message and named sets of raw bytes into a Flower record."""
    content = RecordDict({MESSAGE: ConfigRecord({BYTES: signing.encode(message)})})
    for name, raw in (sets or {}).items():
        array = Array(dtype="uint8", shape=(len(raw),), stype=STYPE, data=raw)
        content[f"set:{name}"] = ArrayRecord({VALUES: array})
    return content


def message_of(content: RecordDict, kind: type[M], whose: str) -> M:
    """Read the message in a Flower record.

    Raises:
        UpdateRefusedError: There is none, or it is not in canonical form.

    """
    record = content.config_records.get(MESSAGE)
    payload = record.get(BYTES) if record is not None else None
    if not isinstance(payload, bytes):
        raise UpdateRefusedError(f"{whose}: there is no message in what arrived", "run onebasin on both sides")
    return signing.decode(payload, kind, whose)


def bytes_of(content: RecordDict, name: str, whose: str) -> bytes:
    """Read a named set's raw bytes.

    Raises:
        UpdateRefusedError: It is not there, or in another form.

    """
    record = content.array_records.get(f"set:{name}")
    array = record.get(VALUES) if record is not None else None
    if array is None or len(record or ()) != 1:
        raise UpdateRefusedError(f"{whose}: the parameters {name!r} are not in what arrived", "send them again")
    if array.stype != STYPE or array.dtype != "uint8" or tuple(array.shape) != (len(array.data),):
        raise UpdateRefusedError(f"{whose}: the array {name!r} contradicts itself", "run onebasin on both sides")
    return array.data


def taken(content: RecordDict, name: str, whose: str) -> BytesIO:
    """Take a named set out of what arrived, so that its bytes are nowhere else.

    Raises:
        UpdateRefusedError: It is not there, or in another form.

    """
    found = BytesIO(bytes_of(content, name, whose))
    del content[f"set:{name}"]
    return found


def joined(pieces: Iterable[tuple[TensorFile, Iterable[str]]]) -> bytes:
    """Read tensors from files into one run of raw bytes."""
    # A part is large: the buffer's own bytes are handed out, where a bytearray would have to be copied.
    content = BytesIO()
    for file, names in pieces:
        for name in names:
            for chunk in file.chunks(name):
                content.write(chunk)
    return content.getvalue()


def split(
    raw: bytes | memoryview, specs: Mapping[str, TensorSpec], names: Iterable[str], whose: str
) -> list[tuple[str, memoryview]]:
    """Cut raw bytes into named tensors again, without copying.

    Raises:
        UpdateRefusedError: They are more or fewer than the tensors of these names have.

    """
    found, position, view = [], 0, memoryview(raw)
    for name in names:
        end = position + specs[name].nbytes
        found.append((name, view[position:end]))
        position = end
    if position != len(raw):
        raise UpdateRefusedError(
            f"{whose}: sent {len(raw)} bytes of parameters, the base's have {position}",
            "the site must adapt the campaign's base without changing its architecture",
        )
    return found
