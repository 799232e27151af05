"""A model in several safetensors files, put together by an index."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from protos import tensorfile
from protos.checkpoints import Kind, open_model
from protos.errors import ModelFileError

INDEX = "model.safetensors.index.json"
STATE = {
    "bn.num_batches_tracked": torch.tensor(3),
    "bn.running_mean": torch.randn(4),
    "bn.running_var": torch.rand(4),
    "conv.weight": torch.randn(4, 3),
    "head.weight": torch.randn(5, 4).bfloat16(),
}
PARTS = {"one-1-of-2.safetensors": sorted(STATE)[:2], "two-2-of-2.safetensors": sorted(STATE)[2:]}


@pytest.fixture
def folder(tmp_path):
    """Two files, between which a BatchNorm layer's statistics are split, and their index."""
    for name, keys in PARTS.items():
        save_file({key: STATE[key] for key in keys}, tmp_path / name, {"format": "pt"})
    places = {key: name for name, keys in PARTS.items() for key in keys}
    write(tmp_path, places)
    return tmp_path


def write(folder, places):
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def places(folder):
    return json.loads((folder / INDEX).read_text())["weight_map"]


@pytest.mark.parametrize("by", ["index", "folder"])
def test_all_tensors_are_found(folder, stored, by, monkeypatch):
    monkeypatch.setattr(tensorfile, "CHUNK", 16)
    with open_model(folder / INDEX if by == "index" else folder) as file:
        assert (file.kind, file.path) == (Kind.SHARDED, folder / INDEX)
        assert file.files == (folder / INDEX, *(folder / name for name in PARTS))
        assert file.metadata == {"format": "pt"}
        assert list(file.manifest.layers) == ["bn"]
        for name, tensor in STATE.items():
            assert file.tensor(name).tobytes() == stored(tensor).tobytes()
            assert b"".join(file.chunks(name)) == stored(tensor).tobytes()
        np.testing.assert_array_equal(
            file.read("conv.weight", 2, 5), STATE["conv.weight"].reshape(-1)[2:5].numpy()
        )
        file.verify()


def test_an_index_elsewhere_in_a_cache_of_links_is_read(folder, tmp_path_factory):
    snapshot = tmp_path_factory.mktemp("snapshot")
    for path in folder.iterdir():
        (snapshot / path.name).symlink_to(path)
    with open_model(snapshot) as file:
        assert len(file.manifest.tensors) == len(STATE)


def test_a_missing_file_is_named(folder):
    (folder / "two-2-of-2.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"names two-2-of-2\.safetensors, which is not beside it"):
        open_model(folder)


def test_a_damaged_file_is_named(folder):
    path = folder / "two-2-of-2.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFileError, match=r"two-2-of-2\.safetensors is damaged"):
        open_model(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"conv.weight": "one-1-of-2.safetensors"}, "conv.weight is in one-1-of-2.safetensors, but it is in two"),
        ({"more.weight": "one-1-of-2.safetensors"}, "more.weight is in .*, but it is in none of its files"),
        ({"conv.weight": None}, "two-2-of-2.safetensors holds conv.weight, which .* doesn't name"),
        ({"conv.weight": "model.bin"}, "names model.bin, which is no safetensors file"),
        ({"conv.weight": 3}, "no index"),
    ],
)
def test_an_index_that_contradicts_its_files_is_refused(folder, change, said):
    write(folder, {key: name for key, name in {**places(folder), **change}.items() if name is not None})
    with pytest.raises(ModelFileError, match=said) as caught:
        open_model(folder)
    assert caught.value.fix


def test_a_tensor_in_two_files_is_refused(folder):
    save_file({key: STATE[key] for key in sorted(STATE)[1:]}, folder / "two-2-of-2.safetensors")
    with pytest.raises(ModelFileError, match=r"both .*one-1.* and .*two-2.* hold bn\.running_mean"):
        open_model(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": [1]}', '{"weight_map": 3}', "\0"]
)
def test_something_else_by_the_name_of_an_index_is_refused(folder, content):
    (folder / INDEX).write_text(content)
    with pytest.raises(ModelFileError, match="no index of a model in several files"):
        open_model(folder)


def test_a_folder_has_to_hold_one_model(folder, tmp_path_factory):
    (folder / "other.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelFileError, match=r"holds several models: model\.safetensors\.index\.json, other"):
        open_model(folder)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ModelFileError, match=r"the folder .*empty.* holds no model") as caught:
        open_model(empty)
    assert caught.value.fix
    save_file(STATE, empty / "only.safetensors")
    with open_model(empty) as file:
        assert (file.kind, file.path) == (Kind.SAFETENSORS, empty / "only.safetensors")
