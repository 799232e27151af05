"""Our messages inside Flower's."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from protos import flower
from protos import messages_pb2 as pb
from protos.errors import UpdateRefusedError
from protos.tensorfile import TensorFile

REQUEST = pb.Request(campaign_digest=b"c" * 32, submit=pb.Submit(parameters=["a", "b"]))


def test_a_message_and_its_sets_come_out_as_they_went_in():
    content = flower.packed(REQUEST, {"midpoint": b"\0\1\2", "site:fog": b""})
    assert flower.message_of(content, pb.Request, "it") == REQUEST
    assert flower.bytes_of(content, "midpoint", "it") == b"\0\1\2"
    assert flower.bytes_of(content, "site:fog", "it") == b""


def test_a_record_holds_the_message_and_the_sets_and_nothing_else():
    content = flower.packed(REQUEST, {"midpoint": b"\0"})
    assert set(content) == {"message", "set:midpoint"}
    assert dict(content["message"]) == {"bytes": REQUEST.SerializeToString(deterministic=True)}


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"message": ConfigRecord()}),
        RecordDict({"message": ConfigRecord({"bytes": "text"})}),
        RecordDict({"message": ConfigRecord({"bytes": 7})}),
        RecordDict({"message": ArrayRecord()}),
        RecordDict({"other": ConfigRecord({"bytes": b""})}),
    ],
)
def test_a_record_without_a_message_is_refused(content):
    with pytest.raises(UpdateRefusedError, match="node 7: there is no message"):
        flower.message_of(content, pb.Request, "node 7")


def array(raw: bytes = b"abcd", **changes) -> Array:
    return Array(**{"dtype": "uint8", "shape": (len(raw),), "stype": "onebasin.raw", "data": raw, **changes})


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (None, "are not in what arrived"),
        (ArrayRecord(), "are not in what arrived"),
        (ArrayRecord({"other": array()}), "are not in what arrived"),
        (ArrayRecord({"values": array(), "more": array()}), "are not in what arrived"),
        (ConfigRecord({"values": b"abcd"}), "are not in what arrived"),
        (ArrayRecord({"values": array(stype="numpy.ndarray")}), "contradicts itself"),
        (ArrayRecord({"values": array(dtype="float32")}), "contradicts itself"),
        (ArrayRecord({"values": array(shape=(5,))}), "contradicts itself"),
        (ArrayRecord({"values": array(shape=(2, 2))}), "contradicts itself"),
        (ArrayRecord({"values": array(shape=())}), "contradicts itself"),
    ],
)
def test_a_set_in_another_form_is_refused(record, said):
    content = RecordDict() if record is None else RecordDict({"set:parameters": record})
    with pytest.raises(UpdateRefusedError, match=said):
        flower.bytes_of(content, "parameters", "site fog")


def test_a_numpy_array_is_never_unpickled():
    content = RecordDict({"set:parameters": ArrayRecord({"values": Array(np.zeros(3, np.uint8))})})
    with pytest.raises(UpdateRefusedError, match="contradicts itself"):
        flower.bytes_of(content, "parameters", "site fog")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_joining_and_splitting_are_inverse_in_any_order(tmp_path, model, saved, dtype):
    one = model(1, dtype)
    with TensorFile(saved(tmp_path / "m", one)) as file:
        names = list(reversed(file.manifest.parameters))
        raw = flower.joined([(file, names)])
        parts = flower.split(raw, file.manifest.tensors, names, "it")
    assert [(name, bytes(part)) for name, part in parts] == [(name, one[name].tobytes()) for name in names]


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"\0", lambda raw: b""])
def test_too_few_or_too_many_bytes_are_refused(tmp_path, model, saved, change):
    with TensorFile(saved(tmp_path / "m", model(1))) as file:
        names = list(file.manifest.parameters)
        raw = flower.joined([(file, names)])
        with pytest.raises(UpdateRefusedError, match=r"site fog: sent .* bytes of parameters"):
            flower.split(change(raw), file.manifest.tensors, names, "site fog")
