"""Against the official code: every key and shape of its checkpoints, and logits that it computed."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from client.models import MODELS
from client.models.hrda import Sizes

DATA = Path(__file__).parent / "data"


def meta(name):
    """Build without memory."""
    with torch.device("meta"):
        return MODELS[name](19)


def counts(name):
    model = meta(name)
    sizes = [parameter.numel() for parameter in model.parameters()]
    return sum(sizes), len(sizes), sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("encoder", ["r50", "r101", "mitb5"])
def test_keys_shapes_and_dtypes_are_those_of_official_checkpoints(encoder):
    official = json.loads((DATA / f"hrda_daformer_{encoder}.json").read_text())
    state = meta(f"hrda-daformer-{encoder}").state_dict()
    assert [(name, list(tensor.shape)) for name, tensor in state.items()] == list(official.items())
    for name, tensor in state.items():
        assert tensor.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hrda-daformer-r50", (29_212_038, 212, 64)),
        ("hrda-daformer-r101", (48_204_166, 365, 115)),
        ("hrda-daformer-mitb5", (85_685_990, 1_099, 9)),
        # SegFormer-B0 has 3,719,027 parameters in 205 tensors where keys and values have a layer each (8 more
        # weights and biases), as in transformers; and 2,451 in 2 tensors of the official heads' idle conv_seg.
        ("segformer-mitb0", (3_719_027 + 2_451, 205 - 2 * 8 + 2, 1)),
        ("segformer-mitb1", (13_684_582, 191, 1)),
        ("segformer-mitb2", (27_363_686, 347, 1)),
        ("segformer-mitb3", (47_239_526, 587, 1)),
        ("segformer-mitb4", (64_010_086, 847, 1)),
        ("segformer-mitb5", (84_610_406, 1_067, 1)),
        ("deeplabv2-r50", (24_928_172, 173, 55)),
        ("deeplabv2-r101", (43_920_300, 326, 106)),
        ("deeplabv2red-r50", (24_227_718, 169, 55)),
        ("deeplabv2red-r101", (43_219_846, 322, 106)),
        ("daformer-r50", (27_960_435, 199, 63)),
        ("daformer-r101", (46_952_563, 352, 114)),
        ("daformer-mitb5", (85_155_283, 1_086, 8)),
    ],
)
def test_parameters_tensors_and_batch_norms(name, expected):
    assert counts(name) == expected


def test_daformer_and_hrda_share_encoder_and_head():
    small, large = (set(meta(f"{name}-mitb5").state_dict()) for name in ("daformer", "hrda-daformer"))
    assert {name.replace("decode_head.", "decode_head.head.") for name in small} < large


def noise(count, number=0):
    """Return numbers in −1 … 1 that look random and are the same everywhere."""
    index = torch.arange(count)
    return ((index * index * 7 + index * 654435761 + number * 7919) % 1000003).double() / 500001.5 - 1


def filled(model):
    """Give a model weights that depend on nothing but the order of its tensors."""
    for number, (name, tensor) in enumerate(model.state_dict().items()):
        if not tensor.is_floating_point():
            continue
        values = noise(tensor.numel(), number).reshape(tensor.shape)
        if tensor.ndim > 1:
            values = values * (3 / tensor[0].numel()) ** 0.5
        elif name.endswith(("weight", "running_var")):
            values = 1 + values / 2
        else:
            values = values / 10
        tensor.copy_(values)
    return model


@pytest.mark.parametrize("name", ["deeplabv2-r50", "segformer-mitb0", "hrda-daformer-r50"])
def test_logits_are_the_official_codes(name):
    """The expected numbers are of HRDA's code (commit c370b5b), in float64, with these weights and this image.

    What keys don't show, they do: strides, dilations, epsilons, the order in which features are joined, windows.
    """
    official = json.loads((DATA / "official_logits.json").read_text())[name]
    with torch.no_grad():
        model = filled(MODELS[name](19).double().eval())
        if name.startswith("hrda"):
            model.sizes = Sizes(detail=32, window=64, stride=32)
        logits = model(noise(3 * 64 * 96).reshape(1, 3, 64, 96))
    torch.testing.assert_close(logits.flatten()[::9973].tolist(), official, rtol=1e-9, atol=1e-9)
