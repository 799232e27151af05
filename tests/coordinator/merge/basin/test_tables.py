"""Tables of architectures: every axis has its channels, and what isn't known is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from client.models import MODELS
from coordinator.merge.basin.architectures import table_of
from protos import dtypes
from protos.errors import ModelFileError
from protos.manifest import COUNT, TensorSpec

INVENTORIES = Path(__file__).parents[3] / "client" / "models" / "data"
CLASSES = 19


def specs(shapes: dict[str, tuple[int, ...]]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(dtypes.INT64 if name.endswith(COUNT) else dtypes.FLOAT32, tuple(shape))
        for name, shape in shapes.items()
    }


def convolution(layer: str, out: int, into: int, kernel: int = 3) -> dict[str, tuple[int, ...]]:
    return {f"{layer}.weight": (out, into, kernel, kernel)}


def norm(layer: str, size: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{layer}.{part}": (size,) for part in parts}, f"{layer}.{COUNT}": ()}


def module(layer: str, out: int, into: int, kernel: int = 1) -> dict[str, tuple[int, ...]]:
    return {**convolution(f"{layer}.conv", out, into, kernel), **norm(f"{layer}.bn", out)}


def resnet18(root: str) -> dict[str, tuple[int, ...]]:
    """Two stages of ResNet-18: a plain stem, basic blocks, and a first stage that goes on in the stem's stream."""
    shapes = {**convolution(f"{root}conv1", 64, 3, 7), **norm(f"{root}bn1", 64)}
    for stage, (into, out) in enumerate(((64, 64), (64, 128)), 1):
        for block in range(2):
            name = f"{root}layer{stage}.{block}"
            shapes |= convolution(f"{name}.conv1", out, into) | norm(f"{name}.bn1", out)
            shapes |= convolution(f"{name}.conv2", out, out) | norm(f"{name}.bn2", out)
            if into != out:
                shapes |= convolution(f"{name}.downsample.0", out, into, 1) | norm(f"{name}.downsample.1", out)
            into = out
    return shapes


def check_complete(found, table):
    """Every axis carries as many channels as it is long, unless its order means something."""
    assert table.axes.keys() == found.keys()
    for name, axes in table.axes.items():
        shape = found[name].shape
        assert len(axes) == len(shape)
        for axis, (channels, size) in enumerate(zip(axes, shape, strict=True)):
            colours = axis == 1 and size == 3
            classes = axis == 0 and size == CLASSES
            one_filter = axis == 1 and size == 1
            unused = name.endswith("conv_seg.weight") and any(
                other.endswith("linear_pred.weight") for other in found
            )
            if axis >= 2 or colours or classes or one_filter or unused:
                assert channels == (), name
            else:
                assert channels and sum(table.groups[group].size for group in channels) == size, name
    assert not any(group.fixed for group in table.groups.values())
    assert not table.unknown
    assert all(table.uses.values())


@pytest.mark.parametrize("name", MODELS)
def test_every_axis_of_every_model_carries_its_channels(name):
    with torch.device("meta"):
        state = MODELS[name](CLASSES).state_dict()
    found = specs({key: tuple(tensor.shape) for key, tensor in state.items()})
    check_complete(found, table_of(found))


@pytest.mark.parametrize("name", ["r50", "r101", "mitb5"])
def test_every_axis_of_the_official_checkpoints_carries_its_channels(name):
    shapes = json.loads((INVENTORIES / f"hrda_daformer_{name}.json").read_text())
    check_complete(specs(shapes), table_of(specs(shapes)))


def test_a_table_by_hand(tiny_table):
    axes = tiny_table.axes
    stream, hidden = ("backbone.layer1",), ("backbone.layer1.1.conv1",)
    assert axes["backbone.stem.conv.weight"] == (("backbone.stem",), (), (), ())
    # Both blocks add to the same stream, and so does the downsampled input.
    assert axes["backbone.layer1.0.downsample.0.weight"] == (stream, ("backbone.stem",), (), ())
    assert axes["backbone.layer1.0.bn2.running_var"] == (stream,)
    assert axes["backbone.layer1.1.conv1.weight"] == (hidden, stream, (), ())
    assert axes["backbone.layer1.1.conv2.weight"] == (stream, hidden, (), ())
    assert axes["backbone.layer1.1.bn2.num_batches_tracked"] == ()
    # Concatenations: several groups in a row.
    assert axes["decode_head.project.conv.weight"][1] == tuple(f"decode_head.aspp.{i}" for i in range(3))
    assert axes["decode_head.bottleneck.conv.weight"][1] == ("decode_head.project", "decode_head.skip")
    assert axes["decode_head.conv_seg.weight"] == ((), ("decode_head.bottleneck",), (), ())
    assert axes["decode_head.conv_seg.bias"] == ((),)
    assert tiny_table.groups["backbone.layer1"].size == 32
    starts = {use.tensor: use.start for use in tiny_table.uses["decode_head.skip"]}
    assert starts["decode_head.bottleneck.conv.weight"] == 48


def test_attention_shares_heads_between_scores_and_values():
    with torch.device("meta"):
        state = MODELS["segformer-mitb0"](CLASSES).state_dict()
    table = table_of(specs({key: tuple(tensor.shape) for key, tensor in state.items()}))
    layer = "backbone.block3.1.attn"
    assert (f"{layer}.q", f"{layer}.v") in table.families
    assert {table.groups[f"{layer}.{part}"].heads for part in "qv"} == {5}
    assert table.axes[f"{layer}.kv.weight"] == ((f"{layer}.q", f"{layer}.v"), (f"{layer}.sr",))
    # The last stage has no reduction: keys and values read the stream itself.
    assert table.axes["backbone.block4.0.attn.kv.weight"][1] == ("backbone.patch_embed4",)


@pytest.mark.parametrize("root", ["", "backbone."])
def test_a_plain_resnet_with_basic_blocks(root):
    found = specs(resnet18(root) | {"fc.weight": (CLASSES, 128), "fc.bias": (CLASSES,)})
    table = table_of(found)
    check_complete(found, table)
    # Without a downsample the first stage adds to the stem's own channels.
    assert table.axes[f"{root}layer1.1.conv2.weight"][0] == (f"{root}conv1",)
    assert table.axes["fc.weight"] == ((), (f"{root}layer2",))


def test_a_pooling_layer_in_a_downsample_leaves_a_gap_in_the_numbers():
    shapes = resnet18("backbone.")
    for old, new in (("downsample.1", "downsample.2"), ("downsample.0", "downsample.1")):
        shapes = {name.replace(old, new): shape for name, shape in shapes.items()}
    found = specs(shapes | module("decode_head.aspp_modules.0", CLASSES, 128))
    check_complete(specs(shapes), table_of(specs(shapes)))
    assert table_of(found).axes["backbone.layer2.0.downsample.1.weight"][0] == ("backbone.layer2",)


@pytest.mark.parametrize(
    "head",
    [
        module("head.convs.0", 32, 128, 3)
        | module("head.convs.1", 32, 32, 3)
        | module("head.conv_cat", 32, 160, 3)
        | convolution("head.conv_seg", CLASSES, 32, 1),
        module("head.image_pool.1", 32, 128)
        | module("head.aspp_modules.0", 32, 128)
        | module("head.bottleneck", 32, 64, 3)
        | convolution("head.conv_seg", CLASSES, 32, 1),
        module("head.convs.0", 32, 64)
        | module("head.convs.1", 32, 128)
        | module("head.fusion_conv", 32, 64)
        | convolution("head.conv_seg", CLASSES, 32, 1),
    ],
    ids=["fcn", "deeplabv3", "mmseg-segformer"],
)
def test_other_heads_of_mmsegmentation(head):
    found = specs(resnet18("backbone.") | head)
    check_complete(found, table_of(found))


def test_segformers_authors_join_the_coarsest_stage_first():
    shapes = module("head.linear_fuse", 32, 64) | convolution("head.linear_pred", CLASSES, 32, 1)
    for place, into in ((1, 64), (2, 128)):
        shapes |= {f"head.linear_c{place}.proj.weight": (32, into), f"head.linear_c{place}.proj.bias": (32,)}
    found = specs(resnet18("backbone.") | shapes)
    check_complete(found, table_of(found))
    assert table_of(found).axes["head.linear_fuse.conv.weight"][1] == ("head.linear_c2", "head.linear_c1")


def test_channels_of_a_grouped_convolution_stay():
    with torch.device("meta"):
        state = MODELS["deeplabv2-r50"](CLASSES).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    shapes["backbone.layer1.0.conv2.weight"] = (64, 2, 3, 3)
    table = table_of(specs(shapes))
    fixed = {name for name, group in table.groups.items() if group.fixed}
    assert fixed == {"backbone.layer1.0.conv1", "backbone.layer1.0.conv2"}
    assert table.axes["backbone.layer1.0.conv2.weight"] == (("backbone.layer1.0.conv2",), (), (), ())


def test_what_an_unknown_head_reads_stays_and_all_else_may_change():
    table = table_of(specs(resnet18("backbone.") | {"strange.weight": (4, 4, 4), "strange.deep.scale": (7,)}))
    assert table.unknown == ("strange",)
    assert table.axes["strange.weight"] == ((), (), ())
    fixed = {name for name, group in table.groups.items() if group.fixed}
    assert fixed == {"backbone.conv1", "backbone.layer2"}
    assert "backbone.layer2.1.conv1" in {name for family in table.families for name in family}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: {"visual.conv1.weight": (8, 3, 16, 16), "visual.proj": (8, 8)}, "visual.conv1.weight"),
        (lambda s: s | {"backbone.layer1.0.se.fc1.weight": (4, 64)}, "backbone.layer1.0.se.fc1.weight"),
        (lambda s: s | {"backbone.layer2.0.bn1.running_var": (99,)}, "backbone.layer2.0.bn1.running_var"),
        (lambda s: s | {"backbone.layer2.1.conv2.weight": (128, 99, 3, 3)}, "backbone.layer2.1.conv2.weight"),
        (lambda s: {n: v for n, v in s.items() if n != "backbone.layer1.1.conv2.weight"}, "layer1.1.conv2.weight"),
    ],
    ids=["architecture", "extra layer", "norm", "shape", "missing"],
)
def test_an_unknown_backbone_is_refused_by_the_name_of_a_tensor(change, named):
    with pytest.raises(ModelFileError, match="no table tells") as caught:
        table_of(specs(change(resnet18("backbone."))))
    assert named in caught.value.what
    assert "ResNet and MiT" in caught.value.fix
