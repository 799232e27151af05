"""Images and labels: what a site adapts on, and what a model is judged on.

Images are uint8 RGB everywhere until :func:`normalise` turns a batch into a network's input.
"""

from __future__ import annotations

from client.data.datasets import (
    LabelledImages,
    UnlabelledImages,
    scene_evaluation,
    scene_source,
    scene_target,
)
from client.data.images import normalise, unit
from client.data.labels import CLASSES, IGNORE, PALETTE, colour
from client.data.settings import SceneData

__all__ = [
    "CLASSES",
    "IGNORE",
    "PALETTE",
    "LabelledImages",
    "SceneData",
    "UnlabelledImages",
    "colour",
    "normalise",
    "scene_evaluation",
    "scene_source",
    "scene_target",
    "unit",
]
