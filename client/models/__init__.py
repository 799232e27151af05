"""Segmentation networks by name.

Every one maps normalised float32 images (N, 3, H, W) to logits (N, classes, H, W). All but the tiny one are a
:class:`client.models.network.EncoderDecoder`, which also gives training what it needs, and have the official
checkpoints' keys, shapes and dtypes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import torch
from torch import nn

from client.models import mit, resnet
from client.models.daformer import DAFormerHead
from client.models.deeplab import DILATIONS, REDUCED, DLV2Head
from client.models.hrda import HRDA, HRDAHead
from client.models.network import EncoderDecoder
from client.models.segformer import SegFormerHead
from client.models.tiny import TinyResNet
from protos.errors import ConfigurationError

__all__ = ["MODELS", "build"]

Constructor = Callable[[int], nn.Module]


def _encoder(name: str) -> tuple[Callable[[], nn.Module], Sequence[int]]:
    """Return the constructor of "r50", "mitb5" etc., and its features' channels."""
    if name.startswith("mit"):
        variant = name.removeprefix("mit")
        return lambda: mit.MixTransformer(variant), mit.WIDTHS[variant]
    return lambda: resnet.ResNetV1c(int(name[1:])), resnet.WIDTHS


def _deeplab(encoder: str, dilations: Sequence[int]) -> Constructor:
    backbone, widths = _encoder(encoder)
    return lambda classes: EncoderDecoder(backbone(), DLV2Head(widths[-1], classes, dilations))


def _daformer(encoder: str) -> Constructor:
    backbone, widths = _encoder(encoder)
    return lambda classes: EncoderDecoder(backbone(), DAFormerHead(widths, classes))


def _segformer(encoder: str) -> Constructor:
    backbone, widths = _encoder(encoder)
    width = 256 if encoder in ("mitb0", "mitb1") else 768
    return lambda classes: EncoderDecoder(backbone(), SegFormerHead(widths, classes, width))


def _hrda(encoder: str) -> Constructor:
    backbone, widths = _encoder(encoder)
    return lambda classes: HRDA(backbone(), HRDAHead(widths, classes))


_RESNETS = ("r50", "r101")
_MITS = tuple(f"mit{variant}" for variant in mit.DEPTHS)

MODELS: Final[Mapping[str, Constructor]] = MappingProxyType(
    {
        "tiny-resnet": TinyResNet,
        **{f"deeplabv2-{encoder}": _deeplab(encoder, DILATIONS) for encoder in _RESNETS},
        **{f"deeplabv2red-{encoder}": _deeplab(encoder, REDUCED) for encoder in _RESNETS},
        **{f"segformer-{encoder}": _segformer(encoder) for encoder in _MITS},
        **{f"daformer-{encoder}": _daformer(encoder) for encoder in (*_RESNETS, "mitb5")},
        **{f"hrda-daformer-{encoder}": _hrda(encoder) for encoder in (*_RESNETS, "mitb5")},
    }
)
"""Name → constructor that takes the number of classes."""


def build(name: str, classes: int, seed: int = 0) -> nn.Module:
    """Return a new network with random weights that depend on ``seed`` alone.

    The global random state is left as it was.

    Args:
        name: One of ``MODELS``.
        classes: Number of output channels, ≥ 2.
        seed: Seed of the initial weights.

    Raises:
        ConfigurationError: There is no such model, or fewer than 2 classes.

    """
    constructor = MODELS.get(name)
    if constructor is None:
        near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(f"There is no model {name!r}.", f"{hint}Known models: {', '.join(MODELS)}.")
    if classes < 2:
        raise ConfigurationError(f"A model can't tell {classes} classes apart.", "Give 2 classes or more.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return constructor(classes)
