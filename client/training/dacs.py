"""DACS: Domain Adaptation via Cross-domain mixed Sampling (W. Tranheden et al., WACV 2021).

A teacher labels target images. Half of a source image's classes are pasted over each, truth over guess, and the
student learns from the source images and from the mixed ones (its algorithm 1). The teacher is the student's
moving average (A. Tarvainen, H. Valpola, *Mean teachers*, NeurIPS 2017).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from client.data.images import normalise
from client.models.mit import DropPath
from client.training.mixing import mix


def make_teacher(model: nn.Module) -> nn.Module:
    """Prepare the copy that labels: it never learns by gradients, leaves nothing out, and its BatchNorm trains.

    BatchNorm stays in training mode, as in the authors' code: it normalises by the batch's own statistics and
    tracks them. So the teacher's statistics come from target images only, and belong to its parameters alone.
    """
    model.train().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, _DropoutNd | DropPath):
            module.eval()
    return model


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, step: int, ema: float) -> None:
    """Move the teacher's parameters: θ' ← α θ' + (1 − α) θ, with α = min(1 − 1/(step + 1), ema).

    At step 0 that copies the student. Buffers are left alone: the teacher gathers its own statistics, on target
    images only.
    """
    alpha = min(1 - 1 / (step + 1), ema)
    for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.lerp_(its, 1 - alpha)


@torch.no_grad()
def pseudo_labels(teacher: nn.Module, target: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Let the teacher label target images. HRDA's fuses the whole scene and all details, as in evaluation.

    Args:
        teacher: The moving average, from :func:`make_teacher`.
        target: float32 (N, 3, H, W) in 0…1.
        threshold: Confidence from which a pixel counts as sure.

    Returns:
        uint8 labels (N, H, W), and the share of sure pixels in the batch as a scalar, which weighs these labels.

    """
    confidence, labels = torch.softmax(teacher(normalise(target)), 1).max(1)
    return labels.to(torch.uint8), (confidence >= threshold).float().mean()


def mixed_pairs(
    mask: Tensor, source: Tensor, labels: Tensor, target: Tensor, guess: Tensor, sure: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Paste source over target: images with images, truth over guess, and weight 1 over how sure the guess is.

    Args:
        mask: bool (N, H, W) of :func:`client.training.mixing.paste_mask`.
        source: float32 (N, 3, H, W).
        labels: uint8 (N, H, W), the truth of ``source``.
        target: float32 (N, 3, H, W).
        guess: uint8 (N, H, W) of :func:`pseudo_labels`.
        sure: Scalar of the same.

    Returns:
        Images float32 (N, 3, H, W), labels uint8 (N, H, W), weights float32 (N, H, W).

    """
    weights = torch.where(mask, torch.ones_like(sure), sure)
    return mix(mask, source, target), mix(mask, labels, guess), weights
