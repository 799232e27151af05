"""What has to be known besides the weights to use a model: what it is fed, and what its answers mean."""

from __future__ import annotations

import json
from dataclasses import dataclass

from client.data.images import MEAN, STD
from client.data.labels import CLASSES, PALETTE
from protos.checkpoints import ModelFile

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Meaning:
    """What a network's channels mean.

    Attributes:
        classes: The classes' names, by channel; empty if nobody said them.
        palette: RGB, 0…255, by channel; empty likewise.

    """

    classes: tuple[str, ...] = ()
    palette: tuple[Colour, ...] = ()


def meaning(file: ModelFile, classes: int) -> Meaning:
    """Return the classes' names and colours: those that a checkpoint notes, or Cityscapes' for 19 classes.

    Args:
        file: The model's file.
        classes: How many classes the network tells apart.

    """
    names, palette = _names(file.meta.get("CLASSES"), classes), _palette(file.meta.get("PALETTE"), classes)
    if not names and classes == len(CLASSES):
        return Meaning(CLASSES, palette or PALETTE)
    return Meaning(names, palette)


def properties(found: Meaning) -> dict[str, str]:
    """Return what a network is fed and what it answers, as texts for a file's metadata.

    Pixels are RGB in 0…1 before they are normalised: ``(pixel / 255 − mean) / std``. ``classes`` and ``palette``
    are left out where they aren't known.
    """
    said: dict[str, object] = {
        "layout": "NCHW",
        "channel_order": "RGB",
        "scale": "1/255",
        "mean": list(MEAN),
        "std": list(STD),
        **({"classes": list(found.classes)} if found.classes else {}),
        **({"palette": [list(colour) for colour in found.palette]} if found.palette else {}),
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items()}


def _names(said: object, classes: int) -> tuple[str, ...]:
    """Return a checkpoint's note if it is one name for each class."""
    whole = isinstance(said, list | tuple) and len(said) == classes and all(isinstance(one, str) for one in said)
    return tuple(said) if whole else ()  # type: ignore[arg-type]


def _palette(said: object, classes: int) -> tuple[Colour, ...]:
    """Return a checkpoint's note if it is one colour for each class."""
    if not isinstance(said, list | tuple) or len(said) != classes:
        return ()
    colours = [tuple(one) if isinstance(one, list | tuple) else () for one in said]
    whole = all(len(one) == 3 and all(isinstance(v, int) and 0 <= v < 256 for v in one) for one in colours)
    return tuple(colours) if whole else ()
