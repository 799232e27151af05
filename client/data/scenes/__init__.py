"""Procedural driving scenes: five domains, 19 classes, no download.

They stand in for real footage wherever that can't be: the demo, the tests, a first look. Every pixel is a
function of (domain, seed, index, size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from client.data.scenes.dice import Dice
from client.data.scenes.domains import DOMAINS, TARGETS, find
from client.data.scenes.look import Domain
from client.data.scenes.street import street
from client.data.scenes.weather import photograph
from protos.errors import ConfigurationError

__all__ = ["DOMAINS", "TARGETS", "Domain", "Scene", "render"]


@dataclass(frozen=True)
class Scene:
    """One picture with its truth.

    Attributes:
        image: uint8 (height, width, 3), RGB.
        labels: uint8 (height, width), Cityscapes train ids.

    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def render(domain: str, seed: int, index: int, size: tuple[int, int] = (64, 128)) -> Scene:
    """Render one scene; the same arguments give the same bytes in every process and thread.

    The street is laid out from (domain, seed, index) alone, so another size shows the same street.

    Args:
        domain: One of ``DOMAINS``.
        seed: Which world, ≥ 0.
        index: Which scene of that world, ≥ 0.
        size: (height, width) in pixels, each ≥ 16.

    Raises:
        ConfigurationError: Unknown domain, negative seed or index, or a size below 16.

    """
    number, look = find(domain)
    if seed < 0 or index < 0:
        raise ConfigurationError(f"Scene seed {seed} and index {index} must not be negative.", "Use 0 or more.")
    if min(size) < 16:
        raise ConfigurationError(f"A scene of {size[0]} × {size[1]} pixels is too small.", "Use at least 16 × 16.")
    dice = Dice(number, seed, index)
    image, labels = photograph(street(dice, look, size), dice)
    return Scene(image, labels)
