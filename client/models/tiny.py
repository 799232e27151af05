"""A ResNet small enough to adapt on one CPU core, with the parts of the large ones.

Residual stages with BatchNorm, dilation instead of the last stride, atrous spatial pyramid pooling (ASPP), and a
skip from an early stage (as DeepLab v3+ has). Keys read like mmsegmentation's: ``backbone.layer2.0.conv1.weight``,
``decode_head.conv_seg.weight``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


class ConvModule(nn.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = _conv(inputs, outputs, kernel, stride, dilation)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        out: Tensor = F.relu(self.bn(self.conv(features)))
        return out


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions round which the input is carried (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride, dilation)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs, 3, 1, dilation)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        inner = F.relu(self.bn1(self.conv1(features)))
        out: Tensor = F.relu(self.bn2(self.conv2(inner)) + self.downsample(features))
        return out


class Backbone(nn.Module):
    """Stem and three residual stages: strides 2, 4, 8, 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvModule(3, 24, 3, stride=2)
        self.layer1 = nn.Sequential(BasicBlock(24, 32, stride=2), BasicBlock(32, 32))
        self.layer2 = nn.Sequential(BasicBlock(32, 48, stride=2), BasicBlock(48, 48))
        self.layer3 = nn.Sequential(BasicBlock(48, 64, dilation=2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at 1/2 (24 channels), 1/4 (32) and 1/8 (64) of the resolution."""
        half = self.stem(images)
        quarter = self.layer1(half)
        return half, quarter, self.layer3(self.layer2(quarter))


class DecodeHead(nn.Module):
    """ASPP on the deep features, joined with the shallow ones."""

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        self.aspp = nn.ModuleList(
            [ConvModule(64, width, 1), ConvModule(64, width, 3, dilation=2), ConvModule(64, width, 3, dilation=4)]
        )
        self.project = ConvModule(3 * width, 48, 1)
        self.skip = ConvModule(32, 24, 1)
        self.bottleneck = ConvModule(48 + 24, 48, 3)
        self.conv_seg = nn.Conv2d(48, classes, 1)
        self.detail = ConvModule(24, 16, 1)
        self.conv_detail = nn.Conv2d(16, classes, 1, bias=False)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return logits (N, classes, H / 2, W / 2)."""
        half, quarter, deep = features
        context = self.project(torch.cat([branch(deep) for branch in self.aspp], 1))
        context = F.interpolate(context, quarter.shape[2:], mode="bilinear", align_corners=False)
        logits = self.conv_seg(self.bottleneck(torch.cat([context, self.skip(quarter)], 1)))
        # Enlarging logits instead of features says the same with fewer channels.
        coarse = F.interpolate(logits, half.shape[2:], mode="bilinear", align_corners=False)
        fine: Tensor = self.conv_detail(self.detail(half))
        return coarse + fine


class TinyResNet(nn.Module):
    """The ``tiny-resnet``: normalised float32 images (N, 3, H, W) → logits (N, classes, H, W)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.decode_head = DecodeHead(classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for classifier in (self.decode_head.conv_seg, self.decode_head.conv_detail):
            nn.init.normal_(classifier.weight, std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits at the input's resolution."""
        logits = self.decode_head(self.backbone(images))
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=False)
