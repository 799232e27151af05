"""A model's digest names its tensors and nothing else."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from protos import tensorfile
from protos.digest import file_digest, sha256, short, stream_digest
from protos.errors import ModelFileError
from protos.tensorfile import TensorFile


@pytest.fixture
def digest(tmp_path):
    def of(model, writer=None, metadata=None) -> bytes:
        path = tmp_path / "m.safetensors"
        writer(path, model, metadata)
        with TensorFile(path) as file:
            return file_digest(file)

    return of


def test_the_digest_is_the_documented_one(tmp_path, saved):
    arrays = {"é": np.asarray([1, 2], np.float32), "a": np.asarray(3)}
    lines = [
        json.dumps([name, dtype, shape, hashlib.sha256(arrays[name].tobytes()).hexdigest()], separators=(",", ":"))
        for name, dtype, shape in (("a", "int64", []), ("é", "float32", [2]))
    ]
    wanted = hashlib.sha256(("onebasin model v1\n" + "".join(line + "\n" for line in lines)).encode()).digest()
    with TensorFile(saved(tmp_path / "m", arrays)) as file:
        assert file_digest(file) == wanted


def test_the_digest_depends_neither_on_the_file_nor_on_the_order_in_it(digest, model, saved, monkeypatch):
    one = model(1)
    ours = digest(one, saved)
    assert digest(one, saved, {"any": "metadata"}) == ours
    backwards = dict(reversed(one.items()))
    # The library writes large dtypes first, so its order differs from ours.
    assert digest(backwards, lambda path, m, _: save_file(m, path)) == ours
    monkeypatch.setattr(tensorfile, "CHUNK", 16)
    assert digest(one, saved) == ours


@pytest.mark.parametrize("seed", range(20))
def test_any_changed_byte_changes_the_digest(digest, model, saved, seed):
    one, rng = model(1), np.random.default_rng(seed)
    before = digest(one, saved)
    name = rng.choice([name for name, array in one.items() if array.size])
    changed = bytearray(one[name].tobytes())
    changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
    one[name] = np.frombuffer(bytes(changed), one[name].dtype).reshape(one[name].shape)
    assert digest(one, saved) != before


def test_another_name_shape_or_dtype_changes_the_digest(digest, saved):
    one = {"w": np.zeros((2, 3), np.float32)}
    others = [
        {"v": np.zeros((2, 3), np.float32)},
        {"w": np.zeros((3, 2), np.float32)},
        {"w": np.zeros(6, np.float32)},
        {"w": np.zeros((2, 3), np.int32)},
        {"w": np.zeros((2, 3), np.float32), "x": np.zeros(0, np.float32)},
        {"w": np.zeros((2, 3), np.float32), "x": np.zeros((0, 1), np.float32)},
        {},
    ]
    digests = [digest(model, saved) for model in (one, *others)]
    assert len(set(digests)) == len(digests)


def test_zeros_of_either_sign_are_different_bytes(digest, saved):
    assert digest({"w": np.zeros(1, np.float32)}, saved) != digest({"w": -np.zeros(1, np.float32)}, saved)


@given(st.lists(st.binary(max_size=20)))
def test_a_stream_is_digested_as_its_concatenation(chunks):
    assert sha256(chunks) == hashlib.sha256(b"".join(chunks)).digest()


def test_people_compare_twelve_digits():
    assert short(bytes(range(32))) == "000102030405"


def test_a_files_digest_is_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    assert stream_digest(tmp_path / "file") == hashlib.sha256(b"x" * 300_000).hexdigest()
    with pytest.raises(ModelFileError, match="can't read"):
        stream_digest(tmp_path / "none")
