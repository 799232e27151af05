"""SegFormer's head: all stages' features projected to one width, joined and mixed (E. Xie et al., NeurIPS 2021).

Keys and the order in which features are joined, finest first, are those of DAFormer's ``SegFormerHead``. The
authors' own code names the projections ``linear_c1`` … and joins the coarsest first: its ``linear_fuse`` differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from client.models.layers import ConvModule, Projection, resize


class SegFormerHead(nn.Module):
    """The head.

    Args:
        widths: Channels of each of the encoder's features.
        classes: Number of classes.
        width: Channels to which they are projected: 256 for MiT-B0 and B1, 768 for the larger ones.

    """

    def __init__(self, widths: Sequence[int], classes: int, width: int) -> None:
        super().__init__()
        # Never used and never trained. Every official head has it, so every checkpoint does.
        self.conv_seg = nn.Conv2d(128, classes, 1).requires_grad_(False)
        self.linear_c = nn.ModuleList(Projection(inputs, width) for inputs in widths)
        self.linear_fuse = ConvModule(width * len(widths), width, 1)
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(width, classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, h, w), as large as the first features."""
        height, width = features[0].shape[2:]
        joined = torch.cat(
            [resize(layer(f), height, width) for layer, f in zip(self.linear_c, features, strict=True)], 1
        )
        logits: Tensor = self.linear_pred(self.dropout(self.linear_fuse(joined)))
        return logits
