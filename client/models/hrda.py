"""HRDA: the whole scene at half the resolution, and details at the full one, weighed by a learnt scale attention.

L. Hoyer, D. Dai, L. Van Gool, *HRDA*, ECCV 2022, with DAFormer's head at both scales. Keys are those of the
authors' ``HRDAHead``: ``decode_head.head.conv_seg.weight``, ``decode_head.scale_attention.conv_seg.weight``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from client.models.daformer import DAFormerHead
from client.models.layers import full_precision, resize
from client.models.network import EncoderDecoder, Lesson, View
from client.models.windows import Box, cut, slide
from protos.errors import ConfigurationError

DETAIL_WEIGHT: Final = 0.1
"""Share of the loss on the detail's own logits (the paper's λ_d)."""

STRIDE: Final = 4
"""Pixels for each logit, both of the half-sized images and of details."""

ALIGNED: Final = 2 * STRIDE
"""What boxes are multiples of, so that their logits lie on both scales' grids."""


@dataclass(frozen=True)
class Sizes:
    """Sides in pixels of the full resolution. The paper's are for training on crops of 1024 × 1024.

    Attributes:
        detail: Side of the detail in training, and of the windows that cover all details otherwise (they overlap
            by half). A multiple of 8; half the side of the training crops.
        window: Larger images are looked at through windows of this side.
        stride: From one window to the next.

    """

    detail: int = 512
    window: int = 1024
    stride: int = 512

    def __post_init__(self) -> None:
        if self.detail < ALIGNED or self.detail % ALIGNED:
            raise ConfigurationError(
                f"HRDA's detail can't be {self.detail} pixels.", f"Multiples of {ALIGNED} can."
            )
        if not 0 < self.stride <= self.window:
            raise ConfigurationError(
                f"Windows of {self.window} pixels every {self.stride} leave gaps.", "Choose a smaller stride."
            )


def detail_box(height: int, width: int, side: int, generator: torch.Generator | None = None) -> Box:
    """Choose where the detail of a training step is; every place on the grid of 8 pixels is as likely.

    Args:
        height: The images' height, a multiple of 8.
        width: Their width, likewise.
        side: The detail's, likewise; where images are smaller, so is the detail.
        generator: Random numbers.

    """
    tall, wide = min(side, height), min(side, width)
    device = "cpu" if generator is None else generator.device
    top, left = (
        int(torch.randint(0, room // ALIGNED + 1, (), generator=generator, device=device)) * ALIGNED
        for room in (height - tall, width - wide)
    )
    return top, top + tall, left, left + wide


def fuse(coarse: Tensor, fine: Tensor, attention: Tensor, box: Box | None = None) -> Tensor:
    """Weigh two scales: ζ((1 − a) · coarse) + ζ(a) · fine, where ζ enlarges twofold (the paper's equation 7).

    Args:
        coarse: Logits of the half-sized images, (N, classes, h, w).
        fine: Logits of the details, (N, classes, 2h, 2w), or a part of that.
        attention: a in 0…1 for each pixel and class, (N, classes, h, w).
        box: Which part of the full-sized images the details show, if not all; outside, coarse counts alone.

    Returns:
        (N, classes, 2h, 2w).

    """
    height, width = coarse.shape[2:]
    if box is not None:
        inside = _divided(box, ALIGNED)
        attention = _framed(cut(attention, inside), inside, height, width)
        fine = _framed(fine, _divided(box, STRIDE), 2 * height, 2 * width)
    faint = resize((1 - attention) * coarse, 2 * height, 2 * width)
    return resize(attention, 2 * height, 2 * width) * fine + faint


class HRDAHead(nn.Module):
    """One head for both scales, and one that tells for each pixel and class how far to trust details.

    Args:
        widths: Channels of each of the encoder's features.
        classes: Number of classes.

    """

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.head = DAFormerHead(widths, classes)
        self.scale_attention = DAFormerHead(widths, classes, context=False)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the half-sized images' logits and their scale attention, float32 (N, classes, h, w) both."""
        logits = full_precision(self.head(features))
        return logits, torch.sigmoid(full_precision(self.scale_attention(features)))

    def detail(self, features: Sequence[Tensor]) -> Tensor:
        """Return a detail's logits, float32 (N, classes, h, w)."""
        return full_precision(self.head(features))


class HRDA(EncoderDecoder):
    """The network. ``network(images)`` covers all details with windows; training looks at one, chosen at random.

    A call in training mode is how the teacher labels images: all windows pass at once, as BatchNorm looks at the
    batch. In evaluation mode windows of large images pass one after the other. Sides should be multiples of 8;
    others are filled up with their last pixels. With a MiT encoder they start at 64 pixels.

    Attributes:
        sizes: Of details and windows; may be replaced at any time, no weight depends on it.
        together: Whether windows of large images pass at once in evaluation mode as well. It takes more memory,
            and an exported graph has each layer twice then, instead of twice for each window.

    """

    decode_head: HRDAHead

    def __init__(self, backbone: nn.Module, decode_head: HRDAHead, sizes: Sizes | None = None) -> None:
        super().__init__(backbone, decode_head)
        self.sizes = sizes or Sizes()
        self.together = False

    def forward(self, images: Tensor) -> Tensor:
        """Return logits at the input's resolution; float32 under autocast, too."""
        return slide(
            self._window, images, self.sizes.window, self.sizes.stride, together=self.training or self.together
        )

    def features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's features of the half-sized images, as HRDA's feature distance takes them."""
        height, width = images.shape[2:]
        return super().features(resize(images, height // 2, width // 2))

    def forward_train(self, images: Tensor, generator: torch.Generator | None = None) -> Lesson:
        """Return the fused logits of whole images, the logits of one detail, and the half-sized images' features.

        Args:
            images: Normalised float32 (N, 3, H, W), twice as large each way as the detail.
            generator: Random numbers that choose where the detail is, one place for all images.

        Raises:
            ConfigurationError: A side is no multiple of 8.

        """
        height, width = images.shape[2:]
        if height % ALIGNED or width % ALIGNED:
            raise ConfigurationError(
                f"HRDA can't train on crops of {height} × {width} pixels.",
                f"Choose sides that are multiples of {ALIGNED}.",
            )
        box = detail_box(height, width, self.sizes.detail, generator)
        features = self.features(images)
        coarse, attention = self.decode_head(features)
        detail = cut(images, box)
        fine = self._detail(detail)
        whole = resize(fuse(coarse, fine, attention, box), height, width)
        views = (
            View(whole, (0, height, 0, width), 1 - DETAIL_WEIGHT),
            View(resize(fine, *detail.shape[2:]), box, DETAIL_WEIGHT),
        )
        return Lesson(views, features)

    def _window(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        lacking = (0, -width % ALIGNED, 0, -height % ALIGNED)
        filled = F.pad(images, lacking, mode="replicate") if any(lacking) else images
        coarse, attention = self.decode_head(self.features(filled))
        side = self.sizes.detail
        fine = slide(self._detail, filled, side, side // 2, STRIDE, together=True)
        logits = resize(fuse(coarse, fine, attention), *filled.shape[2:])
        return logits[:, :, :height, :width]

    def _detail(self, images: Tensor) -> Tensor:
        """Return logits of details, (N, classes, H / 4, W / 4)."""
        return self.decode_head.detail(self.backbone(images))


def _divided(box: Box, by: int) -> Box:
    top, bottom, left, right = box
    return top // by, bottom // by, left // by, right // by


def _framed(part: Tensor, box: Box, height: int, width: int) -> Tensor:
    """Put a part into zeros of (N, C, height, width)."""
    top, bottom, left, right = box
    return F.pad(part, (left, width - right, top, height - bottom))
