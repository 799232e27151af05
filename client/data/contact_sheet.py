"""A picture of a dozen images with their labels laid over them: what a table of numbers can't show at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.data.cutting import fitted, resized, resized_labels
from client.data.findings import Part, Sample
from client.data.labels import CLASSES, PALETTE
from client.data.overlay import overlaid
from protos import files
from protos.errors import ConfigurationError, DataError

_PICTURES = 12
_COLUMNS = 4
_BOX = (640, 480)
"""Pixels that a picture has at most, width and height."""
_INCHES = 3.6
"""Width of a picture on the sheet."""


def write(parts: Sequence[Part], path: Path) -> None:
    """Draw some images of each part, evenly picked, with a legend of the classes.

    Args:
        parts: What a check found. Of one part a dozen images are drawn, of several fewer each.
        path: A file whose suffix says the format: ``.png``, ``.jpg``, ``.pdf``, ``.svg``.

    Raises:
        ConfigurationError: There is no such format.
        DataError: No image can be drawn, or one has become unreadable.
        StorageError: The file can't be written.

    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    each = _PICTURES if len(parts) == 1 else max(_COLUMNS, _PICTURES // len(parts) // _COLUMNS * _COLUMNS)
    shown = [(part, samples) for part in parts if (samples := part.samples(each))]
    if not shown:
        raise DataError("there is no image to draw", "mend what the check found first")
    kind = path.suffix.removeprefix(".").lower()
    tiles = [[_overlaid(sample) for sample in samples] for _, samples in shown]
    # Every part has as many rows as it needs, as high as its highest picture; a heading stands above them.
    heights = [max(tile.shape[0] / tile.shape[1] for tile in row) * _INCHES + 0.32 for row in tiles]
    rows = [-(-len(row) // _COLUMNS) for row in tiles]
    legend = 0.95 if any(part.labelled for part, _ in shown) else 0.1
    height = sum(0.5 + count * high for count, high in zip(rows, heights, strict=True)) + legend
    figure = Figure(figsize=(_COLUMNS * (_INCHES + 0.12) + 0.2, height), facecolor="white")
    if kind not in figure.canvas.get_supported_filetypes():
        raise ConfigurationError(f"no picture can be written to {path.name}", "end its name in .png")
    width, top = figure.get_figwidth(), height
    for (part, samples), row, high in zip(shown, tiles, heights, strict=True):
        figure.text(0.16 / width, (top - 0.34) / height, _heading(part), fontsize=13, weight="bold")
        top -= 0.5
        for at, (sample, tile) in enumerate(zip(samples, row, strict=True)):
            column, line = at % _COLUMNS, at // _COLUMNS
            tall = tile.shape[0] / tile.shape[1] * _INCHES
            left, bottom = 0.16 + column * (_INCHES + 0.12), top - line * high - tall
            axes = figure.add_axes((left / width, bottom / height, _INCHES / width, tall / height))
            axes.imshow(tile, aspect="auto", interpolation="antialiased")
            axes.set_axis_off()
            title = sample.title if len(sample.title) <= 48 else f"…{sample.title[-47:]}"
            figure.text(left / width, (bottom - 0.16) / height, title, fontsize=8, color="#555555")
        top -= -(-len(row) // _COLUMNS) * high
    if legend > 0.5:
        patches = [
            Patch(color="#{:02x}{:02x}{:02x}".format(*rgb), label=name)
            for name, rgb in zip(CLASSES, PALETTE, strict=True)
        ]
        plain = Patch(facecolor="white", edgecolor="#999999", label="ignored: not painted")
        # The figure's own legend would be drawn over the pictures.
        figure.legend(
            handles=[*patches, plain],
            loc="lower center",
            ncols=10,
            frameon=False,
            fontsize=9,
            handlelength=1.2,
            bbox_to_anchor=(0.5, 0.05 / height),
        )
    with files.atomic(path, durable=False) as file:
        figure.savefig(file, format=kind, dpi=110)


def _heading(part: Part) -> str:
    split = f", {part.split}" if part.split else ""
    return f"{part.name}: {part.layout}{split}, {part.images:,} images" + (
        "" if part.labelled else ", no labels used"
    )


def _overlaid(sample: Sample) -> npt.NDArray[np.uint8]:
    """Return a small picture, uint8 (H, W, 3), tinted where it is labelled."""
    size = fitted(sample.image.shape[:2], _BOX)
    image = resized(sample.image, size)
    if sample.labels is None:
        return image
    return overlaid(image, resized_labels(sample.labels, size))
