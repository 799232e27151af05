"""The pieces that heads are made of, with mmsegmentation's key names: ``conv``, ``bn``, ``depthwise_conv``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvModule(nn.Module):
    """Convolution without bias that keeps the size, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, padding=padding, dilation=dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        out: Tensor = F.relu(self.bn(self.conv(features)))
        return out


class SeparableConvModule(nn.Module):
    """A 3 × 3 convolution taken apart: each channel by itself, then across channels (Chollet, CVPR 2017)."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(inputs, inputs, 3, dilation, groups=inputs)
        self.pointwise_conv = ConvModule(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        out: Tensor = self.pointwise_conv(self.depthwise_conv(features))
        return out


class Projection(nn.Module):
    """A linear layer over the channels of each pixel (SegFormer's "MLP" layer)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        # As a 1 × 1 convolution it needs no transposition to tokens and back, and keeps the memory format.
        return F.conv2d(features, self.proj.weight[:, :, None, None], self.proj.bias)


def resize(maps: Tensor, height: int, width: int) -> Tensor:
    """Interpolate (N, C, h, w) bilinearly to (N, C, height, width); pixels are areas (``align_corners=False``)."""
    if maps.shape[2:] == (height, width):
        return maps
    return F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)


def full_precision(logits: Tensor) -> Tensor:
    """Return logits in float32, also out of autocast: a bfloat16 is too coarse for confidences close to 1."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
