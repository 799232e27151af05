"""Entropy minimisation, the direct form of ADVENT ("MinEnt"): be sure of what you say about target images.

T.-H. Vu et al., *ADVENT*, CVPR 2019. Its adversarial form, with a discriminator, is not here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of predictions as a share of the largest possible, 0…1 (equations 2 and 3).

    E = −1 / log C · Σ_c P_c log P_c for each pixel, averaged over pixels.

    Args:
        logits: float (N, C, H, W).

    """
    # From log P, so that a class that is all but impossible gives 0 and no NaN.
    log = torch.log_softmax(logits, 1)
    return -(log.exp() * log).sum(1).mean() / math.log(logits.shape[1])
