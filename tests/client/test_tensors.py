"""Between PyTorch's tensors and raw arrays."""

from __future__ import annotations

import pytest
import torch

from client.tensors import load_state, raw, raw_state
from protos import dtypes
from protos.errors import ModelFileError
from protos.manifest import TensorSpec
from protos.tensorfile import write_tensors

DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3, 4)])
def test_a_tensor_survives_the_way_to_a_file_and_back(tmp_path, dtype, shape):
    tensor = (torch.rand(shape) * 100).to(getattr(torch, dtype))
    array = raw(tensor)
    spec = TensorSpec(dtypes.by_name(dtype), tuple(shape))
    assert array.dtype == spec.dtype.storage
    assert array.shape == spec.shape
    write_tensors(tmp_path / "m", {"w": spec}, lambda _: [array.tobytes()])
    again = load_state(tmp_path / "m")["w"]
    assert again.dtype == tensor.dtype
    assert again.shape == tensor.shape
    assert torch.equal(again, tensor)


def test_a_view_with_another_memory_layout_is_read_in_order():
    tensor = torch.arange(6.0).reshape(2, 3).T
    assert raw(tensor).tolist() == tensor.tolist()
    assert raw(tensor.to(torch.bfloat16)).shape == (3, 2)


def test_a_parameter_that_is_trained_is_read_without_its_history():
    parameter = torch.nn.Parameter(torch.ones(2))
    assert raw(parameter * 2).tolist() == [2, 2]


def test_what_is_no_tensor_is_left_out():
    assert raw_state({"w": torch.ones(1), "step": 7, "who": "me", "optimizer": {"m": torch.ones(1)}}).keys() == {
        "w"
    }


def test_a_file_is_read_as_pytorch_does(tmp_path, model, saved):
    one = model(1)
    state = load_state(saved(tmp_path / "m", one))
    assert {name: t.tolist() for name, t in state.items()} == {name: a.tolist() for name, a in one.items()}


@pytest.mark.parametrize("content", [None, b"", b"\x80\x02}q\x00."])
def test_a_file_that_cannot_be_read_is_a_model_file_error(tmp_path, content):
    if content is not None:
        (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError, match="can't read"):
        load_state(tmp_path / "m")
