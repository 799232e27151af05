"""Boxes in images, and looking at an image through a window that slides over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Box: TypeAlias = tuple[int, int, int, int]
"""Top, bottom, left and right, in pixels; bottom and right are outside."""


def cut(images: Tensor, box: Box) -> Tensor:
    """Return a view of (…, H, W) inside a box."""
    top, bottom, left, right = box
    return images[..., top:bottom, left:right]


def windows(height: int, width: int, size: int, stride: int) -> list[Box]:
    """Return the boxes with which mmsegmentation covers an image: row by row, the last of each moved inside.

    Args:
        height: The image's height.
        width: Its width.
        size: A window's side; where an image is smaller, the window is as well.
        stride: Pixels from one window to the next, at most ``size``.

    """
    return [
        (top, min(top + size, height), left, min(left + size, width))
        for top in _starts(height, size, stride)
        for left in _starts(width, size, stride)
    ]


def slide(
    function: Callable[[Tensor], Tensor], images: Tensor, size: int, stride: int, scale: int = 1, *, together: bool
) -> Tensor:
    """Apply a function to overlapping windows and average what it says about each pixel.

    Args:
        function: (N, C, h, w) → (N, D, h / scale, w / scale).
        images: (N, C, H, W); with a scale, all sides and the stride are multiples of it.
        size: A window's side.
        stride: Pixels from one window to the next.
        scale: How much smaller the result is.
        together: Pass all windows at once, which matters where BatchNorm looks at the batch; else one at a time,
            which takes less memory.

    Returns:
        (N, D, H / scale, W / scale).

    """
    height, width = images.shape[2:]
    boxes = windows(height, width, size, stride)
    if len(boxes) == 1:
        return function(images)
    if together:
        shown = function(torch.cat([cut(images, box) for box in boxes]))
        # Split by the number of windows, not of images: an exported network takes any number of those.
        parts = iter(shown.reshape(len(boxes), -1, *shown.shape[1:]).unbind())
    else:
        parts = (function(cut(images, box)) for box in boxes)
    seen = torch.zeros(height // scale, width // scale, device=images.device)
    first = next(parts)
    total = first.new_zeros(*first.shape[:2], *seen.shape)
    for number, (top, bottom, left, right) in enumerate(boxes):
        box = top // scale, bottom // scale, left // scale, right // scale
        cut(total, box).add_(next(parts) if number else first)
        cut(seen, box).add_(1)
    return total / seen.to(total.dtype)


def _starts(extent: int, size: int, stride: int) -> list[int]:
    last = max(extent - size, 0)
    return [min(start, last) for start in range(0, last + stride, stride)]
