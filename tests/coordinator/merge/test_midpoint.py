"""The merged model's file: the base's dtypes, order and other buffers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import MergeState
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError, StorageError
from protos.tensorfile import TensorFile


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_merged_model_has_the_dtypes_of_the_base_and_loads_in_pytorch(kitchen_of, tmp_path, dtype):
    kitchen = kitchen_of(dtype)
    sites = list(kitchen.updates)
    path = tmp_path / "merged.safetensors"
    path.write_bytes(kitchen.merged(kitchen.fold(kitchen.fresh(), *sites)))
    merged, base = load_file(path), load_file(kitchen.base)
    assert {name: (t.dtype, t.shape) for name, t in merged.items()} == {
        name: (t.dtype, t.shape) for name, t in base.items()
    }
    step = {"float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}[dtype]
    for name in kitchen.manifest.parameters:
        raw = [torch.from_numpy(kitchen.models[site][name].copy()) for site in sites]
        each = [t.view(torch.bfloat16) if dtype == "bfloat16" else t for t in raw]
        wanted = torch.stack([t.double() for t in each]).mean(0)
        # Half a step of the dtype, or of its smallest numbers, and what fixed point rounds off.
        smallest = torch.finfo(merged[name].dtype).smallest_normal
        allowed = wanted.abs().clamp(min=smallest) * step + 2**-40
        assert bool(((merged[name].double() - wanted).abs() <= allowed).all()), name


def test_buffers_that_are_no_statistics_are_the_bases(kitchen, tmp_path):
    path = tmp_path / "merged.safetensors"
    path.write_bytes(kitchen.merged(kitchen.fold(kitchen.fresh(), "fog")))
    with TensorFile(path) as merged, TensorFile(kitchen.base) as base:
        assert merged.tensor("table").tolist() == base.tensor("table").tolist()


def test_the_metadata_stands_in_the_files_header(kitchen, tmp_path):
    path = tmp_path / "merged.safetensors"
    path.write_bytes(kitchen.merged(kitchen.fold(kitchen.fresh(), "fog")))
    with TensorFile(path) as merged:
        assert merged.metadata == {"format": "pt"}


def test_other_buffers_can_be_written_with_the_same_parameters(kitchen, tmp_path):
    state = kitchen.fold(kitchen.fresh(), "fog", "night")
    other = {
        layer: BatchNorm(np.zeros(channels, np.float32), np.ones(channels, np.float32), 7)
        for layer, channels in kitchen.manifest.layers.items()
    }
    with MergeState(state) as found, TensorFile(kitchen.base) as base:
        write_midpoint(tmp_path / "other.safetensors", base, [(1, found)], other, {})
    pooled = tmp_path / "pooled.safetensors"
    pooled.write_bytes(kitchen.merged(state))
    with TensorFile(tmp_path / "other.safetensors") as a, TensorFile(pooled) as b:
        for name in kitchen.manifest.parameters:
            assert a.tensor(name).tobytes() == b.tensor(name).tobytes()
        assert a.tensor("norm.num_batches_tracked") == 7
        assert a.tensor("norm.running_var").tolist() == [1, 1, 1, 1]


def test_pooled_statistics_that_float16_cannot_hold_are_refused_by_name(kitchen_of, tmp_path):
    kitchen = kitchen_of("float16")
    path = tmp_path / "merged.safetensors"
    with MergeState(kitchen.fold(kitchen.fresh(), "fog")) as state, TensorFile(kitchen.base) as base:
        terms = [(1, state)]
        wild = pooled_statistics(terms, kitchen.manifest)
        wild["norm"] = BatchNorm(wild["norm"].mean, np.full(4, 1e6, np.float32), 1)
        with pytest.raises(MergeRangeError, match=r"norm\.running_var is more than float16 holds"):
            write_midpoint(path, base, terms, wild, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_storage_error(kitchen, tmp_path):
    with MergeState(kitchen.fold(kitchen.fresh(), "fog")) as state, TensorFile(kitchen.base) as base:
        terms = [(1, state)]
        with pytest.raises(StorageError):
            write_midpoint(
                tmp_path / "none" / "m.safetensors", base, terms, pooled_statistics(terms, kitchen.manifest), {}
            )
