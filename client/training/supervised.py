"""Trains the base: plain supervised learning on labelled source images."""

from __future__ import annotations

import torch
from torch import nn

from client.data.datasets import LabelledImages
from client.data.images import normalise, unit
from client.training.augment import blur, flip, jitter
from client.training.lessons import Learner, Task, fit_details
from client.training.optimizer import make_optimizer, set_rate
from client.training.progress import Clock, Report
from client.training.settings import BaseSettings
from client.training.steps import own_global_state, require_finite, seed_global_state, step_generator


def train_base(model: nn.Module, data: LabelledImages, settings: BaseSettings, report: Report) -> None:
    """Train a model in place with cross-entropy on jittered, blurred and mirrored images.

    Args:
        model: One of ``client.models``, on the CPU; left in evaluation mode.
        data: The labelled source images.
        settings: Everything else.
        report: Called after each step.

    Raises:
        AdaptationError: The loss became infinite or not a number.

    """
    learner = Learner(model).train()
    optimizer = make_optimizer(model, settings)
    clock = Clock("base", 0, settings.steps)
    cpu = torch.device("cpu")
    with own_global_state(cpu):
        for step in range(settings.steps):
            seed_global_state(cpu, settings.seed, step)
            dice = step_generator(settings.seed, step)
            chosen = torch.randint(len(data), (settings.batch,), generator=dice)
            images, labels = unit(data.images[chosen]), data.labels[chosen]
            if settings.flip:
                images, labels = flip(images, labels, dice)
            images = jitter(images, settings.jitter, settings.jitter_share, dice)
            images = blur(images, settings.blur_share, dice)

            fit_details(model, *images.shape[2:])
            set_rate(optimizer, settings.lr, step, settings.steps, settings.warmup)
            loss, _ = learner(Task(normalise(images), dice, labels))
            value = require_finite(loss.detach(), step + 1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            report(clock.progress(step + 1, value))
    model.eval()
