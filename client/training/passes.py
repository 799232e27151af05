"""One batch of adaptation: the passes that the settings ask for, each followed at once by its gradients.

Passes one after the other need the memory of the largest, not of all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from client.data.feed import Batch
from client.data.images import normalise, unit
from client.training.augment import blur, jitter
from client.training.dacs import mixed_pairs, pseudo_labels
from client.training.daformer import FrozenEncoder, feature_distance, thing_mask
from client.training.lessons import Task, fit_details
from client.training.mic import patch_mask
from client.training.mixing import paste_mask
from client.training.settings import AdaptSettings

Learn = Callable[[Task], tuple[Tensor, tuple[Tensor, ...]]]
"""A :class:`client.training.lessons.Learner`, or what wraps one."""


class Engine(Protocol):
    """What passes need of ``client.training.engine``."""

    @property
    def device(self) -> torch.device:
        """Where to compute."""

    def autocast(self) -> AbstractContextManager[object]:
        """Compute in the settings' precision inside."""

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to the parameters'."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a batch came to.

    Attributes:
        loss: The detached sum of all losses, a scalar.
        coverage: Share of target pixels whose pseudo-label is sure, a scalar.
        guess: The pseudo-labels, uint8 (N, H, W), of as many images as the target's.

    """

    loss: Tensor
    coverage: Tensor
    guess: Tensor


class Passes:
    """The methods, put together.

    Args:
        student: The network that learns, in training mode.
        learn: The student as the engine wrapped it.
        teacher: Its moving average, from :func:`client.training.dacs.make_teacher`.
        frozen: The encoder that features are compared with, if they are.
        settings: Which passes, and their weights.
        engine: Device and precision.

    """

    def __init__(
        self,
        student: nn.Module,
        learn: Learn,
        teacher: nn.Module,
        frozen: FrozenEncoder | None,
        settings: AdaptSettings,
        engine: Engine,
    ) -> None:
        self._student, self._learn, self._teacher, self._frozen = student, learn, teacher, frozen
        self._settings, self._engine = settings, engine

    def run(self, batch: Batch, dice: torch.Generator) -> Outcome:
        """Run all passes of one batch, adding their gradients to the student's.

        Args:
            batch: On the CPU.
            dice: Random numbers of this batch.

        """
        settings, engine = self._settings, self._engine
        source, target = (unit(images.to(engine.device)) for images in (batch.source, batch.target))
        labels = batch.labels.to(engine.device)
        for network in (self._student, self._teacher):
            fit_details(network, *batch.target.shape[2:])
        losses = [self._source_pass(source, labels, dice)]
        if not len(target):
            return Outcome(losses[0], torch.zeros_like(losses[0]), labels[:0])
        # The teacher also labels where nobody learns from it, as its statistics should be of target images.
        with engine.autocast():
            guess, sure = pseudo_labels(self._teacher, target, settings.threshold)
        if settings.mixed:
            mask = paste_mask(batch.labels, settings.mix, dice).to(engine.device)
            images, truth, weights = mixed_pairs(mask, source, labels, target, guess, sure)
            losses.append(
                self._back(settings.mixed, Task(normalise(self._varied(images, dice)), dice, truth, weights))
            )
        if settings.masked:
            images = normalise(self._varied(target, dice))
            images = images * patch_mask(images, settings.mask_block, settings.mask_ratio, dice)
            losses.append(self._back(settings.masked, Task(images, dice, guess, sure.expand(guess.shape))))
        if settings.entropy:
            losses.append(self._back(settings.entropy, Task(normalise(target), dice)))
        return Outcome(torch.stack(losses).sum(), sure, guess)

    def _source_pass(self, source: Tensor, labels: Tensor, dice: torch.Generator) -> Tensor:
        settings = self._settings
        images = normalise(jitter(source, settings.source_jitter, settings.jitter_share, dice))
        loss, features = self._learn(Task(images, dice, labels))
        if self._frozen is not None:
            with self._engine.autocast():
                reference = self._frozen(images)
            mask = thing_mask(labels, settings.feature_classes, settings.feature_ratio, *reference.shape[2:])
            loss = loss + settings.feature_distance * feature_distance(features[-1], reference, mask)
        self._engine.backward(loss / settings.accumulate)
        return loss.detach()

    def _back(self, weight: float, task: Task) -> Tensor:
        """Learn a task, and return its weighted loss."""
        loss = weight * self._learn(task)[0]
        self._engine.backward(loss / self._settings.accumulate)
        return loss.detach()

    def _varied(self, images: Tensor, dice: torch.Generator) -> Tensor:
        settings = self._settings
        return blur(jitter(images, settings.jitter, settings.jitter_share, dice), settings.blur_share, dice)
