"""Roles are found by structure, whatever the layers are called."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from protos import dtypes
from protos.errors import ModelFileError
from protos.manifest import COUNT, MEAN, STATISTICS, VAR, Manifest, TensorSpec, join

F32, I64 = dtypes.by_name("float32"), dtypes.by_name("int64")


def layer(name: str, channels: int = 3) -> dict[str, TensorSpec]:
    return {
        join(name, MEAN): TensorSpec(F32, (channels,)),
        join(name, VAR): TensorSpec(F32, (channels,)),
        join(name, COUNT): TensorSpec(I64, ()),
    }


names = st.text(min_size=1, max_size=12).filter(lambda name: not name.endswith(STATISTICS))


@given(st.sets(names, max_size=4))
@settings(max_examples=40)
def test_a_complete_triple_is_a_batch_norm_layer_whatever_it_is_called(called):
    tensors = {key: spec for name in called for key, spec in layer(name).items()}
    found = Manifest(tensors)
    assert list(found.layers) == sorted(called)
    assert not found.parameters
    assert not found.buffers


def test_a_layer_at_the_top_of_the_model_has_no_prefix():
    assert dict(Manifest(layer("")).layers) == {"": 3}


def test_names_that_sound_like_statistics_are_parameters():
    tensors = {
        name: TensorSpec(F32, (2,))
        for name in ("bn.weight", "bn_running_mean", "running_mean.weight", "a.running_meant", "batchnorm.bias")
    }
    found = Manifest(tensors)
    assert list(found.parameters) == sorted(tensors)
    assert not found.layers


def test_everything_is_parameter_statistic_or_buffer_and_only_one_of_them():
    tensors = {
        **layer("bn"),
        "w": TensorSpec(F32, (2,)),
        "half": TensorSpec(dtypes.by_name("float16"), ()),
        "index": TensorSpec(I64, (4,)),
        "mask": TensorSpec(dtypes.by_name("bool"), (4,)),
        "double": TensorSpec(dtypes.by_name("float64"), (4,)),
    }
    found = Manifest(tensors)
    assert list(found.parameters) == ["half", "w"]
    assert found.buffers == ("double", "index", "mask")
    assert list(found.tensors) == sorted(tensors)


def test_a_real_network_is_understood():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    )
    state = network.state_dict()
    found = Manifest(
        {
            name: TensorSpec(dtypes.by_name(str(t.dtype).removeprefix("torch.")), tuple(t.shape))
            for name, t in state.items()
        }
    )
    assert dict(found.layers) == {"1": 8, "2.0": 2}
    assert set(found.parameters) == {name for name, _ in network.named_parameters()}


@pytest.mark.parametrize("part", STATISTICS)
def test_an_incomplete_triple_is_refused_by_layer_and_part(part):
    tensors = {**layer("deep.bn"), "w": TensorSpec(F32, (2,))}
    del tensors[join("deep.bn", part)]
    with pytest.raises(ModelFileError, match=rf"BatchNorm layer deep\.bn has no {part}"):
        Manifest(tensors)


@pytest.mark.parametrize(
    ("part", "spec"),
    [
        (MEAN, TensorSpec(F32, (4,))),
        (MEAN, TensorSpec(F32, (3, 1))),
        (MEAN, TensorSpec(F32, ())),
        (MEAN, TensorSpec(I64, (3,))),
        (VAR, TensorSpec(F32, (2,))),
        (VAR, TensorSpec(dtypes.by_name("float64"), (3,))),
        (COUNT, TensorSpec(I64, (1,))),
        (COUNT, TensorSpec(F32, ())),
        (COUNT, TensorSpec(dtypes.by_name("int32"), ())),
    ],
)
def test_a_triple_whose_parts_do_not_fit_is_refused_by_layer(part, spec):
    with pytest.raises(ModelFileError, match=r"BatchNorm layer deep\.bn has mean"):
        Manifest({**layer("deep.bn"), join("deep.bn", part): spec})


def test_a_manifest_cannot_be_changed():
    found = Manifest(layer("bn"))
    with pytest.raises(TypeError):
        found.tensors["w"] = TensorSpec(F32, ())


@given(st.lists(st.integers(0, 9), max_size=4))
def test_a_spec_knows_its_size(shape):
    spec = TensorSpec(dtypes.by_name("float16"), tuple(shape))
    assert spec.size == np.zeros(shape).size
    assert spec.nbytes == np.zeros(shape, np.float16).nbytes
