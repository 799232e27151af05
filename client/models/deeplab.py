"""DeepLabV2's head: classifiers with different dilations, summed (L.-C. Chen et al., TPAMI 2018).

Keys are those of DAFormer's ``DLV2Head``: ``aspp_modules.0.conv.weight``. Work on domain adaptation mostly uses
only the first two dilations ("dlv2red"), since the code that all of it descends from returned too early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

DILATIONS: Final = (6, 12, 18, 24)
REDUCED: Final = (6, 12)


class Classifier(nn.Module):
    """A dilated 3 × 3 convolution from features to logits."""

    def __init__(self, inputs: int, classes: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, classes, 3, padding=dilation, dilation=dilation)
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # It has one.

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) → (N, classes, H, W)."""
        logits: Tensor = self.conv(features)
        return logits


class DLV2Head(nn.Module):
    """Atrous spatial pyramid pooling on the encoder's last features."""

    def __init__(self, inputs: int, classes: int, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList(Classifier(inputs, classes, dilation) for dilation in dilations)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (N, classes, h, w), as large as the last features."""
        first, *others = (branch(features[-1]) for branch in self.aspp_modules)
        logits: Tensor = sum(others, start=first)
        return logits
