"""Colours. The charts' are of the Okabe-Ito set, which colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .model import Kind

Rgb = tuple[int, int, int]

KIND_COLOURS: Mapping[Kind, str] = {
    "base": "#8a929c",
    "single": "#e69f00",
    "one-site-buffers": "#cc79a7",
    "averaged-buffers": "#56b4e9",
    "pooled-buffers": "#0072b2",
    "own-buffers": "#f0e442",
    "recalibrated-buffers": "#009e73",
    "pooled-recalibrated-buffers": "#d55e00",
    "routed-buffers": "#000000",
}

KIND_NAMES: Mapping[Kind, str] = {
    "base": "base",
    "single": "one site's own model",
    "one-site-buffers": "mid-point, one site's buffers",
    "averaged-buffers": "mid-point, averaged buffers",
    "pooled-buffers": "mid-point, pooled buffers",
    "own-buffers": "mid-point, each site's own buffers",
    "recalibrated-buffers": "mid-point, recalibrated at each site",
    "pooled-recalibrated-buffers": "mid-point, recalibrated and pooled",
    "routed-buffers": "mid-point, routed buffers",
}

BUFFERS: Mapping[Kind, str] = {
    "own-buffers": "Each site runs this model with the statistics of its own update; the file has pooled ones.",
    "recalibrated-buffers": "Each site runs this model with statistics that it measured for it on its own "
    "unlabelled images; the file has pooled ones.",
    "pooled-recalibrated-buffers": "What was pooled are statistics that each site measured for the merged "
    "parameters on its own unlabelled images.",
    "routed-buffers": "The file also has the statistics that each site measured for the merged parameters on its "
    "own unlabelled images. For each image, the model takes those that are nearest to it, or the pooled ones if "
    "none are.",
}
"""What has to be said of the merged model's statistics, besides how statistics are pooled."""

LINES: Sequence[str] = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")

CITYSCAPES: Mapping[str, Rgb] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
"""The usual colours of the Cityscapes classes."""


def legend(classes: Sequence[str], colours: Sequence[Rgb] | None = None) -> list[tuple[str, Rgb]]:
    """Return (class, colour) for the pictures' legend.

    Without ``colours``, classes with a Cityscapes name get its colour and the others are left out.
    """
    if colours is not None:
        return list(zip(classes, colours, strict=False))
    known = ((name, CITYSCAPES.get(name.lower().replace("_", " "))) for name in classes)
    return [(name, colour) for name, colour in known if colour is not None]
