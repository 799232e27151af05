"""Trains the base: plain supervised learning on labelled source images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from client.data.datasets import LabelledImages
from client.data.images import normalise, unit
from client.data.labels import IGNORE
from client.training.augment import blur, flip, jitter
from client.training.progress import Clock, Report
from client.training.settings import BaseSettings
from client.training.steps import require_finite, set_rate, step_generator


def train_base(model: nn.Module, data: LabelledImages, settings: BaseSettings, report: Report) -> None:
    """Train a model in place with cross-entropy on jittered, blurred and mirrored images.

    Args:
        model: Maps normalised images to logits (N, classes, H, W); left in evaluation mode.
        data: The labelled source images.
        settings: Everything else.
        report: Called after each step.

    Raises:
        AdaptationError: The loss became infinite or not a number.

    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    clock = Clock("base", 0, settings.steps)
    model.train()
    for step in range(settings.steps):
        dice = step_generator(settings.seed, step)
        chosen = torch.randint(len(data), (settings.batch,), generator=dice)
        images, labels = unit(data.images[chosen]), data.labels[chosen]
        if settings.flip:
            images, labels = flip(images, labels, dice)
        images = jitter(images, settings.jitter, settings.jitter_share, dice)
        images = blur(images, settings.blur_share, dice)

        set_rate(optimizer, settings.lr, step, settings.steps, settings.warmup)
        loss = F.cross_entropy(model(normalise(images)), labels.long(), ignore_index=IGNORE)
        value = require_finite(loss.detach(), step + 1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        report(clock.progress(step + 1, value))
    model.eval()
