"""Images in memory, with labels or without any way to them.

A target's labels are dropped at the very line that renders them: :class:`UnlabelledImages` has nowhere to put
them, so no later code can peek.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.data.scenes import render
from client.data.settings import SceneData
from protos.errors import DataError

_HELD_OUT = 1 << 32
"""Evaluation scenes are numbered from here, so that no scene is ever both adapted on and judged on."""


@dataclass(frozen=True, eq=False)
class UnlabelledImages:
    """Images and nothing else.

    Attributes:
        images: uint8 (N, 3, H, W), RGB.

    Raises:
        DataError: Wrong dtype or shape, or no image at all.

    """

    images: Tensor

    def __post_init__(self) -> None:
        _check_images(self.images)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with a label for each pixel.

    Attributes:
        images: uint8 (N, 3, H, W), RGB.
        labels: uint8 (N, H, W), train ids; 255 = ignore.

    Raises:
        DataError: Wrong dtype or shape, shapes that don't fit each other, or no image at all.

    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        _check_images(self.images)
        expected = (len(self.images), *self.images.shape[2:])
        if self.labels.dtype != torch.uint8 or tuple(self.labels.shape) != expected:
            raise DataError(
                f"Labels are {self.labels.dtype} of shape {tuple(self.labels.shape)}; "
                f"their images need torch.uint8 of shape {expected}.",
                "Give one train id (0…18, or 255 to ignore) for each pixel of each image.",
            )

    def __len__(self) -> int:
        return len(self.images)


def scene_source(settings: SceneData) -> LabelledImages:
    """Render labelled images of the source domain, which every site may have: they are synthetic.

    Raises:
        ConfigurationError: Impossible size or seed.
        DataError: No images are asked for.

    """
    return _labelled("source", settings, 0, settings.source_images)


def scene_target(settings: SceneData) -> UnlabelledImages:
    """Render the target domain's adaptation images; their labels are dropped as each one is rendered.

    Raises:
        ConfigurationError: Unknown domain, impossible size or seed.
        DataError: No images are asked for.

    """
    size = (settings.height, settings.width)
    images = [render(settings.domain, settings.seed, at, size).image for at in range(settings.target_images)]
    return UnlabelledImages(_stack(images))


def scene_evaluation(settings: SceneData) -> LabelledImages:
    """Render the target domain's held-out images with labels: for judging only, never for adaptation.

    Raises:
        ConfigurationError: Unknown domain, impossible size or seed.
        DataError: No images are asked for.

    """
    return _labelled(settings.domain, settings, _HELD_OUT, settings.evaluation_images)


def _labelled(domain: str, settings: SceneData, first: int, number: int) -> LabelledImages:
    size = (settings.height, settings.width)
    scenes = [render(domain, settings.seed, first + at, size) for at in range(number)]
    if not scenes:
        raise DataError("There are no images.", "Ask for at least one.")
    labels = torch.from_numpy(np.stack([scene.labels for scene in scenes]))
    return LabelledImages(_stack([scene.image for scene in scenes]), labels)


def _stack(images: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> Tensor:
    if not images:
        raise DataError("There are no images.", "Ask for at least one.")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise DataError(
            f"Images are {images.dtype} of shape {tuple(images.shape)}, not torch.uint8 of shape (N, 3, H, W).",
            "Give at least one RGB image with 8 bits for each channel.",
        )
