"""One step of DACS: Domain Adaptation via Cross-domain mixed Sampling (Tranheden et al., WACV 2021).

A teacher labels target images. Half of a source image's classes are pasted over each, truth over guess, and the
student learns from the source images and from the mixed ones. The teacher is the student's moving average.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from client.data.images import normalise, unit
from client.data.labels import IGNORE
from client.training.augment import blur, jitter
from client.training.mixing import mix, paste_mask
from client.training.settings import AdaptSettings


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
    """Let the teacher label target images.

    The teacher stays in training mode, as in the authors' code: it normalises by the batch's own statistics and
    tracks them.

    Args:
        teacher: The moving average.
        target: float32 (N, 3, H, W) in 0…1.
        threshold: Confidence from which a pixel counts as sure.

    Returns:
        uint8 labels (N, H, W), and the share of sure pixels in the batch as a scalar, which weighs these labels.

    """
    confidence, labels = torch.softmax(teacher(normalise(target)), 1).max(1)
    return labels.to(torch.uint8), (confidence >= threshold).float().mean()


def dacs_loss(
    student: nn.Module,
    teacher: nn.Module,
    source: Tensor,
    labels: Tensor,
    target: Tensor,
    settings: AdaptSettings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Compute DACS' loss of one step, running gradients back into the student.

    Args:
        student: The model that learns, in training mode.
        teacher: Its moving average, in training mode.
        source: uint8 (N, 3, H, W).
        labels: uint8 (N, H, W), the truth of ``source``.
        target: uint8 (N, 3, H, W), without labels.
        settings: Threshold, mixing and augmentation.
        generator: Random numbers of this step.

    Returns:
        The detached loss and the share of sure pixels, both scalars.

    """
    source, target = unit(source), unit(target)
    varied = jitter(source, settings.source_jitter, settings.jitter_share, generator)
    loss = F.cross_entropy(student(normalise(varied)), labels.long(), ignore_index=IGNORE)
    loss.backward()  # type: ignore[no-untyped-call]  # Two passes one after the other halve the memory of both at once.

    guess, sure = pseudo_labels(teacher, target, settings.threshold)
    mask = paste_mask(labels, settings.mix, generator).to(labels.device)
    images = mix(mask, source, target)
    images = jitter(images, settings.jitter, settings.jitter_share, generator)
    images = blur(images, settings.blur_share, generator)
    each = F.cross_entropy(
        student(normalise(images)), mix(mask, labels, guess).long(), ignore_index=IGNORE, reduction="none"
    )
    mixed = (each * torch.where(mask, torch.ones_like(sure), sure)).mean()
    mixed.backward()  # type: ignore[no-untyped-call]
    return (loss + mixed).detach(), sure
