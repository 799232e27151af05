"""A model that is digested while it is read."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from protos import tensorfile
from protos.checkpoints import DigestingReader, open_model
from protos.checkpoints.modelfile import ModelFile
from protos.digest import file_digest
from protos.tensorfile import TensorFile, write_arrays

ARRAYS = {
    "a.weight": np.arange(40, dtype=np.float32).reshape(5, 8),
    "b.weight": np.linspace(0, 1, 1000, dtype=np.float16),
    "empty": np.zeros((0, 3), np.float32),
    "n.num_batches_tracked": np.asarray(7),
    "n.running_mean": np.ones(4, np.float32),
    "n.running_var": np.ones(4, np.float32),
    "single": np.asarray(2.5, np.float32),
}


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "m.safetensors"
    write_arrays(found, ARRAYS)
    return found


@pytest.fixture
def expected(path):
    with TensorFile(path) as file:
        return file_digest(file)


@pytest.fixture
def bytes_read(monkeypatch):
    """How many elements were read of each tensor."""
    found: dict[str, int] = {}
    read = ModelFile.read

    def counted(self, name, start=0, stop=None):
        values = read(self, name, start, stop)
        found[name] = found.get(name, 0) + values.size
        return values

    monkeypatch.setattr(ModelFile, "read", counted)
    return found


def in_pieces(reader, name, *cuts):
    size = reader.manifest.tensors[name].size
    for start, stop in zip((0, *cuts), (*cuts, size), strict=True):
        reader.read(name, start, stop)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_digest_is_the_canonical_one_whatever_was_read_before(path, expected, threads):
    with DigestingReader(open_model(path), threads) as reader:
        in_pieces(reader, "a.weight", 7, 8, 31)
        reader.tensor("n.running_mean")
        list(reader.chunks("single"))
        assert reader.digest() == expected


def test_what_was_read_in_order_is_not_read_again(path, expected, bytes_read):
    reader = DigestingReader(open_model(path))
    in_pieces(reader, "a.weight", 9)
    reader.read("b.weight", 0, 600)
    assert reader.digest() == expected
    assert bytes_read == {name: array.size for name, array in ARRAYS.items() if array.size}
    reader.close()


@pytest.mark.parametrize(
    "ranges", [[(5, 40)], [(0, 10), (5, 20), (0, 40)], [(0, 40), (0, 40)], [(0, 3), (30, 40)]]
)
def test_reading_out_of_order_or_twice_does_no_harm(path, expected, ranges):
    with DigestingReader(open_model(path)) as reader:
        for start, stop in ranges:
            assert np.array_equal(reader.read("a.weight", start, stop), ARRAYS["a.weight"].ravel()[start:stop])
        assert reader.digest() == expected


def test_large_tensors_are_read_chunk_by_chunk(path, expected, monkeypatch):
    monkeypatch.setattr(tensorfile, "CHUNK", 16)
    with DigestingReader(open_model(path)) as reader:
        assert b"".join(reader.chunks("a.weight")) == ARRAYS["a.weight"].tobytes()
        assert reader.digest() == expected


def test_samples_tell_models_apart_without_reading_them(tmp_path, bytes_read):
    large = {"w": np.zeros(1 << 20, np.float32), "v": np.zeros(3, np.float32)}
    readers = []
    for place, change in enumerate([{}, {"v": np.ones(3, np.float32)}, {}]):
        file = tmp_path / f"{place}.safetensors"
        write_arrays(file, {**large, **change})
        readers.append(DigestingReader(open_model(file)))
    bytes_read.clear()
    samples = [reader.sample for reader in readers]
    assert samples[0] == samples[2] != samples[1]
    assert sum(bytes_read.values()) < 10_000
    for reader in readers:
        reader.close()


def test_a_digest_is_kept(path, expected, bytes_read):
    with DigestingReader(open_model(path)) as reader:
        assert reader.digest() == reader.digest() == expected
        assert hashlib.sha256(reader.tensor("single").tobytes()).digest()  # reading goes on as ever
