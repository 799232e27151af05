"""MIC: what is said about an image with most of it masked should be what is said about the whole image.

L. Hoyer, D. Dai, H. Wang, L. Van Gool, *MIC: Masked Image Consistency*, CVPR 2023. The masked image's labels are
those that the teacher gives the whole one, weighed by how sure it is (equations 4 to 6), so the student has to
learn the context.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def patch_mask(images: Tensor, block: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Draw which patches of each image stay (equation 1): each with probability 1 − ratio, for itself.

    Args:
        images: (N, C, H, W); normalised, so that what is multiplied by 0 becomes ImageNet's mean colour.
        block: A patch's side in pixels; where sides are no multiples of it, patches are stretched a little.
        ratio: Probability to be masked.
        generator: Random numbers.

    Returns:
        float32 (N, 1, H, W) on the images' device: 1 where the image stays, 0 where it is masked.

    """
    number, _, height, width = images.shape
    patches = (number, 1, max(1, round(height / block)), max(1, round(width / block)))
    stays = (torch.rand(patches, generator=generator) > ratio).float()
    return F.interpolate(stays, (height, width), mode="nearest").to(images.device)
