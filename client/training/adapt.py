"""A site's adaptation: days of it, perhaps, so it can be stopped at any step and continued bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from client.data.datasets import LabelledImages, UnlabelledImages
from client.models import build
from client.training import checkpoint as checkpoints
from client.training.dacs import dacs_loss, follow
from client.training.progress import Clock, Report
from client.training.settings import AdaptSettings
from client.training.steps import require_finite, set_rate, step_generator
from protos.errors import AdaptationError


@dataclass(frozen=True, eq=False)
class Adapted:
    """What adaptation leaves: two copies of the model. Send one, whole: parameters and buffers of the same copy.

    Attributes:
        student: State dict of the model that learned. Its BatchNorm statistics come from source and mixed images.
        teacher: State dict of its moving average. Its statistics come from target images only.

    """

    student: dict[str, Tensor]
    teacher: dict[str, Tensor]


def adapt(
    base_state: Mapping[str, Tensor],
    model_name: str,
    classes: int,
    source: LabelledImages,
    target: UnlabelledImages,
    settings: AdaptSettings,
    report: Report,
    checkpoint: Path | None = None,
) -> Adapted:
    """Adapt the base to unlabelled target images.

    Every random number is a function of (settings.seed, step), so a run that continues from its checkpoint ends
    with the same bits as one that was never interrupted (on the same machine, with the same number of threads).

    Args:
        base_state: State dict of the base; not changed.
        model_name: One of ``client.models.MODELS``.
        classes: Number of classes.
        source: Labelled source images.
        target: The site's own images.
        settings: Everything else.
        report: Called after each step; an exception from it ends the run, to be continued later.
        checkpoint: Where to keep a checkpoint. If the file exists, the run continues from it.

    Returns:
        Student and teacher, on the CPU.

    Raises:
        AdaptationError: The base doesn't fit the model, the checkpoint is damaged or of another run, or the loss
            is not finite; the step is named.
        ConfigurationError: There is no such model.

    """
    student, teacher = build(model_name, classes), build(model_name, classes)
    for model in (student, teacher):
        _load(model, base_state, model_name)
        model.train()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)

    first = 0
    run: dict[str, Any] = {}
    if checkpoint is not None:
        run = _run(base_state, model_name, classes, source, target, settings)
        found = checkpoints.load(checkpoint, run)
        if found is not None:
            student.load_state_dict(found["student"])
            teacher.load_state_dict(found["teacher"])
            optimizer.load_state_dict(found["optimizer"])
            first = int(found["step"])

    clock = Clock("adapt", first, settings.steps)
    for step in range(first, settings.steps):
        dice = step_generator(settings.seed, step)
        ours = torch.randint(len(source), (settings.batch,), generator=dice)
        theirs = torch.randint(len(target), (settings.batch,), generator=dice)
        set_rate(optimizer, settings.lr, step, settings.steps, settings.warmup)
        follow(teacher, student, step, settings.ema)
        optimizer.zero_grad(set_to_none=True)
        loss, sure = dacs_loss(
            student, teacher, source.images[ours], source.labels[ours], target.images[theirs], settings, dice
        )
        value = require_finite(loss, step + 1)
        optimizer.step()
        done = step + 1
        if checkpoint is not None and (done % settings.checkpoint_every == 0 or done == settings.steps):
            content = {"run": run, "step": done, "student": student.state_dict(), "teacher": teacher.state_dict()}
            checkpoints.save(checkpoint, {**content, "optimizer": optimizer.state_dict()})
        report(clock.progress(done, value, f"{float(sure):.0%} of target pixels are sure"))
    return Adapted(_copy(student), _copy(teacher))


def _load(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    try:
        model.load_state_dict(dict(state))
    except RuntimeError as error:
        raise AdaptationError(
            f"The base does not fit the model {name!r}: {error}",
            "Name the model and classes that the base was trained with.",
        ) from error


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def _run(
    base_state: Mapping[str, Tensor],
    model_name: str,
    classes: int,
    source: LabelledImages,
    target: UnlabelledImages,
    settings: AdaptSettings,
) -> dict[str, Any]:
    """Return everything that the result depends on, small enough to keep in each checkpoint."""
    return {
        "model": model_name,
        "classes": classes,
        **asdict(settings),
        "base": _digest(*(base_state[key] for key in sorted(base_state))),
        "source": _digest(source.images, source.labels),
        "target": _digest(target.images),
    }


def _digest(*tensors: Tensor) -> str:
    """Return a fingerprint of tensors' bytes, to notice changed data; short, for it is no signature."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]
