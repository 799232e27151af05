"""Encoders pretrained on ImageNet, from a local file; nothing is ever downloaded.

Known files: OpenMMLab's ``resnet50_v1c-2cccc1ad.pth`` and ``resnet101_v1c-e67eebb6.pth`` (keys as here, and a
classifier ``fc``), mmpretrain's ResNet-V1c (``backbone.…``, ``head.fc``), V1c files that call the stem ``conv1``
and its last BatchNorm ``bn1``, and SegFormer's ``mit_b0.pth`` … ``mit_b5.pth`` (keys as here, and a classifier
``head``).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor, nn

from client.models.mit import MixTransformer
from client.models.resnet import ResNetV1c
from client.tensors import from_raw
from protos.checkpoints.copies import choose
from protos.checkpoints.opening import open_source
from protos.errors import ConfigurationError, ModelFileError

_BACKBONE = "backbone."
_CLASSIFIERS = ("fc.", "head.")
_FILES = {
    ResNetV1c: "OpenMMLab's resnet50_v1c-2cccc1ad.pth or resnet101_v1c-e67eebb6.pth fits, by the model's depth; "
    "torchvision's ResNets have another stem",
    MixTransformer: "the SegFormer release's mit_b0.pth … mit_b5.pth fit, each its own variant",
}


def load_encoder(model: nn.Module, path: Path) -> None:
    """Load a network's encoder from a checkpoint of ImageNet pretraining; its head stays as it is.

    Every tensor of the encoder has to be there in its shape, and nothing else but a classifier. BatchNorm layers'
    counts alone may lack, as PyTorch before 0.4.1 didn't write them: they become 0.

    Args:
        model: A network with a ``backbone`` that is a :class:`ResNetV1c` or a :class:`MixTransformer`.
        path: A file of ``torch.save``, or safetensors; read as ``protos.checkpoints`` reads models, but that a
            BatchNorm layer may lack its count. If keys start with "backbone.", those are taken, all others left.

    Raises:
        ConfigurationError: There is no pretraining for this network.
        ModelFileError: The file can't be read, holds anything but weights, or doesn't fit; the first tensor that
            is missing, unknown or of another shape is named.

    """
    encoder = getattr(model, "backbone", None)
    if not isinstance(encoder, ResNetV1c | MixTransformer):
        raise ConfigurationError(
            "This model's encoder can't be loaded from a file.",
            "Choose a model with a ResNet or MiT encoder, or leave the encoder's file out.",
        )
    state = _named_as_here(_read(path))
    own = encoder.state_dict()
    for name, tensor in own.items():
        if name.endswith(".num_batches_tracked") and name not in state:
            state[name] = torch.zeros_like(tensor)
    _check(state, own, path, _FILES[type(encoder)])
    encoder.load_state_dict(state)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file, without classifiers, by their names in it without "backbone."."""
    with closing(open_source(path)) as source:
        if source.skipped:
            raise ModelFileError(
                f"{path}: {source.skipped[0]} is no tensor", "save the model's state_dict() alone"
            )
        keys = choose(source.keys, None, path).keys if source.keys else {}
        if any(name.startswith(_BACKBONE) for name in keys):
            keys = {name.removeprefix(_BACKBONE): key for name, key in keys.items() if name.startswith(_BACKBONE)}
        state = {}
        for name, key in keys.items():
            if not name.startswith(_CLASSIFIERS):
                spec = source.spec(key)
                state[name] = from_raw(source.read(key, 0, spec.size), spec)
        return state


def _named_as_here(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of a V1c stem that is called ``conv1`` and ``bn1`` by our names; others keep theirs."""
    if "conv1.0.weight" not in state:
        return dict(state)
    renamed = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        renamed[{"conv1": "stem.", "bn1": "stem.7."}.get(part, f"{part}.") + rest] = value
    return renamed


def _check(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path, fix: str) -> None:
    missing = [name for name in own if name not in state]
    surplus = [name for name in state if name not in own]
    other = [name for name in own if name in state and state[name].shape != own[name].shape]
    wrong = []
    if missing:
        wrong.append(f"{_count(missing)} missing, first {missing[0]}")
    if surplus:
        wrong.append(f"{_count(surplus)} unknown, first {surplus[0]}")
    if other:
        name = other[0]
        wrong.append(
            f"{_count(other)} of another shape, first {name}, {tuple(state[name].shape)} instead of "
            f"{tuple(own[name].shape)}"
        )
    if wrong:
        raise ModelFileError(f"{path} doesn't fit the encoder: {'; '.join(wrong)}", fix)


def _count(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}"
