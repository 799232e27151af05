"""ResNet-50 and ResNet-101 in the V1c variant, dilated to output stride 8.

K. He et al., *Deep Residual Learning*, CVPR 2016; the stem of three 3 × 3 convolutions is from T. He et al., *Bag
of Tricks*, CVPR 2019 (its ResNet-C). Strides, dilations and keys (``stem.0.weight``, ``layer1.0.conv1.weight``)
are those of mmsegmentation's ``ResNetV1c`` in the configurations of DeepLabV2, DAFormer and HRDA: style "pytorch",
dilations 1, 1, 2, 4, of which a stage's first block has half (``contract_dilation``).
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS: Final = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks of each stage."""

WIDTHS: Final = (256, 512, 1024, 2048)
"""Channels that each stage puts out."""

_STRIDES = (1, 2, 1, 1)
_DILATIONS = (1, 1, 2, 4)


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 (with stride and dilation) and 1 × 1 convolution, round which the input is carried."""

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, 4 width, H / stride, W / stride)."""
        inner = F.relu(self.bn1(self.conv1(features)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        out: Tensor = F.relu(self.bn3(self.conv3(inner)) + self.downsample(features))
        return out


class ResNetV1c(nn.Module):
    """The encoder.

    Args:
        depth: A key of ``DEPTHS``.

    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, 32, 2), *_conv(32, 32, 1), *_conv(32, 64, 1))
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        inputs, stages = 64, []
        for blocks, outputs, stride, dilation in zip(DEPTHS[depth], WIDTHS, _STRIDES, _DILATIONS, strict=True):
            first = Bottleneck(inputs, outputs // 4, stride, max(1, dilation // 2))
            rest = (Bottleneck(outputs, outputs // 4, dilation=dilation) for _ in range(1, blocks))
            stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck):
                # Each block starts as the identity (Goyal et al., 2017), as mmsegmentation has it.
                nn.init.zeros_(module.bn3.weight)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return features at 1/4, 1/8, 1/8, 1/8 of the resolution (rounded up), with ``WIDTHS`` channels."""
        first = self.layer1(self.maxpool(self.stem(images)))
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)


def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
