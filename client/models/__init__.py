"""Segmentation networks by name.

Every one maps normalised float32 images (N, 3, H, W) to logits (N, classes, H, W).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import nn

from client.models.tiny import TinyResNet
from protos.errors import ConfigurationError

__all__ = ["MODELS", "build"]

MODELS: Final[Mapping[str, Callable[[int], nn.Module]]] = MappingProxyType({"tiny-resnet": TinyResNet})
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
