"""Encoders pretrained on ImageNet, from a local file; nothing is ever downloaded.

Known files: OpenMMLab's ``resnet50_v1c-2cccc1ad.pth`` and ``resnet101_v1c-e67eebb6.pth`` (keys as here, and a
classifier ``fc``), mmpretrain's ResNet-V1c (``backbone.…``, ``head.fc``), V1c files that call the stem ``conv1``
and its last BatchNorm ``bn1``, and SegFormer's ``mit_b0.pth`` … ``mit_b5.pth`` (keys as here, and a classifier
``head``).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from client.models.mit import MixTransformer
from client.models.resnet import ResNetV1c
from protos.errors import ConfigurationError, ModelFileError

_WRAPPERS = ("state_dict", "model")
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
        path: A file of ``torch.save``: a state dict, or one under "state_dict" or "model". If keys start with
            "backbone.", those are taken and all others left.

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
    state = _encoder_part(_read(path), path)
    own = encoder.state_dict()
    for name, tensor in own.items():
        if name.endswith(".num_batches_tracked") and name not in state:
            state[name] = torch.zeros_like(tensor)
    _check(state, own, path, _FILES[type(encoder)])
    encoder.load_state_dict(state)


def _read(path: Path) -> Mapping[str, object]:
    """Return the state dict in a file as it is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on what old files are made of
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"can't read {path}: {error.strerror}", "check the path") from error
    except Exception as error:  # Damaged files end in a dozen kinds of them.
        raise ModelFileError(
            f"{path} is no checkpoint, is damaged, or holds more than weights",
            "copy it again from where it came; if that doesn't help, load it where you trust it and save its "
            "state dict alone",
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ModelFileError(f"{path} holds no state dict", "save the model's state_dict() alone")
    return content


def _encoder_part(content: Mapping[str, object], path: Path) -> dict[str, Tensor]:
    """Return the encoder's tensors by our names."""
    if any(key.startswith("backbone.") for key in content):
        content = {
            key.removeprefix("backbone."): value for key, value in content.items() if key.startswith("backbone.")
        }
    state: dict[str, Tensor] = {}
    stem_is_conv1 = "conv1.0.weight" in content
    for key, value in content.items():
        if key.startswith(_CLASSIFIERS):
            continue
        if not isinstance(value, Tensor):
            raise ModelFileError(f"{path}: {key} is no tensor", "save the model's state_dict() alone")
        name = key
        if stem_is_conv1 and key.startswith("conv1."):
            name = "stem." + key.removeprefix("conv1.")
        elif stem_is_conv1 and key.startswith("bn1."):
            name = "stem.7." + key.removeprefix("bn1.")
        state[name] = value
    return state


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
