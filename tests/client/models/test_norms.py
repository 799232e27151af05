import numpy as np
import pytest
import torch
from torch import nn

from client.models import build, norms
from protos.boundary import BatchNorm
from protos.errors import ConfigurationError, ModelFileError
from protos.manifest import COUNT, MEAN, VAR, join


def test_statistics_are_read_as_they_are_loaded():
    network = build("tiny-resnet", 4)
    dice = np.random.default_rng(0)
    wanted = {
        name: BatchNorm(
            dice.normal(size=layer.num_features).astype(np.float32),
            dice.gamma(2, size=layer.num_features).astype(np.float32),
            7,
        )
        for name, layer in norms.batch_norms(network).items()
    }
    before = {name: value.clone() for name, value in network.named_parameters()}
    norms.load(network, wanted)
    found = norms.statistics(network)
    assert list(found) == sorted(wanted)
    for name, one in found.items():
        assert np.array_equal(one.mean, wanted[name].mean) and np.array_equal(one.var, wanted[name].var)
        assert one.count == 7 and one.mean.dtype == one.var.dtype == np.float32
        assert torch.equal(network.state_dict()[join(name, MEAN)], torch.from_numpy(one.mean))
    assert all(torch.equal(value, before[name]) for name, value in network.named_parameters())


def test_layers_are_the_manifest_s():
    network = build("daformer-r50", 4)
    keys = {key.rpartition(".")[0] for key in network.state_dict() if key.rpartition(".")[2] in (MEAN, VAR, COUNT)}
    assert list(norms.batch_norms(network)) == sorted(keys)


def test_what_does_not_fit_changes_nothing():
    network = build("tiny-resnet", 4)
    found = norms.statistics(network)
    last = list(found)[-1]
    found[last] = BatchNorm(found[last].mean, np.full_like(found[last].var, np.inf), 1)
    found = {name: BatchNorm(one.mean + 1, one.var, 1) for name, one in found.items()}
    with pytest.raises(ModelFileError, match=f"{last}.running_var"):
        norms.load(network, found)
    assert all(not one.mean.any() for one in norms.statistics(network).values())


def test_layers_without_statistics_do_not_count():
    with pytest.raises(ConfigurationError, match="no BatchNorm layer"):
        norms.batch_norms(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)))
