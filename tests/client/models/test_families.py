"""What every family of models has to do: any size, gradients everywhere, both modes of BatchNorm, autocast."""

import pytest
import torch
from torch import nn

from client.models import build, mit
from client.models.daformer import DAFormerHead
from client.models.hrda import HRDA, HRDAHead, Sizes
from client.models.mit import DropPath, MixTransformer
from client.models.network import EncoderDecoder

B0 = mit.WIDTHS["b0"]

FAMILIES = {
    "deeplabv2-r50": lambda: build("deeplabv2-r50", 5),
    "segformer-mitb0": lambda: build("segformer-mitb0", 5),
    "daformer-mitb0": lambda: EncoderDecoder(MixTransformer("b0"), DAFormerHead(B0, 5)),
    "hrda-daformer-mitb0": lambda: HRDA(MixTransformer("b0"), HRDAHead(B0, 5), Sizes(32, 64, 32)),
    "hrda-daformer-r50": lambda: build("hrda-daformer-r50", 5),
}
LIGHT = [name for name in FAMILIES if name.endswith("mitb0")]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def make(name):
    model = FAMILIES[name]()
    if name == "hrda-daformer-r50":
        model.sizes = Sizes(detail=32, window=64, stride=32)
    return model


def still(model):
    """Switch dropout and stochastic depth off, BatchNorm stays as it is."""
    for module in model.modules():
        if isinstance(module, nn.Dropout2d | DropPath):
            module.eval()
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_step_reaches_every_parameter(name):
    model = still(make(name).train())
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # Residual branches start at 0, which would stop gradients.
    lesson = model.forward_train(torch.randn(2, 3, 64, 128), torch.Generator().manual_seed(0))
    sum(view.weight * view.logits.square().mean() for view in lesson.views).backward()
    idle = {"decode_head.conv_seg.weight", "decode_head.conv_seg.bias"} if name == "segformer-mitb0" else set()
    for key, parameter in model.named_parameters():
        if key in idle:
            assert not parameter.requires_grad
            assert parameter.grad is None
        else:
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any(), key


@pytest.mark.parametrize("name", FAMILIES)
def test_a_lesson_has_logits_for_boxes_and_features(name):
    model = still(make(name).eval())
    images = torch.randn(2, 3, 64, 128)
    with torch.no_grad():
        lesson = model.forward_train(images)
        features = model.features(images)
    assert sum(view.weight for view in lesson.views) == 1
    assert lesson.views[0].box == (0, 64, 0, 128)
    for view in lesson.views:
        top, bottom, left, right = view.box
        assert view.logits.shape == (2, 5, bottom - top, right - left)
    for mine, again in zip(lesson.features, features, strict=True):
        assert torch.equal(mine, again)
    assert [f.shape[0] for f in features] == [2] * 4


@pytest.mark.parametrize("name", ["deeplabv2-r50", *LIGHT])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (72, 91)])
def test_logits_have_the_images_resolution(name, height, width):
    model = make(name).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, height, width))
    assert logits.shape == (1, 5, height, width)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", LIGHT)
def test_evaluation_changes_nothing_and_sees_images_one_by_one(name):
    model = make(name).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(2, 3, 64, 80)
    with torch.no_grad():
        both = model(images)
        alone = model(images[1:])
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def counted(model):
    return {
        name.rpartition(".")[0]: int(value)
        for name, value in model.state_dict().items()
        if name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize("train", [False, True])
def test_hrda_in_training_mode_tracks_context_and_details(train):
    model = build("hrda-daformer-r50", 5).train()
    model.sizes = Sizes(detail=32, window=64, stride=32)
    with torch.no_grad():
        images = torch.randn(1, 3, 64, 64)
        if train:
            model.forward_train(images)
        else:
            model(images)  # A teacher's: all 9 windows are one batch.
    for layer, count in counted(model).items():
        assert count == (1 if "scale_attention" in layer else 2), layer


@pytest.mark.parametrize("name", ["segformer-mitb0", "daformer-mitb0"])
def test_noise_is_only_in_training_and_comes_from_the_global_generator(name):
    model = make(name).train()
    images = torch.randn(4, 3, 32, 64)

    def call(seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            return model(images)

    assert torch.equal(call(1), call(1))
    assert not torch.equal(call(1), call(2))
    still(model)
    assert torch.equal(call(1), call(2))


@pytest.mark.parametrize("name", ["deeplabv2-r50", *LIGHT])
def test_autocast_gives_float32_logits_and_gradients(name):
    model = still(make(name).train())
    images = torch.randn(2, 3, 64, 64)
    exact = model(images).detach()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        lesson = model.forward_train(images)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact, rtol=0, atol=0.1 * float(exact.abs().max()))
    sum(view.logits.mean() for view in lesson.views).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", ["deeplabv2-r50", *LIGHT])
def test_channels_last_says_the_same_and_nothing_is_changed_in_place(name):
    model = make(name).eval()
    images = torch.randn(1, 3, 64, 64)
    before = images.clone()
    with torch.no_grad():
        expected = model(images)
        last = model.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    assert torch.equal(images, before)
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["deeplabv2-r50", "segformer-mitb0"])
def test_weights_depend_on_the_seed_alone(name):
    first, again, other = (build(name, 5, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())
    drawn = [key for key, tensor in first.items() if tensor.ndim > 1]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)
