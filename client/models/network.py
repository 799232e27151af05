"""A whole segmentation network, and what training needs of one beyond ``network(images)``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from client.models.layers import full_precision, resize
from client.models.windows import Box


@dataclass(frozen=True, eq=False)
class View:
    """What a network says about a part of its images, to be compared with that part of the labels.

    Attributes:
        logits: float32 (N, classes, bottom − top, right − left).
        box: The part.
        weight: Its share of the loss; a lesson's weights add up to 1.

    """

    logits: Tensor
    box: Box
    weight: float


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network gives for training; loss = Σ weight · cross entropy(logits, labels inside the box).

    Attributes:
        views: One, or two where the network also looks at a detail (HRDA).
        features: The encoder's, finest first; the last are what DAFormer's feature distance compares.

    """

    views: tuple[View, ...]
    features: tuple[Tensor, ...]


class EncoderDecoder(nn.Module):
    """An encoder with a decode head: normalised float32 images (N, 3, H, W) → logits (N, classes, H, W).

    In training mode, dropout and stochastic depth draw from PyTorch's global generator. HRDA and MIC switch both
    off in their teacher (``nn.Dropout2d`` and ``DropPath``, by ``.eval()``), whose BatchNorm keeps training.

    Args:
        backbone: Images → features, finest first.
        decode_head: Features → logits.

    """

    def __init__(self, backbone: nn.Module, decode_head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decode_head = decode_head

    def forward(self, images: Tensor) -> Tensor:
        """Return logits at the input's resolution; float32 under autocast, too."""
        return self._logits(self.features(images), images)

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's features that :meth:`forward_train` returns as well, finest first."""
        features: tuple[Tensor, ...] = self.backbone(images)
        return features

    def forward_train(self, images: Tensor, generator: torch.Generator | None = None) -> Lesson:
        """Return what a training step compares with labels.

        Args:
            images: Normalised float32 (N, 3, H, W).
            generator: Random numbers for networks that choose a detail; otherwise unused.

        """
        features = self.features(images)
        height, width = images.shape[2:]
        return Lesson((View(self._logits(features, images), (0, height, 0, width), 1.0),), features)

    def _logits(self, features: tuple[Tensor, ...], images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return resize(full_precision(self.decode_head(features)), height, width)
