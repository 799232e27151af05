"""Judges a model: confusion counts, and the mean intersection over union (mIoU) from them.

Counts come from ``bincount``. torchmetrics' confusion matrix gives the same integers (a test compares them), but
importing it takes longer than judging the demo's images does, and each judging is a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

from client.data.datasets import LabelledImages
from client.data.images import normalise
from client.data.labels import IGNORE
from client.models.windows import slide
from protos.errors import ConfigurationError, DataError

_ALL = tuple(range(19))

CONVENTIONS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "cityscapes-19": _ALL,
        "synthia-16": tuple(c for c in _ALL if c not in (9, 14, 16)),
        "idd-18": tuple(c for c in _ALL if c != 16),
    }
)
"""Over which train ids papers average: all 19; the 16 that SYNTHIA labels (no terrain, truck, train); the 18 that
IDD has (no train). Tables with 19 classes on IDD count the IoU of its missing one as 0: "cityscapes-19" with
``missing=0.0``."""


@dataclass(frozen=True)
class Windows:
    """Look at large images through windows whose logits are averaged. HRDA does so by itself.

    Attributes:
        size: A window's side in pixels.
        stride: Pixels from one window to the next.

    Raises:
        ConfigurationError: They would leave gaps.

    """

    size: int
    stride: int

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.size:
            raise ConfigurationError(
                f"Windows of {self.size} pixels every {self.stride} leave gaps.", "Choose a smaller stride."
            )


def predict(model: nn.Module, images: Tensor, batch: int = 16, windows: Windows | None = None) -> Tensor:
    """Return the most likely class of each pixel.

    The model runs in evaluation mode; its mode is put back afterwards.

    Args:
        model: Maps normalised images to logits (N, classes, H, W).
        images: uint8 (N, 3, H, W), RGB.
        batch: Images for each forward pass.
        windows: How to look at them; by default whole.

    Returns:
        uint8 (N, H, W) on the CPU.

    """
    return _guess(model, images, batch, windows)[0]


def confusion(model: nn.Module, data: LabelledImages, batch: int = 16, windows: Windows | None = None) -> Tensor:
    """Count how often each class is taken for each other; pixels labelled 255 don't count.

    Args:
        model: Maps normalised images to logits (N, classes, H, W).
        data: Images with their truth.
        batch: Images for each forward pass.
        windows: How to look at them; by default whole.

    Returns:
        int64 (classes, classes), as many as the model has: rows are the truth, columns the prediction.

    Raises:
        DataError: A label is neither a class nor 255.

    """
    guess, classes = _guess(model, data.images, batch, windows)
    truth = data.labels.cpu().long()
    counted = truth != IGNORE
    if bool((truth[counted] >= classes).any()):
        worst = int(truth[counted].max())
        raise DataError(f"Label {worst} is outside the {classes} classes.", "Map the labels to train ids first.")
    pairs = truth[counted] * classes + guess[counted].long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def miou(
    counts: Tensor, convention: str | None = None, *, missing: float | None = None
) -> tuple[float, list[float | None]]:
    """Return the mean IoU and each class's own, IoU = TP / (TP + FP + FN).

    A class that is absent from the truth has no IoU (None) and is left out of the mean, unless ``missing`` says
    what it counts as.

    Args:
        counts: int64 (classes, classes) from :func:`confusion`; sums of several are fine.
        convention: Over which classes to average, a key of ``CONVENTIONS``; by default all that the model has.
        missing: What an absent class counts as in the mean, e.g. 0.0.

    Returns:
        The mean, 0…1, and the IoU of every class of the model, those outside of the convention too.

    Raises:
        DataError: No pixel of these classes was counted at all.
        ConfigurationError: There is no such convention, or the model has fewer classes.

    """
    counts = counts.double()
    averaged = _averaged(convention, len(counts))
    hit, truth, guess = counts.diagonal(), counts.sum(1), counts.sum(0)
    each = [
        float(h / (t + g - h)) if t > 0 else None
        for h, t, g in zip(hit.tolist(), truth.tolist(), guess.tolist(), strict=True)
    ]
    if all(each[number] is None for number in averaged):
        raise DataError("No labelled pixel was counted.", "Evaluate on images whose labels aren't all 255.")
    found = [missing if each[number] is None else each[number] for number in averaged]
    known = [value for value in found if value is not None]
    return sum(known) / len(known), each


def _averaged(convention: str | None, classes: int) -> tuple[int, ...]:
    if convention is None:
        return tuple(range(classes))
    if convention not in CONVENTIONS:
        raise ConfigurationError(
            f"There is no convention {convention!r} for the mean.", f"Known: {', '.join(CONVENTIONS)}."
        )
    if classes != len(_ALL):
        raise ConfigurationError(
            f"{convention} averages over Cityscapes' {len(_ALL)} train ids; the model has {classes} classes.",
            "Leave the convention out.",
        )
    return CONVENTIONS[convention]


def _guess(model: nn.Module, images: Tensor, batch: int, windows: Windows | None) -> tuple[Tensor, int]:
    """Return the most likely classes, uint8 (N, H, W), and how many classes the model has."""
    parts, classes = [], 0
    with _judging(model), torch.inference_mode():
        for first in range(0, len(images), batch):
            pixels = normalise(images[first : first + batch])
            logits: Tensor
            if windows is None:
                logits = model(pixels)
            else:
                logits = slide(model, pixels, windows.size, windows.stride, together=False)
            classes = logits.shape[1]
            parts.append(logits.argmax(1).to(torch.uint8).cpu())
    return torch.cat(parts), classes


@contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
