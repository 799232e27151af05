"""Model files: ours are safetensors', and safetensors' are ours."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from protos import tensorfile
from protos.errors import ModelFileError, StorageError
from protos.tensorfile import TensorFile, write_arrays, write_tensors

DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
SHAPES = [(), (1,), (0,), (3, 0, 2), (5, 3), (2, 3, 4, 5)]


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def some(dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(7)) * 50
    return (values > 0) if dtype == "bool" else values.abs().to(getattr(torch, dtype))


@pytest.fixture
def theirs(tmp_path):
    """A file written by the safetensors library, with every dtype and shape."""
    tensors = {f"{dtype}.{i}": some(dtype, shape) for dtype in DTYPES for i, shape in enumerate(SHAPES)}
    save_file(tensors, tmp_path / "theirs.safetensors", {"who": "they", "what": "ü"})
    return tmp_path / "theirs.safetensors", tensors


def test_files_of_the_safetensors_library_are_read(theirs):
    path, tensors = theirs
    with TensorFile(path) as file:
        assert file.metadata == {"who": "they", "what": "ü"}
        assert list(file.manifest.tensors) == sorted(tensors)
        for name, tensor in tensors.items():
            spec = file.manifest.tensors[name]
            assert (spec.dtype.name, spec.shape) == (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            assert file.tensor(name).tobytes() == raw_bytes(tensor)


def test_files_of_ours_are_read_by_the_safetensors_library(theirs, tmp_path):
    path, tensors = theirs
    with TensorFile(path) as file:
        write_tensors(tmp_path / "ours.safetensors", file.manifest.tensors, file.chunks, {"who": "we"})
    ours = load_file(tmp_path / "ours.safetensors")
    assert ours.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert ours[name].dtype == tensor.dtype
        assert ours[name].shape == tensor.shape
        assert torch.equal(ours[name], tensor)


@given(start=st.integers(0, 60), length=st.integers(0, 60))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_of_a_tensor_can_be_read(theirs, start, length):
    path, tensors = theirs
    with TensorFile(path) as file:
        found = file.read("float32.5", start, start + length)
        np.testing.assert_array_equal(found, tensors["float32.5"].reshape(-1)[start : start + length].numpy())


@pytest.mark.parametrize("chunk", [8, 24, 1 << 20])
def test_chunks_put_together_are_the_whole(theirs, monkeypatch, chunk):
    monkeypatch.setattr(tensorfile, "CHUNK", chunk)
    path, tensors = theirs
    with TensorFile(path) as file:
        for name, tensor in tensors.items():
            parts = [bytes(part) for part in file.chunks(name)]
            assert b"".join(parts) == raw_bytes(tensor)
            assert all(len(part) <= chunk for part in parts)


def test_tensors_start_at_a_multiple_of_eight_bytes(tmp_path):
    write_arrays(tmp_path / "a", {"x" * n: np.zeros(n, np.float64) for n in range(1, 9)})
    assert (8 + int.from_bytes((tmp_path / "a").read_bytes()[:8], "little")) % 8 == 0


def test_small_arrays_are_written_in_order_of_name_whatever_their_memory_layout(tmp_path):
    arrays = {"b": np.arange(6.0).reshape(2, 3).T, "a": np.asarray(3)}
    write_arrays(tmp_path / "a", arrays)
    found = load_file(tmp_path / "a")
    assert found["b"].tolist() == arrays["b"].tolist()
    assert found["a"].shape == ()


# ------------------------------------------------------------------ refusals


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no file .*gone\.safetensors"):
        TensorFile(tmp_path / "gone.safetensors")


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(ModelFileError):
        TensorFile(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"\x00" * 8, b"PK\x03\x04" * 10, b"\xff" * 64, b"\x80\x02}q\x00."])
def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path, content):
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelFileError, match="damaged or no safetensors file"):
        TensorFile(tmp_path / "m")


def test_a_file_cut_short_anywhere_is_refused(tmp_path, model, saved):
    whole = saved(tmp_path / "m", model(1)).read_bytes()
    for length in range(0, len(whole), 41):
        (tmp_path / "m").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            TensorFile(tmp_path / "m")


def test_a_file_with_bytes_left_over_is_refused(tmp_path, model, saved):
    path = saved(tmp_path / "m", model(1))
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelFileError):
        TensorFile(path)


def test_a_flipped_bit_in_the_header_is_a_model_file_error_or_another_valid_header(tmp_path, model, saved):
    whole = saved(tmp_path / "m", model(1)).read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for position in range(end):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        (tmp_path / "m").write_bytes(damaged)
        try:
            with TensorFile(tmp_path / "m") as file:
                for name in file.manifest.tensors:
                    file.tensor(name)
        except ModelFileError:
            refused += 1
    assert refused > end // 3


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
        {"a": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}},
        {"a": "F32"},
        ["a"],
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "m").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 4)
    with pytest.raises(ModelFileError):
        TensorFile(tmp_path / "m")


def test_a_dtype_that_is_not_known_here_is_refused_with_the_file(tmp_path):
    save_file({"w": torch.zeros(3, dtype=torch.float8_e4m3fn)}, tmp_path / "m")
    with TensorFile(tmp_path / "m") as file, pytest.raises(ModelFileError, match=r"m: dtype F8_E4M3"):
        _ = file.manifest


def test_a_file_that_gets_shorter_while_it_is_open_is_refused(tmp_path, model, saved):
    path = saved(tmp_path / "m", model(1))
    with TensorFile(path) as file:
        with path.open("r+b") as other:
            other.truncate(path.stat().st_size - 100)
        with pytest.raises(ModelFileError, match="ends in the middle of"):
            for name in file.manifest.tensors:
                file.tensor(name)


def test_several_files_are_closed_when_one_of_them_is_missing(tmp_path, model, saved):
    with pytest.raises(ModelFileError), TensorFile(saved(tmp_path / "m", model(1))), TensorFile(tmp_path / "gone"):
        pass


@pytest.mark.parametrize("content", [[], [b"\0" * 3], [b"\0" * 4, b"\0"]])
def test_writing_other_bytes_than_announced_is_a_bug_and_leaves_nothing(tmp_path, content, manifest_for):
    specs = manifest_for({"a": np.zeros(1, np.float32)}).tensors
    with pytest.raises(AssertionError):
        write_tensors(tmp_path / "m", specs, lambda _: content)
    assert list(tmp_path.iterdir()) == []


def test_writing_into_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        write_arrays(tmp_path / "none" / "m", {"a": np.zeros(1)})
