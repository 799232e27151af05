import pytest
import torch
from torch import nn

from client.models import MODELS, build
from protos.errors import ConfigurationError


def test_logits_have_the_images_resolution():
    model = build("tiny-resnet", 19)
    for height, width in ((64, 128), (48, 80), (33, 70)):
        assert model(torch.zeros(2, 3, height, width)).shape == (2, 19, height, width)


def test_it_is_tiny_and_named_like_the_large_ones():
    model = build("tiny-resnet", 19)
    assert sum(parameter.numel() for parameter in model.parameters()) < 300_000
    assert {key.split(".")[0] for key in model.state_dict()} == {"backbone", "decode_head"}
    assert {"backbone.layer2.0.conv1.weight", "decode_head.conv_seg.bias"} <= set(model.state_dict())


def test_every_batch_norm_is_complete():
    state = build("tiny-resnet", 19).state_dict()
    layers = {key.rsplit(".", 1)[0] for key in state if key.endswith("running_mean")}
    assert len(layers) == sum(isinstance(m, nn.BatchNorm2d) for m in build("tiny-resnet", 19).modules())
    for layer in layers:
        assert {f"{layer}.running_var", f"{layer}.num_batches_tracked", f"{layer}.weight"} <= set(state)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build("tiny-resnet", 19, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    name = "backbone.stem.conv.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])


def test_an_unknown_model_is_refused_with_a_suggestion():
    with pytest.raises(ConfigurationError, match="'tiny-resent'") as caught:
        build("tiny-resent", 19)
    assert "Did you mean 'tiny-resnet'?" in caught.value.fix
    with pytest.raises(ConfigurationError) as caught:
        build("???", 19)
    assert all(name in caught.value.fix for name in MODELS)


def test_one_class_is_refused():
    with pytest.raises(ConfigurationError, match="1 classes"):
        build("tiny-resnet", 1)
