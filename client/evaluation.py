"""Judges a model: confusion counts, and the mean intersection over union (mIoU) from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from client.data.datasets import LabelledImages
from client.data.images import normalise
from client.data.labels import IGNORE
from protos.errors import DataError


def predict(model: nn.Module, images: Tensor, batch: int = 16) -> Tensor:
    """Return the most likely class of each pixel.

    The model runs in evaluation mode; its mode is put back afterwards.

    Args:
        model: Maps normalised images to logits (N, classes, H, W).
        images: uint8 (N, 3, H, W), RGB.
        batch: Images for each forward pass.

    Returns:
        uint8 (N, H, W) on the CPU.

    """
    return _guess(model, images, batch)[0]


def confusion(model: nn.Module, data: LabelledImages, batch: int = 16) -> Tensor:
    """Count how often each class is taken for each other; pixels labelled 255 don't count.

    Args:
        model: Maps normalised images to logits (N, classes, H, W).
        data: Images with their truth.
        batch: Images for each forward pass.

    Returns:
        int64 (classes, classes), as many as the model has: rows are the truth, columns the prediction.

    Raises:
        DataError: A label is neither a class nor 255.

    """
    guess, classes = _guess(model, data.images, batch)
    truth = data.labels.cpu().long()
    counted = truth != IGNORE
    if bool((truth[counted] >= classes).any()):
        worst = int(truth[counted].max())
        raise DataError(f"Label {worst} is outside the {classes} classes.", "Map the labels to train ids first.")
    pairs = truth[counted] * classes + guess[counted].long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def miou(counts: Tensor) -> tuple[float, list[float | None]]:
    """Return the mean IoU and each class's own, IoU = TP / (TP + FP + FN).

    A class that is absent from the truth has no IoU (None) and is left out of the mean.

    Args:
        counts: int64 (classes, classes) from :func:`confusion`; sums of several are fine.

    Raises:
        DataError: No pixel was counted at all.

    """
    counts = counts.double()
    hit, truth, guess = counts.diagonal(), counts.sum(1), counts.sum(0)
    present = truth > 0
    if not bool(present.any()):
        raise DataError("No labelled pixel was counted.", "Evaluate on images whose labels aren't all 255.")
    each = [
        float(h / (t + g - h)) if t > 0 else None
        for h, t, g in zip(hit.tolist(), truth.tolist(), guess.tolist(), strict=True)
    ]
    known = [value for value in each if value is not None]
    return sum(known) / len(known), each


def _guess(model: nn.Module, images: Tensor, batch: int) -> tuple[Tensor, int]:
    """Return the most likely classes, uint8 (N, H, W), and how many classes the model has."""
    parts, classes = [], 0
    with _judging(model), torch.inference_mode():
        for first in range(0, len(images), batch):
            logits: Tensor = model(normalise(images[first : first + batch]))
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
