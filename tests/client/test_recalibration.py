import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from client.data.images import normalise
from client.models import build, norms
from client.models.layers import ConvModule
from client.recalibration import recalibrate
from protos.errors import ConfigurationError, DataError, ModelFileError


@pytest.fixture(autouse=True)
def one_thread_each(one_thread):
    """Run every test here on one thread."""


def pictures(number, light=128, contrast=40, seed=0, size=(32, 48)):
    noise = torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(seed))
    return (light + contrast * noise).clamp(0, 255).to(torch.uint8)


class Small(nn.Module):
    """Two layers, of which the second sees what the first makes of the batch; and a dropout between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = ConvModule(3, 6, 3), ConvModule(6, 5, 3)
        self.dropout = nn.Dropout2d(0.5)

    def forward(self, images):
        return self.second(self.dropout(self.first(images)))


def reference(model, batches):
    """Compute what the statistics should be in float64, from formulas: moments of all values together."""
    seen = {"first.bn": [], "second.bn": []}
    for images in batches:
        x = normalise(images).double()
        for name, layer in (("first", model.first), ("second", model.second)):
            x = F.conv2d(x, layer.conv.weight.double(), padding=1)
            seen[f"{name}.bn"].append(x.transpose(0, 1).flatten(1))
            mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
            x = (x - mean) / (var + layer.bn.eps).sqrt()
            x = F.relu(x * layer.bn.weight.double()[:, None, None] + layer.bn.bias.double()[:, None, None])
    return {name: (torch.cat(parts, 1).mean(1), torch.cat(parts, 1).var(1)) for name, parts in seen.items()}


@torch.no_grad()
def test_statistics_are_those_of_all_values_together():
    torch.manual_seed(0)
    model = Small()
    for layer in (model.first.bn, model.second.bn):
        layer.weight.uniform_(0.5, 1.5)
        layer.bias.normal_()
    # Batches of different light, size and number: their means differ, and they don't count alike.
    batches = [pictures(4, 60), pictures(1, 200, seed=1), pictures(7, 120, 10, seed=2, size=(24, 20))]
    found = recalibrate(model, batches)
    for name, (mean, var) in reference(model, batches).items():
        assert found[name].mean.dtype == found[name].var.dtype == np.float32
        np.testing.assert_allclose(found[name].mean, mean, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found[name].var, var, rtol=1e-5)
        assert found[name].count == 3


def test_the_term_between_batches_is_in_the_variance():
    model = Small()
    dark, light = pictures(4, 30, 5), pictures(4, 220, 5)
    together, apart = recalibrate(model, [torch.cat([dark, light])]), recalibrate(model, [dark, light])
    np.testing.assert_allclose(apart["first.bn"].var, together["first.bn"].var, rtol=1e-4)
    np.testing.assert_allclose(apart["first.bn"].mean, together["first.bn"].mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny-resnet", "segformer-mitb0"])
def test_nothing_of_the_model_is_changed(name):
    model = build(name, 5).train()
    modes = [module.training for module in model.modules()]
    learnable = [p.requires_grad for p in model.parameters()]
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(5)
    drawn = torch.get_rng_state()
    found = recalibrate(model, [pictures(2, size=(64, 64))])
    assert torch.equal(torch.get_rng_state(), drawn)  # no dropout, no stochastic depth
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == learnable
    assert all(not module._forward_hooks for module in model.modules())
    norms.load(model, found)
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_same_images_give_the_same_bits_whatever_the_old_statistics_are():
    model = build("tiny-resnet", 5)
    other = copy.deepcopy(model).eval()
    norms.load(other, {k: type(v)(v.mean + 3, v.var * 9, 1) for k, v in norms.statistics(other).items()})
    other.backbone.stem.bn.running_mean.fill_(float("nan"))
    batches = [pictures(3, seed=0), pictures(2, seed=1)]
    found = [recalibrate(one, iter(batches)) for one in (model, model, other)]
    for layer in found[0]:
        for again in found[1:]:
            assert np.array_equal(again[layer].mean, found[0][layer].mean)
            assert np.array_equal(again[layer].var, found[0][layer].var)


def test_the_network_then_normalises_these_images():
    model = build("tiny-resnet", 5).eval()
    images = pictures(8, 70, 15, size=(96, 128))
    norms.load(model, recalibrate(model, [images]))
    outputs = {}
    for name, layer in norms.batch_norms(model).items():
        layer.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
    with torch.no_grad():
        model(normalise(images))
    # Not to the last digit: a batch normalises by the biased variance, the network then by the unbiased one. In
    # the deepest layers there are 1,536 values for each channel.
    for output in outputs.values():
        torch.testing.assert_close(output.mean((0, 2, 3)), torch.zeros(output.shape[1]), rtol=0, atol=0.02)
        torch.testing.assert_close(output.var((0, 2, 3)), torch.ones(output.shape[1]), rtol=0, atol=0.02)


def test_a_layer_that_no_image_reaches_keeps_its_statistics():
    model = Small()
    model.unused = nn.BatchNorm2d(2)
    model.unused.running_mean.fill_(4)
    found = recalibrate(model, [pictures(2)])
    assert found["unused"].mean.tolist() == [4, 4] and found["unused"].count == 0
    assert found["first.bn"].count == 1


def test_without_images_there_is_nothing_to_measure():
    model = build("tiny-resnet", 5)
    for batches in ([], [pictures(2)[:0]]):
        with pytest.raises(DataError, match="no images"):
            recalibrate(model, batches)
    with pytest.raises(DataError, match=r"float32 of shape \(2, 3, 32, 48\)"):
        recalibrate(model, [pictures(2).float()])
    with pytest.raises(DataError, match="One value has no variance"):
        recalibrate(Small(), [pictures(1, size=(1, 1))])


def test_a_model_without_batch_norm_is_refused():
    with pytest.raises(ConfigurationError, match="no BatchNorm"):
        recalibrate(nn.Conv2d(3, 5, 1), [pictures(2)])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_damaged_model_is_found_out(value):
    model = Small()
    with torch.no_grad():
        model.first.conv.weight[0, 0, 0, 0] = value
    with pytest.raises(ModelFileError, match=r"layer first\.bn"):
        recalibrate(model, [pictures(2)])
