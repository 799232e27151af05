"""A model file that is put together from parts."""

from __future__ import annotations

import random

import pytest

from protos.assembly import Assembly, parts
from protos.errors import StorageError
from protos.tensorfile import TensorFile


@pytest.fixture
def one(model):
    return model(1)


@pytest.fixture
def specs(one, manifest_for):
    return manifest_for(one).parameters


@pytest.mark.parametrize("size", [0, 1, 20, 64, 200, 1 << 20])
def test_parts_hold_every_tensor_once_and_keep_to_the_size(specs, size):
    found = list(parts(specs, size))
    assert [name for part in found for name in part] == list(specs)
    for part in found:
        assert sum(specs[name].nbytes for name in part) <= size or len(part) == 1


@pytest.mark.parametrize("seed", range(5))
def test_parts_from_several_writers_in_any_order_make_the_file(tmp_path, one, specs, seed):
    dice = random.Random(seed)
    shuffled = [part for part in parts(specs, 60) for _ in range(dice.randint(1, 2))]
    dice.shuffle(shuffled)
    for part in shuffled:
        Assembly(tmp_path / "m", specs).write({name: one[name].tobytes() for name in part})
    with TensorFile(tmp_path / "m") as file:
        assert file.manifest.tensors == specs
        assert all(file.tensor(name).tobytes() == one[name].tobytes() for name in specs)


def test_what_is_still_missing_is_zero(tmp_path, one, specs):
    Assembly(tmp_path / "m", specs).write({"stem.weight": one["stem.weight"].tobytes()})
    with TensorFile(tmp_path / "m") as file:
        assert file.tensor("stem.weight").tobytes() == one["stem.weight"].tobytes()
        assert not file.tensor("head.weight").any()


def test_a_folder_that_is_gone_is_a_storage_error(tmp_path, one, specs):
    with pytest.raises(StorageError, match=r"can't write .*gone"):
        Assembly(tmp_path / "gone" / "m", specs).write({"scale": one["scale"].tobytes()})


def test_a_full_disk_is_a_storage_error(tmp_path, one, specs, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", full)
    with pytest.raises(StorageError, match="No space left"):
        Assembly(tmp_path / "m", specs).write({"scale": one["scale"].tobytes()})
