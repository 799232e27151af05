"""DAFormer's head: all stages' features, fused with a view of their surroundings.

L. Hoyer, D. Dai, L. Van Gool, *DAFormer*, CVPR 2022 (context-aware feature fusion, table 7). Keys are those of
the authors' ``DAFormerHead``: ``embed_layers.0.proj.weight``, ``fuse_layer.aspp_modules.0.conv.weight``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from client.models.layers import ConvModule, Projection, SeparableConvModule, resize

_WIDTH = 256
_DILATIONS = (6, 12, 18)


class SeparableASPP(nn.Module):
    """A 1 × 1 convolution and three dilated separable ones side by side, then a 3 × 3 convolution over them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList([ConvModule(inputs, outputs, 1)])
        self.aspp_modules.extend(SeparableConvModule(inputs, outputs, dilation) for dilation in _DILATIONS)
        self.bottleneck = ConvModule(outputs * len(self.aspp_modules), outputs, 3)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, outputs, H, W)."""
        out: Tensor = self.bottleneck(torch.cat([branch(features) for branch in self.aspp_modules], 1))
        return out


class DAFormerHead(nn.Module):
    """The head.

    Args:
        widths: Channels of each of the encoder's features.
        classes: Number of classes.
        context: Fuse with the pyramid of dilated convolutions, else with one 1 × 1 convolution.

    """

    def __init__(self, widths: Sequence[int], classes: int, *, context: bool = True) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(_WIDTH, classes, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.embed_layers = nn.ModuleList(Projection(inputs, _WIDTH) for inputs in widths)
        joined = _WIDTH * len(widths)
        self.fuse_layer = SeparableASPP(joined, _WIDTH) if context else ConvModule(joined, _WIDTH, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.bias)  # type: ignore[arg-type]  # It has one.

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, h, w), as large as the first features."""
        height, width = features[0].shape[2:]
        joined = torch.cat(
            [resize(layer(f), height, width) for layer, f in zip(self.embed_layers, features, strict=True)], 1
        )
        logits: Tensor = self.conv_seg(self.dropout(self.fuse_layer(joined)))
        return logits
