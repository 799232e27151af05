"""ClassMix: some classes of a labelled source image are pasted into a target image."""

from __future__ import annotations

import torch
from torch import Tensor

from client.data.labels import IGNORE


def paste_mask(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Choose, for each image, a share of its classes at random (Olsson et al., 2021, ClassMix).

    Args:
        labels: uint8 (N, H, W); 255 is never chosen.
        share: Share of the classes present, rounded up.
        generator: Random numbers.

    Returns:
        bool (N, H, W): true where the source image is pasted.

    """
    masks = []
    for one in labels:
        present = torch.bincount(one.flatten().long(), minlength=256)[:IGNORE].nonzero().flatten()
        number = -int(-len(present) * share // 1)
        chosen = torch.zeros(256, dtype=torch.bool)
        chosen[present[torch.randperm(len(present), generator=generator)[:number]]] = True
        masks.append(chosen[one.long()])
    return torch.stack(masks)


def mix(mask: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return source where the mask (N, H, W) is true, else target: both (N, H, W), or (N, C, H, W)."""
    return torch.where(mask.unsqueeze(1) if source.ndim == 4 else mask, source, target)
